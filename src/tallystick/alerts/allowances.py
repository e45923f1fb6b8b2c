"""Limits and budgets: how far each is used in its window, and the levels at which somebody is told.

A window's alert begins at the first level, goes up level by level, each told once, and is resolved when the window is
over. It is about the window and the maximum: with a limit that is raised it is another one. Limits of minutes and hours
are no matter of alerts: they begin anew before anybody has read one, and decisions tell of them.
"""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import NamedTuple

from tallystick.alerts.model import Condition, Severity
from tallystick.core.instants import format_instant
from tallystick.core.money import format_decimal, pico_to_usd

WINDOWS = ("day", "week", "month")
_STAYS = Fraction(19, 20)
_WARNS_FROM = Fraction(4, 5)


class Allowance(NamedTuple):
    """A limit or a budget in its present window.

    Attributes:
        what: `limit` or `budget`.
        name: as the plan or the budget is called; it names no person.
        per: the window's length.
        kind: `hard`, it refuses, or `soft`.
        used, most: in the meters' units, of budgets in pico-USD.
        levels: shares of `most`, ascending.
        each: of a budget that is for each by itself, for each what; `used` is of the one who spent most.
    """

    org_id: str
    what: str
    name: str
    per: str
    kind: str
    used: int
    most: int
    starts_at: datetime
    ends_at: datetime
    levels: tuple[Fraction, ...]
    each: str | None = None
    is_test: bool = False


def allowance_condition(one: Allowance) -> Condition | None:
    """How far it is used; level 0 within a twentieth of the first level."""
    if one.most < 0 or one.used <= 0:
        return None
    share = Fraction(one.used, one.most) if one.most else Fraction(max(one.levels))
    level = sum(share >= wanted for wanted in one.levels)
    if not level and share < one.levels[0] * _STAYS:
        return None
    reached = one.levels[level - 1] if level else one.levels[0]
    percent = share.numerator * 100 // share.denominator
    figures: dict[str, object] = {
        "name": one.name,
        "kind": one.kind,
        "per": one.per,
        "used_percent": percent,
        "level_percent": format_decimal(reached * 100),
        "starts_at": format_instant(one.starts_at),
        "resets_at": format_instant(one.ends_at),
    }
    if one.what == "budget":
        figures |= {"used_usd": pico_to_usd(one.used), "max_usd": pico_to_usd(one.most), "each": one.each}
        of = f"{pico_to_usd(one.used)} of {pico_to_usd(one.most)} USD"
    else:
        figures |= {"used": str(one.used), "max": str(one.most)}
        of = f"{one.used:,} of {one.most:,}"
    whose = "" if one.each is None else f" by the {one.each.replace('_', ' ')} who spent most"
    return Condition(
        org_id=one.org_id,
        rule=one.what,
        subject=f"{one.name} {one.per} from {format_instant(one.starts_at)} max {one.most}",
        level=level,
        severity=_severity(reached, one.kind),
        summary=f"the {one.kind} {one.what} {one.name} is used to {percent} %{whose}: {of} this {one.per}"
        + _consequence(share, one),
        figures=figures,
        next_step=_next_step(one),
        is_test=one.is_test,
    )


def _severity(reached: Fraction, kind: str) -> Severity:
    if reached >= 1:
        return "critical" if kind == "hard" else "warning"
    return "warning" if reached >= _WARNS_FROM else "info"


def _consequence(share: Fraction, one: Allowance) -> str:
    if one.kind != "hard" or share < 1:
        return ""
    return f"; what would pass it is refused until {format_instant(one.ends_at)}"


def _next_step(one: Allowance) -> str:
    if one.what == "budget":
        return "see GET /v1/orgs/{org}/limits; set another maximum with tally budgets set, or wait for the next window"
    return "see GET /v1/orgs/{org}/limits; change the plan, or raise the limit for a time with tally overrides add"
