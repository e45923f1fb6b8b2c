"""Credits that run out soon: how fast they were spent lately, against what is left and how long that lives.

The pace is what settlements charged on the last 7 UTC days, today so far included, by the time since the first of these
on which anything was charged, at least a day. What open holds keep is there still. What is left is spent lot after lot,
that which ends soonest first; what of a lot is not spent by its end is gone. When nothing is left is the projected
date. Who spends nothing runs out of nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from tallystick.alerts.model import Condition
from tallystick.alerts.preferences import Preferences
from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd

PACE_DAYS = 7
_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_DAY_US = _DAY // _MICROSECOND
_FURTHEST = timedelta(days=3660)


class Balance(NamedTuple):
    """A wallet.

    Attributes:
        lots: what is available of each lot of credits, in pico-credits, and its end; None where it has none.
        charged_pico: by UTC day, what was charged.
        refilled_at: when the plan's next credits come in; None when it includes none.
        held_pico: what open holds keep: it is charged soon, or is available again.
    """

    org_id: str
    lots: tuple[tuple[int, datetime | None], ...]
    charged_pico: Mapping[date, int]
    refilled_at: datetime | None = None
    is_test: bool = False
    held_pico: int = 0

    @property
    def available_pico(self) -> int:
        """What can be spent now."""
        return sum(amount for amount, _ in self.lots)


def pace_pico(charged_pico: Mapping[date, int], now: datetime) -> int:
    """Pico-credits a day, rounded down, from the last `PACE_DAYS`."""
    today = now.astimezone(UTC).date()
    days = {
        day: amount
        for day, amount in charged_pico.items()
        if amount > 0 and timedelta(0) <= today - day < timedelta(days=PACE_DAYS)
    }
    if not days:
        return 0
    since = max(_DAY, now - datetime.combine(min(days), time.min, UTC))
    return sum(days.values()) * _DAY_US // (since // _MICROSECOND)


def runs_out_at(lots: Iterable[tuple[int, datetime | None]], pace: int, now: datetime) -> tuple[datetime | None, int]:
    """When nothing is left at that pace, and how much ends unspent until then; None when that is ten years away.

    Args:
        lots: as `Balance.lots`.
        pace: pico-credits a day, above 0.
    """
    at, lost = now, 0
    never = datetime.max.replace(tzinfo=UTC)
    for amount, ends in sorted(lots, key=lambda lot: lot[1] or never):
        if amount * _DAY_US // pace > _FURTHEST // _MICROSECOND:
            spent_at = now + 2 * _FURTHEST
        else:
            spent_at = at + amount * _DAY_US // pace * _MICROSECOND
        if ends is not None and spent_at > ends:
            spent = max(0, (ends - at) // _MICROSECOND) * pace // _DAY_US
            lost += amount - spent
            spent_at = max(at, ends)
        at = spent_at
        if at - now > _FURTHEST:
            return None, lost
    return at, lost


def balance_condition(balance: Balance, now: datetime, wanted: Preferences) -> Condition | None:
    """Whether the credits run out soon; level 0 when they last a quarter longer than that, and no more."""
    pace = pace_pico(balance.charged_pico, now)
    there = balance.available_pico + balance.held_pico
    is_below = there < wanted.balance_pico
    lots = (*balance.lots, (balance.held_pico, None)) if balance.held_pico else balance.lots
    at, lost = runs_out_at(lots, pace, now) if pace else (None, 0)
    if at is not None and there and balance.refilled_at is not None and at >= balance.refilled_at:
        at = None  # the next month's credits are there by then
    left = None if at is None else at - now
    level = _level(left, there, is_below, wanted)
    if level is None:
        return None
    gone = "" if not lost else f", {_credits(lost)} of which end unspent"
    if not balance.available_pico:
        held = ", all of them held"
    else:
        held = f", {_credits(balance.held_pico)} of them held" if balance.held_pico else ""
    if not there:
        said = "no credits are left"
    elif at is None:
        said = f"{_credits(there)} are left{held}, fewer than the {_credits(wanted.balance_pico)} that are to be there"
    else:
        said = f"{_credits(there)} are left{held}{gone}; as they are spent now, they are gone on {at.date()}"
    return Condition(
        org_id=balance.org_id,
        rule="low_balance",
        subject="wallet",
        level=level,
        severity="critical" if level > 1 else "warning",
        summary=said,
        figures={
            "available_credits": pico_to_usd(balance.available_pico),
            "held_credits": pico_to_usd(balance.held_pico),
            "spent_credits_per_day": pico_to_usd(pace),
            "runs_out_at": None if at is None else format_instant(at.replace(microsecond=0)),
            "ends_unspent_credits": pico_to_usd(lost),
            "refilled_at": None if balance.refilled_at is None else format_instant(balance.refilled_at),
        },
        next_step="top up: tally credits grant ORG CREDITS, or POST /v1/orgs/{org}/grants",
        is_test=balance.is_test,
    )


def _level(left: timedelta | None, there: int, is_below: bool, wanted: Preferences) -> int | None:
    """2: within a day, or nothing is there; 1: within the days that are wanted; 0: within a quarter more."""
    if left is not None:
        if not there or left <= _DAY:
            return 2
        if left <= timedelta(days=wanted.balance_days):
            return 1
    if is_below:
        return 1
    soon = left is not None and left <= timedelta(days=wanted.balance_days) * 5 / 4
    barely = there * 4 < wanted.balance_pico * 5
    return 0 if soon or barely else None


def _credits(pico: int) -> str:
    whole, part = divmod(pico, 10**12)
    return f"{whole:,} credits" if not part or whole >= 100 else f"{pico_to_usd(pico)} credits"
