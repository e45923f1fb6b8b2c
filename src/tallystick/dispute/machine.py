"""What becomes of a dispute: each function gives the entry to append, and how the dispute stands with it, or raises.

    opened ─► open ── review_begun ─► under_review
                │                          │
                └──────────┬───────────────┘
                           ├─► upheld      something is given back
                           ├─► rejected    what was charged stands
                           └─► withdrawn   by the customer

Evidence is attached once, at any time. Nothing is changed in place: what is given holds once the entry is stored.
`seq` is the entry's place, `now` the instant at which it is recorded. What an upheld dispute gives back are entries
that follow in the same transaction; that they can be made is for those who make them to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from tallystick.contract.charging import credits_text
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd
from tallystick.dispute.model import COUNTING, DisputeAccount, DisputeEvent, InvoiceLeft
from tallystick.ledger.dispute_operations import (
    DISPUTE,
    Award,
    DisputedCharge,
    DisputeEvidence,
    DisputeScope,
    DisputeState,
    StepDispute,
    Stepped,
)
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.org_account import Step


class Change(NamedTuple):
    """What a step makes of a dispute: the entry, how the dispute stands then, and what its history says."""

    step: Step
    account: DisputeAccount
    event: DisputeEvent


def open_dispute(
    others: Iterable[DisputeAccount],
    invoice: InvoiceLeft | None,
    seq: int,
    now: datetime,
    request: StepDispute,
    request_id: str,
) -> Change:
    """Something is disputed from now on.

    Args:
        others: the org's disputes that count (`model.COUNTING`).
        invoice: the one that the scope names, as it stands; None where it names none, or that is not issued.

    Raises:
        NotFound: `invoice_not_issued`.
        Conflict: `invoice_void`, `dispute_window_over`, `already_disputed`, `dispute_exceeds_amount`,
            `nothing_to_dispute`.
    """
    scope, terms = request.scope, request.terms
    if scope is None or terms is None:
        raise ValueError("what is disputed is not said")
    if scope.invoice_id is not None:
        _check_invoice(invoice, scope.invoice_id)
    if terms.closes_at is not None and now >= terms.closes_at:
        raise Conflict(
            "dispute_window_over",
            f"it could be disputed until {format_instant(terms.closes_at)}, by version {terms.contract_version} of "
            f"{terms.contract}, and it is {format_instant(now)}",
            next_step="nothing moved; the seller can still take something back by a credit note, or give credits",
            where="invoice_id" if scope.invoice_id is not None else "request_ids",
        )
    counting = [one for one in others if one.state in COUNTING]
    _check_requests(counting, scope)
    disputed_cents = _disputed_cents(counting, invoice, scope, request.asked_cents)
    account = DisputeAccount(
        seq=seq,
        request_id=request_id,
        what=scope.what,
        state="open",
        invoice_id=scope.invoice_id,
        line=scope.line,
        entries=scope.entries,
        charges=scope.charges,
        disputed_cents=disputed_cents,
        author=request.author,
        reason=request.reason,
        opened_at=now,
        answer_due_at=now + timedelta(seconds=terms.answer_seconds),
    )
    return _change(account, seq, now, request)


def step_dispute(account: DisputeAccount | None, seq: int, now: datetime, request: StepDispute) -> Change:
    """A further step of a dispute.

    Raises:
        NotFound: `unknown_dispute`.
        Conflict: `dispute_decided`, `dispute_under_review`, `evidence_attached`; `award_exceeds_dispute`.
        BadInput: `invalid_amount`, of an award that gives nothing.
    """
    if account is None:
        raise unknown_dispute(operation_id(DISPUTE, request.dispute_seq or 0))
    if request.step == "evidence":
        return _change(_with_evidence(account, seq, request.evidence), seq, now, request)
    if not account.is_undecided:
        raise Conflict(
            "dispute_decided",
            f"dispute {operation_id(DISPUTE, account.seq)} is {account.state} already",
            next_step="nothing moved; see it with `tally dispute show`",
            where="dispute_id",
        )
    if request.step == "review_begun":
        if account.state == "under_review":
            raise Conflict(
                "dispute_under_review",
                f"dispute {operation_id(DISPUTE, account.seq)} is under review already",
                next_step="uphold or reject it",
                where="dispute_id",
            )
        return _change(msgspec.structs.replace(account, state="under_review"), seq, now, request)
    award = request.award or Award()
    if request.step == "upheld":
        _check_award(account, award)
    states: dict[str, DisputeState] = {"upheld": "upheld", "rejected": "rejected", "withdrawn": "withdrawn"}
    decided = msgspec.structs.replace(
        account,
        state=states[request.step],
        decided_at=now,
        explanation=request.reason,
        upheld_cents=award.cents,
        upheld=award.charges,
    )
    return _change(decided, seq, now, request)


def unknown_dispute(named: str) -> NotFound:
    """The refusal of what is no dispute, or none that the caller may know of."""
    return NotFound(
        "unknown_dispute",
        f"there is no dispute {named[:60]!r}",
        next_step="see the ids with `tally dispute list`",
        where="dispute_id",
    )


def _change(account: DisputeAccount, seq: int, now: datetime, request: StepDispute) -> Change:
    result = Stepped(
        state=account.state,
        disputed_cents=account.disputed_cents,
        credits_pico=account.credits_pico,
        answer_due_at=account.answer_due_at,
    )
    event = DisputeEvent(account.seq, seq, request.step, now, request.author, request.reason)
    return Change(Step(seq, "dispute", request, result, request.dispute_seq), account, event)


def _check_invoice(invoice: InvoiceLeft | None, invoice_id: str) -> None:
    if invoice is None:
        raise NotFound(
            "invoice_not_issued",
            f"invoice {invoice_id} is not issued: nothing is due for it yet, so that there is nothing to dispute",
            next_step="dispute it once it has a number, or dispute requests now",
            where="invoice_id",
        )
    if invoice.voided:
        raise Conflict(
            "invoice_void",
            f"invoice {invoice_id} is void: nothing is due for it",
            next_step="nothing moved; see it with `tally invoice show`",
            where="invoice_id",
        )


def _check_requests(counting: Iterable[DisputeAccount], scope: DisputeScope) -> None:
    entries, settlements = set(scope.entries), {one.settlement_seq for one in scope.charges}
    for one in counting:
        same = entries & set(one.entries)
        if same or settlements & {each.settlement_seq for each in one.charges}:
            count = len(same)
            what = f"{count:,} of these requests are" if count > 1 else "one of these requests is"
            raise Conflict(
                "already_disputed",
                f"{what} disputed already, by {operation_id(DISPUTE, one.seq)}, which is {one.state}",
                next_step="see that dispute; dispute the other requests alone",
                where="request_ids",
            )


def _disputed_cents(
    counting: Iterable[DisputeAccount], invoice: InvoiceLeft | None, scope: DisputeScope, asked_cents: int | None
) -> int:
    """What is disputed in money: what was asked for, else all that nobody else disputes and no note has taken back."""
    left_cents = max(0, scope.cents)
    if invoice is not None:
        on_it = [one for one in counting if one.invoice_id == scope.invoice_id]
        earlier = [one for one in counting if one.seq in scope.earlier]
        elsewhere = [one.disputed_cents if one.is_undecided else one.upheld_cents for one in earlier]
        left_cents = min(left_cents, invoice.left_cents - sum(one.counted_cents for one in on_it) - sum(elsewhere))
        if scope.line is not None:
            of_line = sum(one.counted_cents for one in on_it if one.line == scope.line)
            line_cents = scope.line_cents if scope.line_cents is not None else scope.cents
            left_cents = min(left_cents, line_cents - invoice.line_credits.get(scope.line, 0) - of_line)
        left_cents = max(0, left_cents)
    if asked_cents is not None:
        if asked_cents > left_cents:
            raise Conflict(
                "dispute_exceeds_amount",
                f"{_usd(asked_cents)} are more than can be disputed of it: {_usd(left_cents)}, since it comes to "
                f"{_usd(scope.cents)}, less what was taken back and what is disputed already",
                next_step=f"dispute {_usd(left_cents)} at most" if left_cents else "there is nothing left to dispute",
                where="amount_usd",
            )
        return asked_cents
    if not left_cents and scope.what != "requests":  # what requests come to may be less than a cent
        raise Conflict(
            "nothing_to_dispute",
            f"it comes to {_usd(scope.cents)}, and nothing of that is left: it was taken back, is disputed already, or "
            "was never charged",
            next_step="see the invoice's credit notes and the org's disputes",
            where="invoice_id" if scope.invoice_id is not None else "request_ids",
        )
    return left_cents


def _with_evidence(account: DisputeAccount, seq: int, evidence: DisputeEvidence | None) -> DisputeAccount:
    if evidence is None:
        raise ValueError("no evidence is given")
    if account.evidence_seq is not None:
        raise Conflict(
            "evidence_attached",
            f"dispute {operation_id(DISPUTE, account.seq)} has its evidence already",
            next_step="see it with `tally dispute show`",
            where="dispute_id",
        )
    return msgspec.structs.replace(
        account,
        evidence_seq=seq,
        evidence_sha256=evidence.sha256,
        differences=evidence.differences,
        proposed_cents=evidence.proposed_cents,
    )


def _check_award(account: DisputeAccount, award: Award) -> None:
    """Something is given back, and no more than is disputed."""
    if award.cents < 0 or any(one.amount_pico <= 0 for one in award.charges) or not (award.cents or award.charges):
        raise BadInput(
            "invalid_amount",
            "a dispute that is upheld gives something back: an amount above 0",
            next_step="say how much, or reject the dispute",
            where="amount_usd",
        )
    disputed = {one.settlement_seq: one.amount_pico for one in account.charges}
    beyond = [one for one in award.charges if one.amount_pico > disputed.get(one.settlement_seq, 0)]
    named = [one.settlement_seq for one in award.charges]
    if (award.invoice_id, award.line) != (account.invoice_id, account.line):
        raise ValueError("what is given back is not of what is disputed")
    if award.cents > account.disputed_cents or beyond or named != sorted(set(named)):
        what = f"{_usd(account.disputed_cents)} and {_credits(account.charges)} are disputed"
        raise Conflict(
            "award_exceeds_dispute",
            f"{what}; {_usd(award.cents)} and {_credits(award.charges)} were to be given back",
            next_step="give back what is disputed at most; more by a credit note, a refund or credits of their own",
            where="amount_usd",
        )


def _credits(charges: Iterable[DisputedCharge]) -> str:
    return credits_text(sum(one.amount_pico for one in charges))


def _usd(cents: int) -> str:
    return f"{cents_to_usd(cents)} USD"
