"""A price through time: a step function over all instants, from the first to the last.

A `Timeline` is a sorted tuple of (since, price) steps. The first step begins at `BEGIN`; a step holds until
the next one begins; a price of None says that there is none. Equal neighbours are always merged, so that
two timelines are equal exactly when they say the same about every instant.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

BEGIN = datetime.min.replace(tzinfo=UTC)
END = datetime.max.replace(tzinfo=UTC)


class Flat(NamedTuple):
    """A price at one moment: per `per` units, `price_pico` each, or another above each tier's prompt size."""

    price_pico: int
    tiers: tuple[tuple[int, int], ...] = ()


class Price(NamedTuple):
    """Everything one key costs at one date: all day, and at times of day where that differs."""

    per: int
    day: Flat | None
    windows: tuple[tuple[str, Flat], ...] = ()
    quantity_min: int = 0


Timeline = tuple[tuple[datetime, Price | None], ...]

NEVER: Timeline = ((BEGIN, None),)


def merged(steps: Iterable[tuple[datetime, Price | None]]) -> Timeline:
    """Sorted steps as a timeline, equal neighbours merged."""
    out: list[tuple[datetime, Price | None]] = []
    for since, price in steps:
        if not out or out[-1][1] != price:
            out.append((since, price))
    return tuple(out)


def at(timeline: Timeline, instant: datetime) -> Price | None:
    """The price in force at that instant."""
    return timeline[bisect_right(timeline, instant, key=_since) - 1][1]


def _since(step: tuple[datetime, Price | None]) -> datetime:
    return step[0]


def combine(knots: Iterable[datetime], price_at: Callable[[datetime], Price | None]) -> Timeline:
    """The timeline of a function that changes at most at `knots`."""
    return merged((knot, price_at(knot)) for knot in sorted({BEGIN, *knots}))


def knots(*timelines: Timeline) -> set[datetime]:
    """Every instant at which one of the timelines changes."""
    return {since for timeline in timelines for since, _ in timeline}


def segments(timeline: Timeline) -> Iterable[tuple[datetime, datetime, Price | None]]:
    """(since, until, price) for each step."""
    ends = [since for since, _ in timeline[1:]] + [END]
    for (since, price), until in zip(timeline, ends, strict=True):
        yield since, until, price
