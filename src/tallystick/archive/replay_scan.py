"""One pass over a row group: which cases its entries are of, where they lie, and whose amounts cannot be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tallystick.archive.lines import Bools, Int64s, Shape
from tallystick.archive.replay_amounts import contradicted
from tallystick.archive.replay_cases import DAY_MINUTES, Box, Case, Cases
from tallystick.archive.replay_keys import Key, Ranges, empty, ranges
from tallystick.archive.row_group import RowGroup, Texts
from tallystick.usage.meters import PROMPT_METERS

_CASE_TEXTS = Case._fields[:-1]
_OF_MODEL = _CASE_TEXTS[:4]
"""What says which prices there are."""
_OF_ENTRY = _CASE_TEXTS[4:]


class Part(NamedTuple):
    """Entries of one case, and where they lie."""

    case: Case
    box: Box


class CaseTable(NamedTuple):
    """Cases and where their entries lie, a row for each; texts as numbers of `Words`.

    Attributes:
        texts: for each text of a case its numbers.
        stated: whether the provider stated the cost.
        minutes: between which minutes of the day.
        times: microseconds since 1970.
        prompts: prompt sizes.
        quantities: for a meter, the rows of the table that need its quantities, and these.
    """

    texts: list[Int64s]
    stated: Bools
    minutes: Ranges
    times: Ranges
    prompts: Ranges
    quantities: dict[str, tuple[Int64s, Ranges]]


class Scanned(NamedTuple):
    """What a row group holds.

    Attributes:
        entries: how many wanted entries.
        irregular: how many of them have no pricing.
        cases: the cases of the others.
        contradicted: where in the file those stand whose amounts do not follow from quantities and prices.
    """

    entries: int
    irregular: int
    cases: CaseTable | None
    contradicted: Int64s


class Words:
    """Texts as numbers, the same ones in every row group; -1 for none. Several threads may ask."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._numbers: dict[str, int] = {}

    def numbers(self, texts: Iterable[str]) -> Int64s:
        """The numbers of texts, and -1 at the end, where a code of -1 finds it."""
        with self._lock:
            return np.array([*(self._numbers.setdefault(text, len(self._numbers)) for text in texts), -1], np.int64)

    def texts(self) -> list[str | None]:
        """All texts by number, and None at the end."""
        return [*self._numbers, None]


def scan_columns(meters: Sequence[str]) -> list[str]:
    """The columns that `scan` needs."""
    flat = [f"{what}.{meter}" for meter in meters for what in ("quantity", "amount")]
    return [*_CASE_TEXTS, "kind", "time", "cost_pico", "provider_cost_pico", *flat]


def scan(rows: RowGroup, meters: Sequence[str], cases: Cases, words: Words, minimum_meters: Collection[str]) -> Scanned:
    """Look at the wanted rows of a row group.

    Args:
        rows: with `scan_columns(meters)`.
        meters: the meters that the block has columns for.
        cases: knows pricings, and which prices depend on the time of day.
        words: gives the texts of cases their numbers.
        minimum_meters: the meters for which a request may be billed for more than it used.
    """
    pricing = rows.texts("pricing")
    regular = None if int(pricing.codes.min(initial=0)) >= 0 else np.flatnonzero(pricing.codes >= 0)
    irregular = 0 if regular is None else rows.count - len(regular)
    if irregular == rows.count:
        return Scanned(rows.count, irregular, None, np.empty(0, dtype=np.int64))
    shapes = [cases.shape(text) for text in pricing.texts]
    for shape in shapes:
        if not set(shape.meters) <= set(meters) or len(set(shape.meters)) < len(shape.meters):
            raise ValueError("a pricing names a meter twice, or one that the block does not have")
    bad = contradicted(rows, pricing, meters)
    if regular is not None:
        bad[pricing.codes < 0] = False
    needed = [_meters_with_ranges(shape, minimum_meters) for shape in shapes]
    table = _table(rows, regular, meters, cases, words, needed)
    return Scanned(rows.count, irregular, table, rows.places(bad))


