"""The evidence of a dispute, made from the ledger as it stood when the dispute was opened, and attached to it.

Attaching is an entry of its own, which bears the document's hash; the document is kept under that hash. It is kept
first: an entry never names what is not there. Killed between the two, the next run finds the dispute without evidence,
makes the same document again and attaches it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

import msgspec

from tallystick.app.dispute_requests import DisputedMonth, Settlement, Weighed, weigh
from tallystick.app.disputes_shown import dispute_account
from tallystick.app.entries import entries_at
from tallystick.app.invoices import find_invoice
from tallystick.app.issue_invoices import contract_of
from tallystick.app.left_entries import submit_and_wait
from tallystick.app.operate import new_salt
from tallystick.app.replay import replay_invoice
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Conflict, NotFound, TallyError, Unavailable
from tallystick.dispute.evidence import (
    Found,
    MonthFound,
    Replayed,
    RequestFound,
    SettlementFound,
    Version,
    make_evidence,
)
from tallystick.dispute.model import DisputeAccount
from tallystick.dispute.words import explanation_text
from tallystick.invoice.canonical import canonical_json
from tallystick.invoice.facts import StoredFact, recheck
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.journal.billing import list_issued
from tallystick.journal.disputes import add_evidence, read_evidence, unproved_disputes
from tallystick.journal.rate_versions import list_rate_versions
from tallystick.journal.steps import reached
from tallystick.ledger.dispute_operations import DISPUTE, DisputeEvidence, StepDispute
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import Operation
from tallystick.ledger.org_account import OpenHold
from tallystick.ledger.org_changes import SELF
from tallystick.ledger.refundable import charge_parts
from tallystick.ledger.settlement_charge import settlement_charge
from tallystick.rates.card import RateCard

AT_ONCE_MAX = 50_000
"""An invoice of more requests is replayed by the job, and not while somebody waits."""
_DONE = frozenset({"evidence_attached", "request_id_conflict"})
_log = logging.getLogger("tallystick.disputes")


class MadeEvidence(NamedTuple):
    """The document of a dispute: its text (canonical JSON), its hash, and what it has found."""

    text: str
    sha256: str
    differences: int
    proposed_cents: int


def is_small(runtime: Runtime, account: DisputeAccount) -> bool:
    """Whether the evidence can be made while somebody waits.

    Raises:
        Unavailable: `database_unreachable`.
    """
    if account.invoice_id is None:
        return True
    invoice = parse_invoice(find_invoice(runtime, account.invoice_id).document)
    return invoice.ledger.events + sum(one.ledger.events for one in invoice.adjustments) <= AT_ONCE_MAX


def attach_evidence(runtime: Runtime, org_id: str, account: DisputeAccount) -> str:
    """Make the evidence and attach it, if none is attached yet: the hash of what is.

    Raises:
        TallyError: what keeps it from being made; nothing is attached then.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; doing it again is safe.
    """
    made = remake_evidence(runtime, org_id, account)
    with runtime.database.org(org_id) as connection:
        add_evidence(connection, org_id, account.seq, made.sha256, made.text)
    reached("disputes.evidence_kept")
    found = "nothing differs" if not made.differences else f"{made.differences:,} differences"
    request = StepDispute(
        step="evidence",
        dispute_seq=account.seq,
        author=SELF,
        reason=f"the ledger was replayed: {found}",
        evidence=DisputeEvidence(sha256=made.sha256, differences=made.differences, proposed_cents=made.proposed_cents),
    )
    operation = Operation(
        org_id=org_id,
        kind="dispute",
        request_id=f"{operation_id(DISPUTE, account.seq)}:evidence",
        request=request,
        salt=new_salt(runtime),
    )
    try:
        submit_and_wait(runtime, operation)
    except Conflict as error:
        if error.code not in _DONE:
            raise
        return dispute_account(runtime, org_id, account.seq).evidence_sha256 or made.sha256  # another was first
    return made.sha256


def attach_pending(
    runtime: Runtime, org_id: str | None = None, *, is_stopping: Callable[[], bool] = lambda: False
) -> tuple[int, list[TallyError]]:
    """Make the evidence of every dispute that has none yet: of how many, and what kept it from the others.

    Raises:
        Unavailable: `database_unreachable`.
    """
    with runtime.database.operator() as connection:
        waiting = unproved_disputes(connection, org_id)
    done, errors = 0, list[TallyError]()
    for org, seq in waiting:
        if is_stopping():
            break
        try:
            attach_evidence(runtime, org, dispute_account(runtime, org, seq))
            done += 1
        except Unavailable:
            raise
        except TallyError as error:
            _log.warning("the evidence of dispute %s of %s could not be made: %s", seq, org, error.detail)
            errors.append(error)
    return done, errors


def stored_evidence(runtime: Runtime, org_id: str, account: DisputeAccount) -> str:
    """The document that is attached to a dispute.

    Raises:
        Conflict: `evidence_pending`, when none is yet; `evidence_missing`, when it was taken away.
        Unavailable: `database_unreachable`.
    """
    named = operation_id(DISPUTE, account.seq)
    if account.evidence_sha256 is None:
        raise Conflict(
            "evidence_pending",
            f"the evidence of dispute {named} is not made yet",
            next_step="ask again in a while; the job `disputes` makes it, or `tally jobs run disputes`",
            where="dispute_id",
        )
    with runtime.database.org(org_id) as connection:
        text = read_evidence(connection, org_id, account.seq, account.evidence_sha256)
    if text is None or hashlib.sha256(text.encode()).hexdigest() != account.evidence_sha256:
        raise Conflict(
            "evidence_missing",
            f"the evidence of dispute {named}, with the hash {account.evidence_sha256}, is gone or was changed",
            next_step="run `tally verify`; restore the database from a backup",
            where="dispute_id",
        )
    return text


def remake_evidence(runtime: Runtime, org_id: str, account: DisputeAccount) -> MadeEvidence:
    """The evidence of a dispute, from the ledger as it stood when it was opened: the same, however often and late.

    Raises:
        NotFound: `unknown_contract_version`; Conflict: `entries_missing`, `ledger_incomplete`.
        BadInput: `missing_block`, `broken_block`, `cost_unknown`.
        Unavailable: `database_unreachable`.
    """
    through = account.seq - 1
    weighed: Weighed | None = None
    if account.entries:
        entries = entries_at(runtime, org_id, [account.seq, *account.entries])
        opening: StepDispute = read_body(DISPUTE, entries[account.seq].body or "")[0]
        months = () if opening.scope is None else opening.scope.months
        weighed = weigh(runtime, org_id, [entries[seq] for seq in account.entries], through, months)
    invoice, number, replayed = None, None, None
    if account.invoice_id is not None:
        invoice = parse_invoice(find_invoice(runtime, account.invoice_id).document)
        with runtime.database.org(org_id) as connection:
            issued = list_issued(connection, org_id, invoice_id=account.invoice_id)
        number = issued[0].account.number if issued else None
        report = replay_invoice(runtime, account.invoice_id)
        replayed = Replayed(
            identical=report.identical,
            digest=report.digest,
            recomputed_digest=report.recomputed_digest,
            events=report.events,
            difference_count=report.difference_count,
            differences=tuple(report.differences),
            recomputed=report.recomputed,
        )
    requests = [] if weighed is None else _requests(runtime, weighed)
    found = Found(
        invoice=invoice,
        number=number,
        replayed=replayed,
        requests=requests,
        months=[] if weighed is None else [MonthFound(one.label, one.charge) for one in weighed.months],
        settlements=[] if weighed is None else [_settlement(runtime, one) for one in weighed.settlements],
        rate_cards=_rate_cards(runtime, invoice, requests),
        contracts=_contracts(runtime, invoice, weighed),
    )
    made = make_evidence(org_id, account, through, found)
    text = canonical_json(made.document).decode()
    return MadeEvidence(text, hashlib.sha256(text.encode()).hexdigest(), made.differences, made.proposed_cents)


def _requests(runtime: Runtime, weighed: Weighed) -> list[RequestFound]:
    month_of: dict[int, DisputedMonth] = {one.seq: month for month in weighed.months for one in month.requests}
    corrections = {one.refers_to_seq: one for one in weighed.related if one.kind == "correction"}
    card_of = _card_of(runtime)
    found = []
    for entry in weighed.requests:
        fact, month = StoredFact(entry, corrections.get(entry.seq)), month_of[entry.seq]
        charge = month.charge_of(entry, weighed.related)
        found.append(RequestFound(fact, recheck(fact, card_of), month.label, charge))
    return found


def _card_of(runtime: Runtime) -> Callable[[str], RateCard]:
    @cache
    def card_of(version: str) -> RateCard:
        try:
            return runtime.cards.at(version)
        except NotFound:
            runtime.reload_cards()
            return runtime.cards.at(version)

    return card_of


def _settlement(runtime: Runtime, found: Settlement) -> SettlementFound:
    return SettlementFound(
        seq=found.entry.seq,
        hold_seq=found.request.hold_seq,
        settled=found.settled,
        charged_pico=charge_parts(found.settled).amount_pico,
        refunded_pico=found.refunded_pico,
        recomputed_pico=_charged_again(runtime, found),
    )


def _charged_again(runtime: Runtime, found: Settlement) -> int | None:
    """What a settlement charges by its hold, its cost and its contract; None where earlier work has a say in it."""
    if found.hold is None:
        return None
    request, held = read_body("hold", found.hold.body or "")
    decision = held.decision
    contract = contract_of(runtime, decision.contract, decision.contract_sha256)
    action = contract.actions.get(request.action or "")
    if action is not None and action.repeat is not None and request.work_key is not None:
        return None
    hold = OpenHold(found.hold.seq, request, None, held)
    settled = found.settled
    at = found.entry.recorded_at
    due = settlement_charge(hold, found.request, contract, None, at, cost_pico=settled.cost_pico, priced=settled.priced)
    return due.charged_pico


def _rate_cards(runtime: Runtime, invoice: Invoice | None, requests: Iterable[RequestFound]) -> list[Version]:
    named = {one.rate_version for request in requests for one in (request.fact.entry, request.fact.priced)}
    if invoice is not None:
        named |= {one.rate_version for one in invoice.rates}
        named |= {use.rate_version for one in invoice.adjustments for use in one.rates}
    with runtime.database.operator() as connection:
        stored = list_rate_versions(connection)
    return [Version("rate card", one.version, one.sha256) for one in stored if one.version in named]


def _contracts(runtime: Runtime, invoice: Invoice | None, weighed: Weighed | None) -> list[Version]:
    found: dict[tuple[str, str], str] = {}
    if invoice is not None:
        found |= {(one.contract, one.version): one.sha256 for one in invoice.named_sections()}
    if weighed is not None:
        for month in weighed.months:
            for section in month.terms.sections if month.terms is not None else ():
                found[section.contract.name, section.contract.version] = section.contract.sha256
        for one in weighed.settlements:
            if one.settled.contract:
                found[one.settled.contract, one.settled.contract_version] = one.settled.contract_sha256
    return [Version(name, version, sha256) for (name, version), sha256 in sorted(found.items())]


def evidence_words(text: str) -> str:
    """A document of evidence in plain words."""
    return explanation_text(msgspec.json.decode(text))
