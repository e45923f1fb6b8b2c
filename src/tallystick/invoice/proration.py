"""Which days of a month belong to which plan: what a base fee and a commit are shared out by.

A day is one of the org's own clocks, from midnight to midnight, whatever daylight saving does to its length. It
belongs to the plan in force at its end: whoever changes plans pays the new one for the whole day, whoever joins pays
from the first day on. Only a day that nobody holds at its end belongs to the last plan that held some of it: whoever
leaves pays to the last day.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tallystick.core.periods import Period, load_zone


class Held(NamedTuple):
    """A half-open time [start, end) in which one plan was in force."""

    start: datetime
    end: datetime


def month_days(period: Period, zone: str) -> list[Held]:
    """The days of a calendar month on the clocks of `zone`, as instants in UTC: 28 to 31, one after another.

    A midnight that daylight saving skips or repeats is taken as that of the month itself is (`month_period`).
    """
    year, month = map(int, period.label.split("-"))
    first = datetime(year, month, 1, tzinfo=load_zone(zone))
    midnights = [first + timedelta(days=number) for number in range(31)]  # of the clock: no hour is added or taken
    begins = [midnight.astimezone(UTC) for midnight in midnights if midnight.month == month]
    return [Held(start, end) for start, end in zip(begins, [*begins[1:], period.end], strict=True)]


def owned_days(days: Sequence[Held], held: Sequence[Held]) -> list[int]:
    """How many of the days belong to each of the times `held`, which are in order and do not overlap."""
    counts = [0] * len(held)
    for day in days:
        begun = [place for place, one in enumerate(held) if one.start < day.end]
        if begun and held[begun[-1]].end > day.start:
            counts[begun[-1]] += 1
    return counts