def _table(
    rows: RowGroup,
    regular: Int64s | None,
    meters: Sequence[str],
    cases: Cases,
    words: Words,
    needed: Sequence[frozenset[str]],
) -> CaseTable:
    """The cases of the rows, or of some of them; `needed`: by pricing, the meters whose quantities matter."""

    def of(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return column if regular is None else column[regular]

    texts = {name: rows.texts(name) for name in _CASE_TEXTS}
    time = of(rows.numbers("time").values)
    key = Key(len(time))
    for name in _OF_MODEL:
        key.add(of(texts[name].codes), len(texts[name].texts))
    key.number()
    edges, place = _places_in_day(key, {name: of(texts[name].codes) for name in _OF_MODEL}, texts, cases, time)
    if place is not None:
        key.add(place, len(edges) + 2)
    stated = rows.numbers("provider_cost_pico").nulls
    if stated is not None:
        stated = of(~stated)
        key.add(stated, 2)
    for name in _OF_ENTRY:
        key.add(of(texts[name].codes), len(texts[name].texts))
    key.number()
    examples = key.examples()
    codes = {name: of(texts[name].codes)[examples] for name in _CASE_TEXTS}
    prompts = of(_prompt_sizes(rows, meters))
    asks = {meter: np.array([meter in one for one in needed]) for meter in sorted(frozenset().union(*needed))}
    return CaseTable(
        [words.numbers(texts[name].texts)[codes[name]] for name in _CASE_TEXTS],
        np.ones(key.size, dtype=np.bool_) if stated is None else stated[examples],
        _minutes(edges, np.zeros(key.size, dtype=np.int64) if place is None else place[examples]),
        ranges(key.values, time[examples], time),
        ranges(key.values, prompts[examples], prompts),
        {
            meter: _quantities(key.values, examples, of(rows.numbers(f"quantity.{meter}").values), of(one))
            for meter, one in ((meter, one.take(texts["pricing"].codes)) for meter, one in asks.items())
        },
    )


def _quantities(keys: Int64s, examples: Int64s, values: Int64s, asked: Bools) -> tuple[Int64s, Ranges]:
    """The keys whose rows ask for these values, and the values' ranges."""
    found = np.flatnonzero(asked[examples])
    places = np.empty(len(examples), dtype=np.int64)
    places[found] = np.arange(len(found))
    some = np.flatnonzero(asked)
    return found, ranges(places[keys[some]], values[examples[found]], values[some])


def _places_in_day(
    key: Key, codes: Mapping[str, npt.NDArray[Any]], texts: Mapping[str, Texts], cases: Cases, time: Int64s
) -> tuple[tuple[int, ...], Int64s | None]:
    """The minutes at which some price of the rows may change, and between which of them each row lies; 0 for no matter.

    Args:
        key: numbers the models of the rows.
        codes: by name, the rows' texts that are in the key.
        texts: what these codes mean.
        cases: knows where prices change.
        time: microseconds since 1970.
    """
    examples = key.examples()
    values = [[[*texts[name].texts, None][code] for code in codes[name][examples].tolist()] for name in _OF_MODEL]
    of_model = [cases.window_edges(*one) for one in zip(*values, strict=True)]
    edges = tuple(sorted(frozenset().union(*of_model)))
    if not edges:
        return (), None
    place = np.zeros(len(time), dtype=np.int64)
    some = np.flatnonzero(np.array([bool(one) for one in of_model])[key.values])
    place[some] = 1 + np.searchsorted(edges, time[some] // 60_000_000 % DAY_MINUTES, side="right")
    return edges, place


def _minutes(edges: Sequence[int], places: Int64s) -> Ranges:
    least = np.array([0, 0, *edges], dtype=np.int64)
    largest = np.array([DAY_MINUTES, *edges, DAY_MINUTES], dtype=np.int64) - 1
    return Ranges(least[places], largest[places])


def merged(tables: Sequence[CaseTable], words: Words) -> list[Part]:
    """The cases of several row groups, each between the same minutes once."""
    if not tables:
        return []
    texts, known = words.texts(), len(words.texts())
    codes = [np.concatenate(one) for one in zip(*(table.texts for table in tables), strict=True)]
    stated = np.concatenate([table.stated for table in tables])
    minutes = [np.concatenate([table.minutes[end] for table in tables]) for end in (0, 1)]
    key = Key(len(stated))
    for one in codes:
        key.add(one, known)
    key.add(stated, 2)
    for one in minutes:
        key.add(one, DAY_MINUTES)
    key.number()
    examples = key.examples()
    times, prompts = (
        _merged_ranges(key.values, examples, of_tables)
        for of_tables in ([table.times for table in tables], [table.prompts for table in tables])
    )
    quantities = _merged_quantities(tables, key.values)
    of_cases = [tuple(sorted(quantities.get(number, ()))) for number in range(key.size)]
    boxes = map(Box, *times, *prompts, of_cases, *(one[examples].tolist() for one in minutes))
    columns = [[texts[code] for code in one[examples].tolist()] for one in codes]
    every = zip(*columns, stated[examples].tolist(), strict=True)
    return [Part(Case(*values), box) for values, box in zip(every, boxes, strict=True)]


def _merged_ranges(keys: Int64s, examples: Int64s, tables: Sequence[Ranges]) -> tuple[list[int], list[int]]:
    least, largest = (np.concatenate([one[end] for one in tables]) for end in (0, 1))
    of_least, of_largest = (ranges(keys, one[examples], one) for one in (least, largest))
    return of_least.least.tolist(), of_largest.largest.tolist()


def _merged_quantities(tables: Sequence[CaseTable], numbers: Int64s) -> dict[int, list[tuple[str, int, int]]]:
    """For each merged case the meters that it needs, with their least and largest quantity."""
    found: dict[int, dict[str, tuple[int, int]]] = {}
    start = 0
    for table in tables:
        for meter, (places, ends) in table.quantities.items():
            mine = numbers[start + places].tolist()
            for number, low, high in zip(mine, ends.least.tolist(), ends.largest.tolist(), strict=True):
                of_case = found.setdefault(number, {})
                lower, higher = of_case.get(meter, (low, high))
                of_case[meter] = min(low, lower), max(high, higher)
        start += len(table.stated)
    return {number: [(meter, *ends) for meter, ends in of_case.items()] for number, of_case in found.items()}


def _meters_with_ranges(shape: Shape, minimum_meters: Collection[str]) -> frozenset[str]:
    """The meters whose quantities matter for the pricing, besides the prompt."""
    constants = zip(shape.meters, shape.quantities or (), strict=False)
    return frozenset({meter for meter, one in constants if one is not None} | (set(shape.meters) & set(minimum_meters)))


def _prompt_sizes(rows: RowGroup, meters: Sequence[str]) -> npt.NDArray[Any]:
    names = [f"quantity.{meter}" for meter in meters if meter in PROMPT_METERS]
    bounds = {name: rows.bounds(name) for name in names}
    columns: list[npt.NDArray[Any]] = [rows.numbers(name).values for name in names if bounds[name] != (0, 0)]
    if sum(max(high, -low) for low, high in bounds.values()) >= 2**63:
        columns = [one.astype(object) for one in columns]
    if len(columns) == 1:
        return columns[0]
    total: npt.NDArray[Any] = empty(rows.count)
    total[:] = 0
    for one in columns:
        total = np.add(total, one, out=None if one.dtype == object else total)
    return total
