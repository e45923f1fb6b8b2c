"""Disputes: a customer says that a charge is wrong, the ledger is replayed at once, and the seller decides.

Each step is an entry of the org's ledger (`ledger.dispute_operations`). What an upheld dispute gives back is written in
the same transaction as its decision: killed at any moment, both are there or neither. Only the evidence comes after the
opening, in an entry of its own; where that could not be made at once, the job `disputes` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from tallystick.app.dispute_evidence import attach_evidence, is_small
from tallystick.app.dispute_requests import find_requests, weigh
from tallystick.app.dispute_scope import Scope, scope_of_invoice, scope_of_requests
from tallystick.app.disputes_shown import ShownDispute, dispute_account, show_dispute
from tallystick.app.entries import entries_at
from tallystick.app.invoice_life import stored_line_cents
from tallystick.app.invoices import find_invoice, unknown_invoice
from tallystick.app.issue_invoices import contract_of
from tallystick.app.left_entries import submit_and_wait
from tallystick.app.operate import existing_org, new_salt
from tallystick.app.runtime import Runtime
from tallystick.billing.numbers import number_prefix
from tallystick.contract.charging import credits_text
from tallystick.core.errors import Conflict, NotFound, TallyError, Unavailable
from tallystick.dispute.checks import AskedDecision, AskedDispute, asked_decision, asked_dispute, asked_review
from tallystick.dispute.model import DisputeAccount
from tallystick.journal.disputes import dispute_by_request
from tallystick.journal.invoices import StoredInvoice
from tallystick.ledger.dispute_operations import DISPUTE, Award, DisputedCharge, DisputeStep, StepDispute
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operation_ids import operation_id, parse_operation_id
from tallystick.ledger.operations import Operation, Recorded, Settled


@dataclass(frozen=True, slots=True)
class DoneDispute:
    """What was done about a dispute, and how it stands.

    Attributes:
        is_new: whether it was done now; False where it was before.
        evidence_pending: why no evidence is attached yet; None where it is.
    """

    shown: ShownDispute
    is_new: bool
    evidence_pending: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        return {"is_new": self.is_new, **self.shown.as_dict(), "evidence_pending": self.evidence_pending}


def open_dispute(runtime: Runtime, raw: object, *, org_id: str | None = None) -> DoneDispute:
    """Dispute an invoice, a line of it, or requests, and replay the ledger at once.

    The same request id again is the same dispute.

    Args:
        raw: the decoded JSON value, with the members `dispute.checks.OPEN_MEMBERS`.
        org_id: whose it must be; None for any. What is another org's is answered as what is not there.

    Raises:
        BadInput, Problems: what is wrong with the request; `requests_of_several_invoices`, `unknown_line`.
        NotFound: `unknown_org`, `unknown_invoice`, `invoice_not_issued`, `unknown_request`.
        Conflict: `dispute_window_over`, `already_disputed`, `dispute_exceeds_amount`, `nothing_to_dispute`,
            `invoice_void`, `request_id_conflict`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; sending it again is safe.
    """
    if org_id is not None and isinstance(raw, dict) and raw.get("org_id") is None:
        raw = {**raw, "org_id": org_id}
    asked = asked_dispute(raw)
    if org_id is not None and asked.org_id != org_id:
        raise unknown_invoice(asked.invoice) if asked.invoice is not None else _unknown_requests(asked)
    stored = None if asked.invoice is None else _invoice(runtime, asked.invoice, asked.org_id)
    owner = stored.row.org_id if stored is not None else existing_org(runtime, asked.org_id or "").org_id
    entries = () if stored is not None else tuple(find_requests(runtime, owner, asked.request_ids))
    known = _known(runtime, owner, asked, stored, tuple(one.seq for one in entries))
    if known is None:
        weighed = None if stored is not None else weigh(runtime, owner, entries)
        scope = scope_of_invoice(runtime, stored, asked.line) if stored is not None else None
        scope = scope_of_requests(runtime, weighed) if weighed is not None else scope
        if scope is None:
            raise ValueError("nothing is disputed")
        try:
            recorded = _opened(runtime, owner, asked, scope)
            known = recorded.seq, recorded.is_new
        except Conflict as error:
            if error.code != "request_id_conflict":
                raise
            again = _known(runtime, owner, asked, stored, tuple(one.seq for one in entries))
            if again is None:
                raise
            known = again
    seq, is_new = known
    pending = _attach(runtime, owner, seq)
    return DoneDispute(_shown(runtime, owner, seq), is_new, pending)


def begin_review(runtime: Runtime, dispute_id: str, raw: object, *, org_id: str) -> DoneDispute:
    """Somebody looks at a dispute from now on.

    Args:
        dispute_id: such as `q17`.
        raw: the decoded JSON value, with the members `dispute.checks.REVIEW_MEMBERS`.
        org_id: whose it is.

    Raises:
        BadInput, Problems: what is wrong with the request; `invalid_id`.
        NotFound: `unknown_dispute`.
        Conflict: `dispute_decided`.
        Unavailable: as `open_dispute`.
    """
    account = _account(runtime, org_id, dispute_id)
    return _step(runtime, org_id, account, "review_begun", asked_review(raw))


def uphold_dispute(runtime: Runtime, dispute_id: str, raw: object, *, org_id: str) -> DoneDispute:
    """The customer is right, wholly or in part: something is given back, in the same transaction.

    Without an amount, that is what the evidence proposes; where it proposes nothing, all that is disputed and left.

    Args:
        raw: the decoded JSON value, with the members `dispute.checks.UPHOLD_MEMBERS`.

    Raises:
        BadInput, Problems: as `begin_review`; `invalid_amount`.
        NotFound: `unknown_dispute`, `settlement_unknown`.
        Conflict: `dispute_decided`, `award_exceeds_dispute`; `credit_exceeds_invoice`, `credit_exceeds_line`,
            `invoice_void`, `refund_exceeds_charge`: less than that is left by now. Nothing is moved then.
        Unavailable: as `open_dispute`.
    """
    account = _account(runtime, org_id, dispute_id)
    asked = asked_decision(raw, "a decision", with_award=True)
    return _step(runtime, org_id, account, "upheld", asked)


def reject_dispute(runtime: Runtime, dispute_id: str, raw: object, *, org_id: str) -> DoneDispute:
    """What was charged stands; the reason explains why.

    Raises:
        BadInput, NotFound, Conflict, Unavailable: as `begin_review`.
    """
    account = _account(runtime, org_id, dispute_id)
    return _step(runtime, org_id, account, "rejected", asked_decision(raw, "a decision"))


def withdraw_dispute(runtime: Runtime, dispute_id: str, raw: object, *, org_id: str) -> DoneDispute:
    """The customer no longer disputes it.

    Raises:
        BadInput, NotFound, Conflict, Unavailable: as `begin_review`.
    """
    account = _account(runtime, org_id, dispute_id)
    return _step(runtime, org_id, account, "withdrawn", asked_decision(raw, "a withdrawal"))


def _account(runtime: Runtime, org_id: str, dispute_id: str) -> DisputeAccount:
    seq = parse_operation_id("dispute", dispute_id, where="dispute_id")
    return dispute_account(runtime, org_id, seq)


def _invoice(runtime: Runtime, reference: str, org_id: str | None) -> StoredInvoice:
    try:
        stored = find_invoice(runtime, reference)
    except NotFound:
        if org_id is None:
            raise
        raise unknown_invoice(reference) from None
    if org_id not in (None, stored.row.org_id):
        raise unknown_invoice(reference)
    return stored


def _unknown_requests(asked: AskedDispute) -> NotFound:
    return NotFound(
        "unknown_request",
        f"there is no request {asked.request_ids[0][:120]!r} of yours",
        next_step="send the ids of your own requests, and no org_id, or your own",
        where="org_id",
    )


def _known(
    runtime: Runtime, org_id: str, asked: AskedDispute, stored: StoredInvoice | None, seqs: tuple[int, ...]
) -> tuple[int, bool] | None:
    """The dispute that was opened by this very request before; None where none was.

    Raises:
        Conflict: `request_id_conflict`.
    """
    with runtime.database.org(org_id) as connection:
        found = dispute_by_request(connection, org_id, asked.request_id)
    if found is None:
        return None
    same = (found.line, found.reason, found.author) == (asked.line, asked.reason, asked.author)
    same = same and (found.entries == seqs if stored is None else found.invoice_id == stored.row.invoice_id)
    if not same or found.entries != seqs or asked.cents not in (None, found.disputed_cents):
        raise Conflict(
            "request_id_conflict",
            f"request id {asked.request_id!r} of {org_id!r} is stored already with other content, as entry {found.seq}",
            next_step="send another dispute under an id of its own, and the same id only with the same content",
            where="request_id",
        )
    return found.seq, False


def _opened(runtime: Runtime, org_id: str, asked: AskedDispute, scope: Scope) -> Recorded:
    request = StepDispute(
        step="opened",
        author=asked.author,
        reason=asked.reason,
        scope=scope.disputed,
        terms=scope.terms,
        asked_cents=asked.cents,
    )
    return submit_and_wait(runtime, _operation(runtime, org_id, asked.request_id, request))


def _attach(runtime: Runtime, org_id: str, seq: int) -> str | None:
    """Have the evidence attached, where there is none: why it is not, for a person; None where it is."""
    account = dispute_account(runtime, org_id, seq)
    if account.evidence_seq is not None:
        return None
    if not is_small(runtime, account):
        return "the month has so many requests that it is replayed in the background"
    try:
        attach_evidence(runtime, org_id, account)
    except Unavailable:
        raise
    except TallyError as error:
        return f"the replay failed, and is tried again: {error.detail}"
    return None


def _step(
    runtime: Runtime, org_id: str, account: DisputeAccount, step: DisputeStep, asked: AskedDecision
) -> DoneDispute:
    state = {"review_begun": "under_review", "upheld": "upheld", "rejected": "rejected", "withdrawn": "withdrawn"}[step]
    if account.state == state and _is_same(account, step, asked):
        return DoneDispute(_shown(runtime, org_id, account.seq), False)
    request = StepDispute(step=step, dispute_seq=account.seq, author=asked.author, reason=asked.reason)
    charges: dict[int, Settled] = {}
    if step == "upheld" and account.is_undecided:
        award = _award(runtime, org_id, account, asked)
        request = msgspec.structs.replace(request, award=award)
        charges = _settled(runtime, org_id, award.charges)
    request_id = f"{operation_id(DISPUTE, account.seq)}:{step}"
    operation = _operation(runtime, org_id, request_id, request)
    try:
        recorded: Recorded = submit_and_wait(runtime, msgspec.structs.replace(operation, charges=charges))
    except Conflict as error:
        if error.code != "request_id_conflict":
            raise
        raise _decided(dispute_account(runtime, org_id, account.seq)) from None
    return DoneDispute(_shown(runtime, org_id, account.seq), recorded.is_new)


def _is_same(account: DisputeAccount, step: DisputeStep, asked: AskedDecision) -> bool:
    """Whether the step that was taken is the one that is asked for."""
    if step == "review_begun":
        return True
    credits_pico = sum(one.amount_pico for one in account.upheld)
    amounts = asked.cents in (None, account.upheld_cents) and asked.credits_pico in (None, credits_pico)
    return account.explanation == asked.reason and amounts


def _decided(account: DisputeAccount) -> Conflict:
    return Conflict(
        "dispute_decided",
        f"dispute {operation_id(DISPUTE, account.seq)} is {account.state} already",
        next_step="nothing moved; see it with `tally dispute show`",
        where="dispute_id",
    )


def _award(runtime: Runtime, org_id: str, account: DisputeAccount, asked: AskedDecision) -> Award:
    """What is to be given back: what was asked for, else what is proposed, else all that is disputed."""
    says_nothing = asked.cents is None and asked.credits_pico is None
    proposed = min(account.proposed_cents, account.disputed_cents)
    cents = asked.cents if asked.cents is not None else (proposed or account.disputed_cents) if says_nothing else 0
    most_pico = account.credits_pico
    credits_pico = asked.credits_pico if asked.credits_pico is not None else (most_pico if says_nothing else 0)
    if credits_pico > most_pico:
        raise Conflict(
            "award_exceeds_dispute",
            f"{credits_text(most_pico)} are disputed, and {credits_text(credits_pico)} were to be given back",
            next_step="give back what is disputed at most; more by a refund or credits of their own",
            where="credits",
        )
    award = Award(cents=cents, charges=_first(account.charges, credits_pico))
    if account.invoice_id is None:
        return award
    stored = find_invoice(runtime, account.invoice_id)
    seller = contract_of(runtime, stored.row.contract, stored.row.contract_sha256).seller
    prefix = number_prefix(
        None if seller is None else seller.number_prefix, "credit_note", is_test=runtime.is_test_org(org_id)
    )
    return msgspec.structs.replace(
        award,
        invoice_id=account.invoice_id,
        line=account.line,
        line_cents=None if account.line is None else stored_line_cents(stored)[account.line],
        prefix=prefix if cents else None,
    )


def _first(charges: tuple[DisputedCharge, ...], amount_pico: int) -> tuple[DisputedCharge, ...]:
    """The first `amount_pico` of the charges."""
    found = []
    for one in charges:
        part = min(one.amount_pico, amount_pico)
        if part > 0:
            found.append(DisputedCharge(one.settlement_seq, part))
        amount_pico -= part
    return tuple(found)


def _settled(runtime: Runtime, org_id: str, charges: tuple[DisputedCharge, ...]) -> dict[int, Settled]:
    """What the settlements charged, as their entries say, wherever they are."""
    entries = entries_at(runtime, org_id, [one.settlement_seq for one in charges]) if charges else {}
    return {seq: read_body("settlement", entry.body or "")[1] for seq, entry in entries.items()}


def _operation(runtime: Runtime, org_id: str, request_id: str, request: StepDispute) -> Operation:
    return Operation(org_id=org_id, kind="dispute", request_id=request_id, request=request, salt=new_salt(runtime))


def _shown(runtime: Runtime, org_id: str, seq: int) -> ShownDispute:
    return show_dispute(runtime, org_id, operation_id(DISPUTE, seq))
