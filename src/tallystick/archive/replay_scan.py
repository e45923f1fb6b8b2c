"""One pass over a row group: which cases its entries are of, where they lie, and whose amounts cannot be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tallystick.archive.lines import Int64s, Shape
from tallystick.archive.replay_amounts import contradicted
from tallystick.archive.replay_cases import DAY_MINUTES, Box, Case, Cases
from tallystick.archive.row_group import RowGroup, Texts
from tallystick.usage.meters import PROMPT_METERS

_CASE_TEXTS = Case._fields[:-1]
_KEYS_MAX = 2**40


class Part(NamedTuple):
    """Entries of one case, and where they lie."""

    case: Case
    box: Box


class Scanned(NamedTuple):
    """What a row group holds.

    Attributes:
        entries: how many wanted entries.
        irregular: how many of them have no pricing.
        parts: the cases of the others.
        contradicted: where in the file those stand whose amounts do not follow from quantities and prices.
    """

    entries: int
    irregular: int
    parts: list[Part]
    contradicted: Int64s


def scan_columns(meters: Sequence[str]) -> list[str]:
    """The columns that `scan` needs."""
    flat = [f"{what}.{meter}" for meter in meters for what in ("quantity", "amount")]
    return [*_CASE_TEXTS, "kind", "time", "cost_pico", "provider_cost_pico", *flat]


def scan(rows: RowGroup, meters: Sequence[str], cases: Cases, minimum_meters: Collection[str]) -> Scanned:
    """Look at the wanted rows of a row group.

    Args:
        rows: with `scan_columns(meters)`.
        meters: the meters that the block has columns for.
        cases: knows pricings, and which prices depend on the time of day.
        minimum_meters: the meters for which a request may be billed for more than it used.
    """
    texts = {name: rows.texts(name) for name in _CASE_TEXTS}
    pricing = texts["pricing"]
    regular = np.flatnonzero(pricing.codes >= 0)
    if not len(regular):
        return Scanned(rows.count, rows.count, [], np.empty(0, dtype=np.int64))
    shapes = [cases.shape(text) for text in pricing.texts]
    for shape in shapes:
        if not set(shape.meters) <= set(meters) or len(set(shape.meters)) < len(shape.meters):
            raise ValueError("a pricing names a meter twice, or one that the block does not have")
    bad = contradicted(rows, pricing.codes, shapes, meters)
    bad[pricing.codes < 0] = False
    found = _Grouping(rows, texts, regular, cases).parts(rows, meters, cases.shape, minimum_meters)
    return Scanned(rows.count, rows.count - len(regular), found, rows.places[bad])


class _Grouping:
    """Rows sorted by case, those of one case split where the time of day may matter."""

    def __init__(self, rows: RowGroup, texts: dict[str, Texts], regular: Int64s, cases: Cases) -> None:
        stated = ~rows.numbers("provider_cost_pico").is_null()
        key: Int64s = stated.astype(np.int64)
        width = 2
        for name in _CASE_TEXTS:
            column = texts[name]
            width *= len(column.texts) + 1
            if width >= _KEYS_MAX:
                key = _numbered(key)
                width = (int(key.max()) + 1) * (len(column.texts) + 1)
            key *= len(column.texts) + 1
            key += column.codes  # -1 where it is null
            key += 1
        key = _numbered(key if len(regular) == rows.count else key[regular])
        examples = regular[_first(key)]
        named = [[*column.texts, None] for column in texts.values()]  # a code of -1 is null
        codes = [column.codes[examples].tolist() for column in texts.values()]
        values = [[names[code] for code in ones] for names, ones in zip(named, codes, strict=True)]
        self.cases = [Case(*one) for one in zip(*values, stated[examples].tolist(), strict=True)]
        edges = [cases.window_edges(case) for case in self.cases]
        self.edges: tuple[int, ...] = tuple(sorted(set().union(*edges)))
        if self.edges:
            time = rows.numbers("time").values[regular]
            key = self._split_by_minute(key, np.array([bool(one) for one in edges]), time)
        self.order = regular[_sorted_places(key)]
        self.sizes = np.bincount(key)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])

    def _split_by_minute(self, key: Int64s, windowed: npt.NDArray[np.bool_], time: Int64s) -> Int64s:
        rows = np.flatnonzero(windowed[key])
        place = np.zeros(len(key), dtype=np.int64)
        place[rows] = 1 + np.searchsorted(self.edges, time[rows] // 60_000_000 % DAY_MINUTES, side="right")
        split = _numbered(key * (len(self.edges) + 2) + place)
        first = _first(split)
        self.cases = [self.cases[code] for code in key[first].tolist()]
        self.minutes = [self._minutes(one) for one in place[first].tolist()]
        return split

    def _minutes(self, place: int) -> tuple[int, int]:
        if not place:
            return 0, DAY_MINUTES - 1
        bounds = (0, *self.edges, DAY_MINUTES)
        return bounds[place - 1], bounds[place] - 1

    def parts(
        self,
        rows: RowGroup,
        meters: Sequence[str],
        shape_of: Callable[[str], Shape],
        minimum_meters: Collection[str],
    ) -> list[Part]:
        """Each case with its box."""
        texts = {case.pricing or "" for case in self.cases}
        needed = {text: _meters_with_ranges(shape_of(text), minimum_meters) for text in texts}
        wanted = [needed[case.pricing or ""] for case in self.cases]
        ranges = {
            meter: self._range(rows.numbers(f"quantity.{meter}").values) for meter in sorted({*chain(*needed.values())})
        }
        times = self._range(rows.numbers("time").values)
        prompts = self._range(_prompt_sizes(rows, meters))
        found = []
        for code, case in enumerate(self.cases):
            quantities = tuple(
                (meter, ranges[meter][0][code], ranges[meter][1][code]) for meter in sorted(wanted[code])
            )
            minutes = self.minutes[code] if self.edges else (0, DAY_MINUTES - 1)
            box = Box(times[0][code], times[1][code], prompts[0][code], prompts[1][code], quantities, *minutes)
            found.append(Part(case, box))
        return found

    def _range(self, values: npt.NDArray[Any]) -> tuple[list[int], list[int]]:
        """The least and the largest value of each case."""
        ordered = values[self.order]
        least, largest = np.minimum.reduceat(ordered, self.starts), np.maximum.reduceat(ordered, self.starts)
        return least.tolist(), largest.tolist()


def merged(parts: Iterable[Part]) -> list[Part]:
    """The parts of each case, between the same minutes, as one."""
    found: dict[tuple[Case, int, int], Box] = {}
    for case, box in parts:
        key = (case, box.minute_min, box.minute_max)
        other = found.get(key)
        found[key] = box if other is None or other == box else _around(box, other)
    return [Part(case, box) for (case, _, _), box in found.items()]


def _around(one: Box, other: Box) -> Box:
    quantities = tuple(
        (meter, min(low, lower), max(high, higher))
        for (meter, low, high), (_, lower, higher) in zip(one.quantities, other.quantities, strict=True)
    )
    return Box(
        min(one.time_min, other.time_min),
        max(one.time_max, other.time_max),
        min(one.prompt_min, other.prompt_min),
        max(one.prompt_max, other.prompt_max),
        quantities,
        one.minute_min,
        one.minute_max,
    )


def _meters_with_ranges(shape: Shape, minimum_meters: Collection[str]) -> list[str]:
    """The meters whose quantities matter for the pricing, besides the prompt."""
    constants = zip(shape.meters, shape.quantities or (), strict=False)
    return sorted({meter for meter, one in constants if one is not None} | (set(shape.meters) & set(minimum_meters)))


def _prompt_sizes(rows: RowGroup, meters: Sequence[str]) -> npt.NDArray[Any]:
    columns = [rows.numbers(f"quantity.{meter}").values for meter in meters if meter in PROMPT_METERS]
    if sum(max(int(one.max(initial=0)), -int(one.min(initial=0))) for one in columns) >= 2**63:
        columns = [one.astype(object) for one in columns]
    total: npt.NDArray[Any] = np.zeros(rows.count, dtype=np.int64)
    for one in columns:
        total = total + one
    return total


def _numbered(key: Int64s) -> Int64s:
    """The keys as numbers from 0, in the order in which they come first."""
    codes: Int64s = pa.array(key).dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def _first(key: Int64s) -> Int64s:
    """Where each number of a key comes first."""
    first = np.empty(int(key.max()) + 1, dtype=np.int64)
    first[key[::-1]] = np.arange(len(key) - 1, -1, -1)
    return first


def _sorted_places(key: Int64s) -> Int64s:
    """The permutation that sorts a key; numpy sorts 16-bit ones by counting, ten times faster."""
    small = key.astype(np.int16) if int(key.max()) < 2**15 else key
    return np.argsort(small, kind="stable")
