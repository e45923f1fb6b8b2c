"""Days and slices: by what usage is added up, and when a day is over.

A day is one of UTC, [00:00, 24:00). It stays open for `OPEN_FOR` after its end: what is recorded until then belongs to
it as if it had been in time. What is recorded later is added to it all the same, for a total is of all there is, and
the day is *reopened*: by how much it changed since it was over is kept beside it.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

OPEN_FOR = timedelta(hours=6)
"""How long after its end a day takes late entries without being reopened."""


class Slice(NamedTuple):
    """Everything that usage is asked for by. What a request does not name is ''."""

    environment: str
    feature: str
    action: str
    provider: str
    model: str
    payer: str


class RequestSums(NamedTuple):
    """Requests of one org, day and slice.

    Attributes:
        requests: how many; those that failed are among them.
        failures, empty: how many failed, and how many worked and found nothing.
        unfinished: how many whose usage is partial or estimated.
        unpriced: how many whose cost is not known.
        cost_pico: the known cost in pico-USD.
        latency_ms, latency_requests: the time that requests took together, and how many said so.
    """

    requests: int = 0
    failures: int = 0
    empty: int = 0
    unfinished: int = 0
    unpriced: int = 0
    cost_pico: int = 0
    latency_ms: int = 0
    latency_requests: int = 0


class MeterSums(NamedTuple):
    """One meter of one org, day and slice: requests with any of it, its quantity, and its part of the known cost."""

    requests: int = 0
    quantity: int = 0
    cost_pico: int = 0


class OperationSlice(NamedTuple):
    """By what operations are added up; see the table `rollup_operations` for `reason`."""

    kind: str
    environment: str
    feature: str
    action: str
    reason: str


class OperationSums(NamedTuple):
    """How many operations, and the pico-credits that they charged, granted, gave back or ended."""

    operations: int = 0
    credits_pico: int = 0


class Reopened(NamedTuple):
    """By how much a day changed that was over: entries of it that were recorded on a later day.

    Attributes:
        entries: how many; the first and the last of them are `first_seq` and `last_seq`.
        requests, unpriced, cost_pico: what they add to the day.
    """

    entries: int
    first_seq: int
    last_seq: int
    requests: int = 0
    unpriced: int = 0
    cost_pico: int = 0


def day_of(instant: datetime) -> date:
    """The UTC day that an aware instant falls in."""
    return instant.astimezone(UTC).date()


def start_of(day: date) -> datetime:
    """The day's first instant, in UTC."""
    return datetime.combine(day, time.min, UTC)


def end_of(day: date) -> datetime:
    """When a UTC day is over: the next one's first instant, and of the calendar's last day its last instant."""
    return start_of(day + timedelta(days=1)) if day < date.max else datetime.max.replace(tzinfo=UTC)


def is_over_at(day: date) -> datetime:
    """From when on what is recorded reopens the day."""
    return start_of(day + timedelta(days=1)) + OPEN_FOR


def reopened_on(time_of_entry: datetime, recorded_at: datetime) -> date | None:
    """The UTC day of the recording when the entry reopens its day; None when its day was open."""
    return day_of(recorded_at) if recorded_at >= is_over_at(day_of(time_of_entry)) else None
