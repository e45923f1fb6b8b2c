"""What one side of a comparison has cost: by group, how many calls have cost just so much. Exact, and small.

A call is a request; with groups by action, the requests that were settled together are one call, and each of the others
is one by itself. What failed and used nothing is left out: it costs nothing, and would make the rest look cheap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

NO_NAME = "(none)"
"""The group of requests that name no feature, or no action."""


class Costs:
    """Costs of calls, in pico-USD: how many calls have cost how much."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: Counter[int] = Counter(counts or {})

    @property
    def calls(self) -> int:
        return self.counts.total()

    @property
    def total_pico(self) -> int:
        return sum(cost * count for cost, count in self.counts.items())

    @property
    def mean(self) -> Fraction | None:
        """The exact mean in pico-USD; None of no call."""
        return Fraction(self.total_pico, self.calls) if self.calls else None

    @property
    def median(self) -> Fraction | None:
        """The exact median in pico-USD: of an even number of calls, the mean of the two in the middle."""
        calls, passed = self.calls, 0
        if not calls:
            return None
        low = None
        for cost, count in sorted(self.counts.items()):
            passed += count
            if low is None and passed * 2 >= calls:
                low = cost
            if passed * 2 > calls:
                return Fraction((cost if low is None else low) + cost, 2)
        raise AssertionError("half of the calls are passed before the last one")


def dearer_share(candidate: Costs, baseline: Costs) -> Fraction | None:
    """In which part of all pairs of a candidate's call and a baseline's the candidate's costs more; ties count half.

    That is Mann and Whitney's U over the number of pairs: 1/2 where neither tends to cost more, and untouched by how
    much more a few dear calls cost. None where a side has no call.
    """
    if not candidate.calls or not baseline.calls:
        return None
    cheaper = doubled = 0
    theirs = sorted(baseline.counts.items())
    place = 0
    for cost, count in sorted(candidate.counts.items()):
        while place < len(theirs) and theirs[place][0] < cost:
            cheaper += theirs[place][1]
            place += 1
        ties = theirs[place][1] if place < len(theirs) and theirs[place][0] == cost else 0
        doubled += count * (2 * cheaper + ties)
    return Fraction(doubled, 2 * candidate.calls * baseline.calls)


class Request(NamedTuple):
    """A request of one side, or `calls` alike.

    Attributes:
        name: its feature or its action; None where it names none.
        provider, model: who was called.
        silent: it failed and used nothing.
        cost_pico: what it has cost; None where that is not known.
        request_id: where requests may have been settled together.
        calls: how many there are.
    """

    name: str | None
    provider: str | None
    model: str | None
    silent: bool
    cost_pico: int | None
    request_id: str | None = None
    calls: int = 1

    @property
    def model_name(self) -> str:
        return "/".join(filter(None, (self.provider, self.model))) or NO_NAME


class Sample:
    """One side: costs by group, models by group, requests without a price, and what was left out."""

    def __init__(self) -> None:
        self.groups: dict[str, Costs] = {}
        self.models: dict[str, Counter[str]] = {}
        self.unpriced: dict[str, Counter[str]] = {}
        self.failed = 0

    @property
    def calls(self) -> int:
        return sum(costs.calls for costs in self.groups.values())

    def add(self, request: Request) -> None:
        """Add requests, each a call of its own."""
        self.add_work([request])

    def add_work(self, requests: Sequence[Request]) -> None:
        """Add requests that were one call together; the first names the group."""
        ones = [one for one in requests if not one.silent]
        if not ones:
            self.failed += max((one.calls for one in requests), default=0)
            return
        group = ones[0].name or NO_NAME
        models = self.models.setdefault(group, Counter())
        for one in ones:
            models[one.model_name] += one.calls
        unknown = [one for one in ones if one.cost_pico is None]
        for one in unknown:
            self.unpriced.setdefault(group, Counter())[one.model_name] += one.calls
        if not unknown:
            cost = sum(one.cost_pico or 0 for one in ones)
            self.groups.setdefault(group, Costs()).counts[cost] += ones[0].calls

    def add_org(self, requests: Iterable[Request], works: Iterable[Iterable[str]]) -> None:
        """Add an org's requests, those that `works` name together as one call each.

        Args:
            requests: all of the org's, with their ids, one after the other: those that `works` do not name are not
                kept.
            works: the ids of the requests of each settlement; what is of no request here is passed over.
        """
        places: dict[str, tuple[int, int]] = {}
        for work, names in enumerate(works):
            for place, name in enumerate(names):
                places.setdefault(name, (work, place))
        together: dict[int, dict[int, Request]] = {}
        for one in requests:
            named = places.get(one.request_id or "")
            if named is None:
                self.add(one)
            else:
                together.setdefault(named[0], {})[named[1]] = one
        for found in together.values():
            self.add_work([found[place] for place in sorted(found)])
