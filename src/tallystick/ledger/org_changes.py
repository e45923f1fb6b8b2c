"""What happens to an account besides holds: grants, refunds, overrides, budgets and standing.

As in `ledger.org_machine`, each function changes the account and gives the entries to append, or raises and moves
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from tallystick.contract.charging import credits_text
from tallystick.contract.decision import Budget
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.core.instants import format_instant
from tallystick.ledger.budget_index import BUDGETS_MAX, BUDGETS_ON_ONE_MAX, BudgetIndex
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import (
    CREDITS_PICO_MAX,
    Grant,
    Granted,
    Lot,
    Noted,
    OperationKind,
    Refund,
    Returned,
    SetBudget,
    SetOverride,
    SetStanding,
)
from tallystick.ledger.org_account import Charged, OrgAccount, Step, with_standing
from tallystick.ledger.refundable import charge_parts, refund_parts
from tallystick.ledger.wallet import GrantedLot

SELF = "tallystick"
"""The author of what follows by itself."""
OVERRIDES_MAX = 100
"""How many exceptions of an org may be in force at once."""


def grant(account: OrgAccount, seq: int, now: datetime, request: Grant) -> list[Step]:
    """Credits come in, as a lot of their own.

    Raises:
        BadInput: `invalid_amount`, `grant_expired_already`; `invalid_grant_source`, since what is granted again after
            its end follows by itself.
    """
    if request.source == "refund":
        raise BadInput(
            "invalid_grant_source",
            "credits of source refund come back by themselves, when what they were charged for is refunded",
            next_step="refund the settlement, or grant them as goodwill",
            where="source",
        )
    _check_amount(request.amount_pico)
    if request.expires_at is not None and request.expires_at <= now:
        raise BadInput(
            "grant_expired_already",
            f"the credits would have expired at {format_instant(request.expires_at)}, before they come in",
            next_step="name an expiry that is still to come, or none",
            where="expires_at",
        )
    return [_granted(account, seq, now, request, None)]


def _check_amount(amount_pico: int) -> None:
    if not 0 < amount_pico <= CREDITS_PICO_MAX:
        raise BadInput(
            "invalid_amount",
            f"{credits_text(amount_pico)} is no amount to be moved: it must be above 0 and at most "
            f"{credits_text(CREDITS_PICO_MAX)}",
            next_step="send the amount of credits that is meant",
            where="credits",
        )


def _granted(account: OrgAccount, seq: int, now: datetime, request: Grant, request_id: str | None) -> Step:
    wallet = account.wallet
    before, amount_pico = wallet.state(), request.amount_pico
    lot = GrantedLot(seq, request.source, request.priority, now, request.expires_at, amount_pico, amount_pico)
    wallet.grant(lot)
    return Step(seq, "grant", request, Granted(before=before, after=wallet.state()), None, request_id)


def grants_again(
    account: OrgAccount,
    seq: int,
    now: datetime,
    kind: OperationKind,
    cause_seq: int,
    lots: Iterable[Lot],
    grace: timedelta,
) -> list[Step]:
    """Credits that went back to grants that are over: each is granted again, for the contract's grace.

    What holds give back has that grace once: else credits would live for as long as somebody holds and releases them
    whenever they are about to end. What was charged and is refunded has it however often.

    Args:
        kind, cause_seq: the entry that gave them back.
    """
    steps: list[Step] = []
    for lot in lots:
        old = account.wallet.lots[lot.grant_seq]
        if old.source == "refund" and kind != "refund":
            continue
        again = Grant(
            source="refund",
            amount_pico=lot.amount_pico,
            priority=old.priority,
            expires_at=now + grace,
            of_seq=lot.grant_seq,
            author=SELF,
            reason=f"given back by {operation_id(kind, cause_seq)} after "
            f"{operation_id('grant', lot.grant_seq)} had expired",
        )
        request_id = f"{operation_id(kind, cause_seq)}.{operation_id('grant', lot.grant_seq)}"
        steps.append(_granted(account, seq + len(steps), now, again, request_id))
    return steps


def refund(account: OrgAccount, seq: int, now: datetime, request: Refund, *, grace: timedelta) -> list[Step]:
    """Charged credits go back, those that burnt last first: what is owed, then to the lots that they came from.

    Args:
        grace: for how long what goes back can be used where its grant is over.

    Raises:
        NotFound: `settlement_unknown`.
        BadInput: `invalid_amount`.
        Conflict: `refund_exceeds_charge`.
    """
    charged = account.charged.get(request.settlement_seq)
    name = operation_id("settlement", request.settlement_seq)
    if charged is None:
        raise NotFound(
            "settlement_unknown",
            f"the org has no settlement {name}",
            next_step="send the org and the settlement's id as they were answered",
            where="settlement_id",
        )
    left_pico = charged.amount_pico - charged.refunded_pico
    amount_pico = left_pico if request.amount_pico is None else request.amount_pico
    if request.amount_pico is not None:
        _check_amount(amount_pico)
    if amount_pico > left_pico or not left_pico:
        raise Conflict(
            "refund_exceeds_charge",
            f"{name} charged {credits_text(charged.amount_pico)}, of which {credits_text(charged.refunded_pico)} "
            "have been refunded already",
            next_step=f"refund {credits_text(left_pico)} at most" if left_pico else "there is nothing left to refund",
            where="credits",
        )
    returned, over = _give_back(account, charged, amount_pico, now)
    account.charged[charged.seq] = charged._replace(refunded_pico=charged.refunded_pico + amount_pico)
    return [
        Step(seq, "refund", request, returned, charged.seq),
        *grants_again(account, seq + 1, now, "refund", seq, over, grace),
    ]


def _give_back(
    account: OrgAccount, charged: Charged, amount_pico: int, now: datetime
) -> tuple[Returned, tuple[Lot, ...]]:
    wallet, before = account.wallet, account.wallet.state()
    parts = refund_parts(charge_parts(charged.settled), charged.refunded_pico, amount_pico)
    over = wallet.give_back(parts.lots, now)
    returned = Returned(
        returned=parts.lots,
        expired_pico=sum([lot.amount_pico for lot in over]),
        receivable_pico=parts.receivable_pico,
        rounding_pico=parts.rounding_pico,
        before=before,
        after=wallet.state(),
    )
    return returned, over


def set_override(account: OrgAccount, seq: int, now: datetime, request: SetOverride) -> list[Step]:
    """A signed-off exception holds from now until it ends; those that have ended are forgotten.

    Raises:
        BadInput: `expired_already`.
        Conflict: `too_many_overrides`, for every decision looks at all that are in force.
    """
    override = msgspec.structs.replace(request.override, seq=seq)
    if override.expires_at <= now:
        raise BadInput(
            "expired_already",
            f"the override would have ended at {format_instant(override.expires_at)}, before it begins",
            next_step="name an instant that is still to come",
            where="expires_at",
        )
    kept = {one.seq: one for one in account.terms.overrides.values() if one.expires_at > now}
    if len(kept) >= OVERRIDES_MAX:
        ends = min(one.expires_at for one in kept.values())
        raise Conflict(
            "too_many_overrides",
            f"the org has {len(kept)} exceptions in force, and may have {OVERRIDES_MAX}",
            next_step="say what is meant in one exception, or in the contract; the next of them ends at "
            f"{format_instant(ends)}",
        )
    account.say(msgspec.structs.replace(account.terms, overrides={**kept, seq: override}))
    return [Step(seq, "override", request, Noted(effective_at=now))]


def set_budget(account: OrgAccount, seq: int, now: datetime, request: SetBudget) -> list[Step]:
    """A cost guard holds from now on, instead of the one of that name; or none of that name does any more.

    What open holds may spend counts at once, so all of them must be loaded.

    Raises:
        NotFound: `budget_unknown`, of one to be taken away.
        Conflict: `too_many_budgets`.
    """
    budgets = dict(account.terms.budgets)
    if request.budget is not None:
        budgets[request.name] = request.budget
        _check_budgets(budgets, request.budget)
    elif budgets.pop(request.name, None) is None:
        raise NotFound(
            "budget_unknown",
            f"the org has no budget {request.name!r}",
            next_step="list its budgets, and name one of them",
            where="name",
        )
    account.set_budgets(budgets)
    return [Step(seq, "budget", request, Noted(effective_at=now))]


def _check_budgets(budgets: Mapping[str, Budget], added: Budget) -> None:
    """How many there may be, and how many may look at the same: what one decision has to look at is bounded by that."""
    like, whose = BudgetIndex(budgets.values()).like(added), "the org"
    if added.scope != "org":
        whose = f"each {added.scope}" if added.subject is None else f"the {added.scope} {added.subject!r}"
    if len(budgets) > BUDGETS_MAX:
        most, of = BUDGETS_MAX, "in all"
    elif like > BUDGETS_ON_ONE_MAX:
        most, of = BUDGETS_ON_ONE_MAX, f"on {whose}"
    else:
        return
    raise Conflict(
        "too_many_budgets",
        f"the org has {most:,} budgets {of} already, and may have no more",
        next_step="take one away that is not needed, or change one: setting a budget of the same name replaces it",
        where="name",
    )


def set_standing(account: OrgAccount, seq: int, now: datetime, request: SetStanding) -> list[Step]:
    """The org is suspended or taken up again, and has a mode of enforcement of its own or none."""
    account.say(with_standing(account.terms, request))
    return [Step(seq, "standing", request, Noted(effective_at=now))]
