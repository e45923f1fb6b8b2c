"""A day that costs far more than usual: against the org's own recent days, by statistics that odd days do not move.

What is usual is the median of the days before, of up to 28: of working days for a working day (Monday to Friday), of
weekends for a weekend, where there are at least 4 of that kind. How far days stray from it is their median absolute
deviation, MAD. What comes every week is usual, too: where at least 3 of the same day of the week are known, the day is
compared with these as well, and must be far above both. A day is a spike when it costs more than

    median + max(4 · 3/2 · MAD,  (times - 1) · median,  min_usd)

(3/2 MAD is about one standard deviation of days that stray normally.) All of it is whole pico-USD. The sum of a day
that is not over is compared as it stands, for it only grows: so a spike fires as soon as the day so far has passed what
a whole day may cost. What comes late for an old day is in that day's sum, and in no other's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from tallystick.alerts.model import Condition
from tallystick.alerts.preferences import Preferences
from tallystick.core.money import divide_half_even, pico_to_usd

HISTORY_DAYS = 28
_ALIKE_MIN = 4
_SAME_MIN = 3
_DRIVERS = 3
_STAYS_PERCENT = 90
_CRITICAL_TIMES = 3
_FRIDAY = 4


class Usual(NamedTuple):
    """What a day usually costs: the days it is known from, their median and MAD, and from what sum on it is a spike."""

    days: tuple[date, ...]
    median_pico: int
    mad_pico: int
    threshold_pico: int


class Driver(NamedTuple):
    """What a feature's use of a model cost on a day, and usually does."""

    feature: str
    model: str
    cost_pico: int
    usual_pico: int

    @property
    def increase_pico(self) -> int:
        """By how much it was more."""
        return self.cost_pico - self.usual_pico


def usual_of(day: date, first_day: date, costs_pico: Mapping[date, int], wanted: Preferences) -> Usual | None:
    """What a day like this usually costs; None while there are too few days to say.

    Args:
        day: the day that is looked at; its own cost plays no part.
        first_day: the org's first day with usage: days before it are none, later ones without cost are days of 0.
        costs_pico: by day.
    """
    since = max(first_day, day - timedelta(days=HISTORY_DAYS))
    days = [since + timedelta(days=place) for place in range((day - since).days)]
    if len(days) < wanted.spike_history_days:
        return None
    alike = [one for one in days if _is_weekend(one) == _is_weekend(day)]
    same = [one for one in days if one.weekday() == day.weekday()]
    found = [_usual(alike if len(alike) >= _ALIKE_MIN else days, costs_pico, wanted)]
    if len(same) >= _SAME_MIN:
        found.append(_usual(same, costs_pico, wanted))
    return max(found, key=lambda one: one.threshold_pico)


def _usual(chosen: Sequence[date], costs_pico: Mapping[date, int], wanted: Preferences) -> Usual:
    """What these days cost."""
    costs = [costs_pico.get(one, 0) for one in chosen]
    median = _median(costs)
    mad = _median([abs(cost - median) for cost in costs])
    times = wanted.spike_times - 1
    more = divide_half_even(median * times.numerator, times.denominator)
    return Usual(tuple(chosen), median, mad, median + max(6 * mad, more, wanted.spike_usd_pico))


def is_near(cost_pico: int, usual: Usual) -> bool:
    """Whether the sum is a spike, or so near to one that an alert stays."""
    return cost_pico * 100 > usual.threshold_pico * _STAYS_PERCENT


def drivers_of(days: Iterable[date], day: date, costs_pico: Iterable[tuple[date, str, str, int]]) -> tuple[Driver, ...]:
    """What the increase of a day comes from, largest first: at most three, and only what has grown.

    Args:
        days: those that say what is usual.
        day: the one that is looked at.
        costs_pico: day, feature, model and cost.
    """
    usual_days = set(days)
    today: dict[tuple[str, str], int] = {}
    before: dict[tuple[str, str], int] = {}
    for when, feature, model, cost in costs_pico:
        if when == day:
            today[feature, model] = today.get((feature, model), 0) + cost
        elif when in usual_days:
            before[feature, model] = before.get((feature, model), 0) + cost
    count = max(1, len(usual_days))
    found = [
        Driver(feature, model, cost, divide_half_even(before.get((feature, model), 0), count))
        for (feature, model), cost in today.items()
    ]
    grown = sorted(
        (one for one in found if one.increase_pico > 0), key=lambda one: (-one.increase_pico, one.feature, one.model)
    )
    return tuple(grown[:_DRIVERS])


def spend_condition(
    org_id: str, day: date, cost_pico: int, usual: Usual, drivers: Sequence[Driver], *, is_test: bool = False
) -> Condition | None:
    """Whether the day's sum so far is a spike; level 0 when it is just below."""
    if not is_near(cost_pico, usual):
        return None
    level = 0
    if cost_pico > usual.threshold_pico:
        beyond = usual.median_pico + _CRITICAL_TIMES * (usual.threshold_pico - usual.median_pico)
        level = 2 if cost_pico > beyond else 1
    increase = max(1, cost_pico - usual.median_pico)
    named = [(one, min(100, one.increase_pico * 100 // increase)) for one in drivers]
    listed = ", ".join(
        f"{one.feature or 'no feature'} with {one.model or 'no model'} ({share} %)" for one, share in named
    )
    return Condition(
        org_id=org_id,
        rule="spend_spike",
        subject=day.isoformat(),
        level=level,
        severity="critical" if level > 1 else "warning",
        summary=f"the requests of {day} have cost {_times(cost_pico, usual.median_pico)}"
        + (f"; most of the increase: {listed}" if listed else ""),
        figures={
            "day": day.isoformat(),
            "times_usual": _ratio(cost_pico, usual.median_pico),
            "usual_days": len(usual.days),
            "our_cost_usd": pico_to_usd(cost_pico),
            "our_usual_cost_usd": pico_to_usd(usual.median_pico),
            "our_deviation_usd": pico_to_usd(usual.mad_pico),
            "our_threshold_usd": pico_to_usd(usual.threshold_pico),
            "drivers": [_driver(one, share) for one, share in named],
        },
        next_step="see what was asked for: GET /v1/orgs/{org}/usage?by=feature,model, or "
        f"tally usage ORG --from {day} --to {day} --by feature,model",
        is_test=is_test,
    )


def _driver(driver: Driver, share: int) -> dict[str, Any]:
    return {
        "feature": driver.feature,
        "model": driver.model,
        "increase_percent": share,
        "our_cost_usd": pico_to_usd(driver.cost_pico),
        "our_usual_cost_usd": pico_to_usd(driver.usual_pico),
        "our_increase_usd": pico_to_usd(driver.increase_pico),
    }


def _ratio(cost_pico: int, median_pico: int) -> str | None:
    """How many times the usual, to one decimal place, rounded down; None when nothing is usual."""
    if not median_pico:
        return None
    tenths = cost_pico * 10 // median_pico
    return f"{tenths // 10}.{tenths % 10}"


def _times(cost_pico: int, median_pico: int) -> str:
    ratio = _ratio(cost_pico, median_pico)
    return (
        "far more than those of a usual day, which cost nothing"
        if ratio is None
        else f"{ratio} times those of a usual day"
    )


def _median(values: Sequence[int]) -> int:
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return divide_half_even(ordered[middle - 1] + ordered[middle], 2)


def _is_weekend(day: date) -> bool:
    return day.weekday() > _FRIDAY
