"""A step of a dispute in a group of operations, with what it gives back: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from tallystick.contract.charging import credits_text
from tallystick.core.errors import Conflict, NotFound
from tallystick.dispute.awards import Award, awards_of
from tallystick.journal.disputes_group import DisputeGroup
from tallystick.ledger.credit_operations import GiveCredit
from tallystick.ledger.dispute_operations import StepDispute
from tallystick.ledger.invoice_operations import CreditInvoice
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import Refund
from tallystick.ledger.org_account import OrgAccount, Step
from tallystick.ledger.org_changes import refund

DecideMoney = Callable[[str, int, CreditInvoice | GiveCredit, str], Step]
"""What becomes of what is given back in money: of an org, its entry's place, the request and its id; or it raises, and
has changed nothing.
"""


def dispute_steps(
    disputes: DisputeGroup,
    decide_money: DecideMoney,
    org_id: str,
    account: OrgAccount,
    request: StepDispute,
    request_id: str,
    seq: int,
    now: datetime,
    *,
    grace: timedelta,
    taken: Callable[[Collection[tuple[str, str, str]]], bool],
) -> list[Step]:
    """The entries of a step: its own, and those that give back what an upheld dispute does.

    Args:
        account: with the settlements loaded that credits go back of.
        request_id: of the step.
        seq, now: the place of its entry, and when it is recorded.
        grace: for how long credits can be used that go back to a grant which is over.
        taken: whether any of these ids, by org and kind, is stored already.

    Raises:
        TallyError: what it is refused for; nothing is changed then.
    """
    change = disputes.decide(org_id, seq, request, request_id)
    steps, awards = [change.step], awards_of(request)
    if awards and taken([(org_id, one.kind, one.request_id) for one in awards]):
        raise Conflict(
            "request_id_conflict",
            f"request id {awards[0].request_id!r} of {org_id!r}, or one that begins with it, is stored already: it is "
            "that of what the dispute gives back",
            next_step="nothing moved; give it back by a credit note or a refund of its own, and reject the dispute",
            where="request_id",
        )
    _check_refunds(account, awards)
    for one in awards:  # money first: from here on only it may still be refused
        if not isinstance(one.request, Refund):
            step = decide_money(org_id, seq + len(steps), one.request, one.request_id)
            steps.append(step._replace(request_id=one.request_id))
        else:
            first, *more = refund(account, seq + len(steps), now, one.request, grace=grace)
            steps += [first._replace(request_id=one.request_id), *more]
    disputes.take(org_id, change)
    return steps


def _check_refunds(account: OrgAccount, awards: list[Award]) -> None:
    """All of what is to go back in credits can: so that what comes after cannot be refused half way."""
    for one in awards:
        if not isinstance(one.request, Refund):
            continue
        named = operation_id("settlement", one.request.settlement_seq)
        charged = account.charged.get(one.request.settlement_seq)
        if charged is None:
            raise NotFound(
                "settlement_unknown",
                f"the org has no settlement {named}",
                next_step="send the org and the settlement's id as they were answered",
                where="settlement_id",
            )
        left_pico = charged.amount_pico - charged.refunded_pico
        if (one.request.amount_pico or 0) > left_pico:
            raise Conflict(
                "refund_exceeds_charge",
                f"{named} charged {credits_text(charged.amount_pico)}, of which "
                f"{credits_text(charged.refunded_pico)} have been refunded since",
                next_step=f"give back {credits_text(left_pico)} of it at most",
                where="credits",
            )
