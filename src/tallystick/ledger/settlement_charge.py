"""What settling a hold charges: the contract's price, as far as the hold and the caller let it.

Writing a settlement and checking it later ask the same function, so that what was charged can be told again from the
hold, the contract's version, and what the work cost us.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from tallystick.contract.charging import charge_credits, credits_charge_pico, credits_text
from tallystick.contract.model import Contract
from tallystick.ledger.operations import Authorize, Settle
from tallystick.ledger.org_account import FinishedWork, OpenHold


class SettlementCharge(NamedTuple):
    """What is charged, in pico-credits.

    Attributes:
        charged_pico: all of it; what exceeds the hold comes out of the wallet, or is owed.
        rounding_pico: how much of it is only the rounding up to whole credits.
        finished: whether the work is now done and charged.
        charge_pico: what is charged, in pico-USD.
        why: a sentence.
    """

    charged_pico: int
    rounding_pico: int
    finished: bool
    charge_pico: int
    why: str


def free_environments(hold: OpenHold, contract: Contract) -> frozenset[str]:
    """The environments whose usage does not count towards what a hold's work cost: those that are never billed.

    They count where the hold itself is of one, and nothing is charged.
    """
    if not hold.held.billed:
        return frozenset()
    return frozenset([name for name, terms in contract.environments.items() if not terms.charge])


def settlement_charge(
    hold: OpenHold,
    request: Settle,
    contract: Contract,
    done: FinishedWork | None,
    now: datetime,
    *,
    cost_pico: int,
    priced: bool,
) -> SettlementCharge:
    """The charge of a settlement. A hold that its wallet did not cover was let pass, and is charged nothing.

    Args:
        contract: the version that the hold was decided under.
        done: when the hold's work was last charged before; None when never.
        now: the instant of the settlement.
        cost_pico, priced: what the work cost us, in pico-USD, and whether all of it has a price.
    """
    decided, held_pico, bound_pico = hold.held.decision, hold.amount_pico, request.charge_pico
    repeat = decided.quote.repeat or _is_repeat(hold.request, contract, done, now)
    charge = charge_credits(
        contract,
        decided.plan,
        hold.request.action,
        outcome=request.outcome,
        environment=hold.request.environment,
        cost_pico=cost_pico,
        priced=priced,
        repeat=repeat,
        held_pico=held_pico,
    )
    covered = held_pico >= decided.quote.reserve_pico
    charged_pico, why = charge.charged_pico, charge.why
    if not covered:
        charged_pico, why = 0, "Nothing is charged: the wallet could not cover it, and it was let pass unreserved."
    elif bound_pico is not None and bound_pico < charged_pico:
        charged_pico, why = bound_pico, f"{credits_text(bound_pico)}: no more was asked for."
    return SettlementCharge(
        charged_pico=charged_pico,
        rounding_pico=max(0, charge.rounding_pico - (charge.charged_pico - charged_pico)),
        finished=covered and not repeat and _finishes(hold, contract, request),
        charge_pico=credits_charge_pico(contract, charged_pico) if charged_pico else 0,
        why=why,
    )


def _is_repeat(request: Authorize, contract: Contract, done: FinishedWork | None, now: datetime) -> bool:
    """Whether the same work was finished meanwhile, under another hold."""
    action = contract.actions.get(request.action or "")
    if done is None or action is None or action.repeat is None:
        return False
    return now < done.charged_at + action.repeat.within


def _finishes(hold: OpenHold, contract: Contract, request: Settle) -> bool:
    """Whether it is work that can be done again, with an outcome that is charged."""
    action = contract.actions.get(hold.request.action or "")
    return (
        action is not None
        and hold.request.work_key is not None
        and hold.held.billed
        and request.outcome in action.charge_on
    )
