"""What limits and budgets count, by name: what a hold reserves of it, and what is used of it in each window.

    meter:tokens_in             a meter, over the whole org
    cost:org                    our cost, over the whole org
    cost:user:u1                our cost of one user's work; likewise api_key and feature
    charge:org, charge:user:u1  what the customer is charged

These are the counters of what open holds have reserved. What is recorded is counted by window too, under the same name
with the window in front: `day:meter:tokens_in`, `month:cost:org` (see `windowed`), and the window's start.
"""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.contract.decision import Budget, BudgetMeasure, BudgetScope
from tallystick.ledger.operations import Authorize, Held


def meter_counter(meter: str) -> str:
    """The counter of a meter."""
    return f"meter:{meter}"


def spending_counter(of: BudgetMeasure, scope: BudgetScope, subject: str | None) -> str:
    """The counter of what a user, a key or a feature spends; of an org there is but one, whatever the subject."""
    return f"{of}:org" if scope == "org" else f"{of}:{scope}:{subject}"


def windowed(per: str, counter: str) -> str:
    """The counter in windows of that length: `minute`, `hour`, `day`, `week` or `month`."""
    return f"{per}:{counter}"


def reservations(request: Authorize, held: Held, applying: Iterable[tuple[Budget, str]]) -> dict[str, int]:
    """What an open hold has reserved: by meter what it may take of it, by spender in pico-USD; nothing of nothing.

    Spending is reserved only where a budget looks at it; each counter once, however many budgets do.

    Args:
        applying: the budgets that the request falls under, each with its counter (`BudgetIndex.applying`).
    """
    found = {}
    if held.billed:
        found = {meter_counter(meter): quantity for meter, quantity in request.meters.items() if quantity}
    for budget, counter in applying:
        amount_pico = held.cost_pico if budget.of == "cost" else held.charge_pico
        if amount_pico:
            found[counter] = amount_pico
    return found
