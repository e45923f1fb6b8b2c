"""What a provider's export says, in words that the ledger shares.

An export's figures are of *classes*: each is called as one of our meters, and covers the meters that the provider does
not tell apart (OpenAI's output tokens cover `tokens_out` and `reasoning_tokens`). Those of one provider never overlap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

DAY = timedelta(days=1)

Classes = Mapping[str, tuple[str, ...]]
"""The meters that each class covers."""


@dataclass(frozen=True, slots=True)
class ExportRow:
    """What an export says of a time, a model, or both.

    Attributes:
        start, end: half-open, in UTC.
        place: where it stands in the file, for messages.
        model: as the provider names it; None where the row is of none.
        item: what a cost is for, in the provider's words.
        quantities: by class; what is not stated is left out.
        requests: how many calls; None where that is not stated.
        cost_pico: in pico-USD, exactly as stated; None where it is not.
        step_pico: the smallest difference that the cost's digits can show.
        cost_of: the class that the cost is for; None where it is for all, or not told.
        project, api_key: whose; None where that is not stated.
        tier: `batch`, `flex`, `priority`, …; None for the standard one.
    """

    start: datetime
    end: datetime
    place: str
    model: str | None = None
    item: str | None = None
    quantities: Mapping[str, int] = field(default_factory=dict)
    requests: int | None = None
    cost_pico: Fraction | None = None
    step_pico: Fraction = Fraction(0)
    cost_of: str | None = None
    project: str | None = None
    api_key: str | None = None
    tier: str | None = None

    @property
    def day(self) -> date:
        """The UTC day that it begins in."""
        return self.start.date()


@dataclass(slots=True)
class Export:
    """One or several files of one provider, read.

    Attributes:
        classes: those that the rows may have.
        rows: what is said.
        buckets: the times that the export is of, also those of which it says nothing.
        notes: what was not read, or is worth knowing, a sentence each.
    """

    classes: Classes
    rows: list[ExportRow] = field(default_factory=list)
    buckets: set[tuple[datetime, datetime]] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @property
    def stated(self) -> set[str]:
        """The classes that some row states a quantity of."""
        return {name for row in self.rows for name in row.quantities}

    def days(self) -> list[date]:
        """The UTC days that it is of, in order."""
        found: set[date] = set()
        for start, end in self.buckets:
            day = start
            while day < end:
                found.add(day.date())
                day = day_start(day.date() + DAY)
        return sorted(found)

    def missing_of(self, day: date) -> timedelta:
        """How much of the day no bucket is of."""
        start = day_start(day)
        end, reached, missing = start + DAY, start, timedelta(0)
        for begins, ends in sorted(self.buckets):
            if ends <= reached or begins >= end:
                continue
            missing += max(begins - reached, timedelta(0))
            reached = min(max(reached, ends), end)
        return missing + (end - reached)


def day_start(day: date) -> datetime:
    """The day's first instant in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
