"""The credits that a plan includes, month by month, as the server gives them before the first decision of each."""

from __future__ import annotations

from datetime import datetime

from tallystick.contract.model import Plan
from tallystick.contract.windows import window_at
from tallystick.core.periods import load_zone
from tallystick.ledger.operations import CREDIT, Grant
from tallystick.ledger.org_changes import SELF


def month_of(zone: str, now: datetime) -> str:
    """The month on the org's clocks, such as `2026-11`."""
    return window_at("month", zone, now).starts_at.astimezone(load_zone(zone)).strftime("%Y-%m")


def included_grant(plan: Plan | None, zone: str, now: datetime, given: str | None) -> Grant | None:
    """What the plan includes in the month that `now` falls in; None where it includes nothing, or it was given.

    Args:
        given: the last month that it was given for; None for none.
    """
    if plan is None or not plan.included_credits:
        return None
    month = month_of(zone, now)
    if month == given:
        return None
    return Grant(
        source="included",
        amount_pico=plan.included_credits * CREDIT,
        expires_at=window_at("month", zone, now).ends_at,
        period=month,
        author=SELF,
        reason=f"included in the plan {plan.name} for {month}",
    )
