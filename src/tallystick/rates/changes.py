"""What differs between two versions of the rate card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal

from tallystick.rates.cardfile import CardVersion
from tallystick.rates.fold import Known, known_from
from tallystick.rates.source import Key
from tallystick.rates.timeline import BEGIN, END, NEVER, Price, Timeline, at, knots
from tallystick.usage.meters import meter_order


@dataclass(frozen=True, slots=True)
class PriceChange:
    """From `since` until `until`, one version knows the price `before` and the other `after`; None is no price."""

    key: Key
    since: datetime | None
    until: datetime | None
    before: Price | None
    after: Price | None

    @property
    def kind(self) -> Literal["added", "changed", "ended"]:
        if self.before is None:
            return "added"
        return "ended" if self.after is None else "changed"


@dataclass(frozen=True, slots=True)
class CardChanges:
    """Everything that differs: models that appeared, were given up by the source or came back, and prices."""

    models_added: tuple[tuple[str, str], ...]
    models_retired: tuple[tuple[str, str], ...]
    prices: tuple[PriceChange, ...]


def compare(before: Sequence[CardVersion], after: Sequence[CardVersion]) -> CardChanges:
    """What a chain of versions says that another does not; each is given from its first version on."""
    one, two = known_from(before, source=""), known_from(after, source="")
    listed_before, listed_after = _listed(one), _listed(two)
    return CardChanges(
        tuple(sorted(listed_after - listed_before)),
        tuple(sorted(listed_before - listed_after)),
        tuple(_price_changes(one, two)),
    )


def _listed(known: Known) -> set[tuple[str, str]]:
    return known.models.keys() - known.retired


def _price_changes(one: Known, two: Known) -> Iterator[PriceChange]:
    keys: Iterable[Key] = one.prices.keys() | two.prices.keys()
    for key in sorted(keys, key=lambda key: (key[0], key[1], key[3], meter_order(key[2]))):
        before, after = one.prices.get(key, NEVER), two.prices.get(key, NEVER)
        if before is not after and before != after:
            yield from _spans(key, before, after)


def _spans(key: Key, before: Timeline, after: Timeline) -> Iterator[PriceChange]:
    for since, until in pairwise([*sorted(knots(before, after)), END]):
        old, new = at(before, since), at(after, since)
        if old != new:
            yield PriceChange(key, None if since == BEGIN else since, None if until == END else until, old, new)
