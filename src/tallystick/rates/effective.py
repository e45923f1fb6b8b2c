"""What a model costs through time, span by span, with the version each price comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from tallystick.rates.cardfile import RateLine, window_minutes
from tallystick.rates.model import DailyWindow, RateRow, RateTier
from tallystick.rates.plan import Context, VersionedLine
from tallystick.rates.timeline import BEGIN, END
from tallystick.usage.meters import meter_order


class EffectiveRow(NamedTuple):
    """A price with the span in which it prevails (`row.valid_from` to `row.valid_to`) and its version's ordinal."""

    row: RateRow
    ordinal: int


def effective_rows(lines: Sequence[VersionedLine]) -> list[EffectiveRow]:
    """The rows of one model, each cut to where no later version overlays it; sorted for reading."""
    by_key: dict[tuple[Context, str], list[VersionedLine]] = {}
    for ordinal, line in lines:
        by_key.setdefault((tuple(sorted(line.context.items())), line.meter), []).append((ordinal, line))
    ordered = sorted(by_key.items(), key=lambda item: (item[0][0], meter_order(item[0][1])))
    return [row for _, group in ordered for row in _of_one_key(group)]


def _of_one_key(lines: list[VersionedLine]) -> Iterable[EffectiveRow]:
    edges = sorted({BEGIN, END, *(edge for _, line in lines for edge in _span(line))})
    spans: list[tuple[datetime, datetime, int, list[RateLine]]] = []
    for since, until in pairwise(edges):
        valid = [(ordinal, line) for ordinal, line in lines if _span(line)[0] <= since < _span(line)[1]]
        if not valid:
            continue
        latest = max(ordinal for ordinal, _ in valid)
        group = [line for ordinal, line in valid if ordinal == latest]
        if spans and spans[-1][1] == since and spans[-1][2:] == (latest, group):
            spans[-1] = (spans[-1][0], until, latest, group)
        else:
            spans.append((since, until, latest, group))
    for since, until, ordinal, group in spans:
        for line in group:
            if line.price_pico is not None:
                yield EffectiveRow(_row(line, since, until), ordinal)


def _span(line: RateLine) -> tuple[datetime, datetime]:
    return line.valid_from or BEGIN, line.valid_to or END


def _row(line: RateLine, since: datetime, until: datetime) -> RateRow:
    return RateRow(
        provider=line.provider,
        model=line.model,
        meter=line.meter,
        context=tuple(sorted(line.context.items())),
        per=line.per,
        price_pico=line.price_pico,
        tiers=tuple(RateTier(above, price) for above, price in line.tiers),
        window=None if line.window is None else DailyWindow(*window_minutes(line.window)),
        valid_from=None if since == BEGIN else since,
        valid_to=None if until == END else until,
        quantity_min=line.quantity_min,
    )
