"""The cases of a row group, and where the entries of each lie.

Where that is matters to the scalar pricing only at the edges of prices. A row group's statistics say between which
bounds all its rows lie; of a model whose prices have no edge between these, no row need be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tallystick.archive.lines import Bools, Int64s, read_shape
from tallystick.archive.replay_amounts import counts_every_line
from tallystick.archive.replay_cases import DAY_MINUTES, Box, Case, Cases, Edges
from tallystick.archive.replay_keys import Key, Ranges, Scratch, ranges
from tallystick.archive.row_group import RowGroup, Texts
from tallystick.usage.meters import PROMPT_METERS

CASE_TEXTS = Case._fields[:-1]
_OF_MODEL = CASE_TEXTS[:4]
"""What says which prices there are."""
_OF_ENTRY = CASE_TEXTS[4:]
_TIME, _PROMPT = "time", "prompt"
_PRICINGS_HELD = 65_536


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
        times: microseconds since 1970; wider than need be where nothing changes between.
        prompts: prompt sizes; so too.
        quantities: for a meter, the rows of the table that need its quantities, and these.
    """

    texts: list[Int64s]
    stated: Bools
    minutes: Ranges
    times: Ranges
    prompts: Ranges
    quantities: dict[str, tuple[Int64s, Ranges]]


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


class Pricing(NamedTuple):
    """What matters of a pricing here.

    Attributes:
        meters: those that it has lines of.
        needed: the meters whose quantities matter, besides the prompt.
        prompt_lines: how many lines count a part of the prompt.
        as_counted: whether a row that is not contradicted has just these parts, each with a quantity.
    """

    meters: frozenset[str]
    needed: frozenset[str]
    prompt_lines: int
    as_counted: bool


@lru_cache(maxsize=_PRICINGS_HELD)
def pricing_of(text: str, minimum_meters: frozenset[str]) -> Pricing:
    """What matters of a pricing; `minimum_meters`: see `scan`.

    Raises:
        ValueError: it is none.
    """
    shape = read_shape(text)
    if len(set(shape.meters)) < len(shape.meters):
        raise ValueError("a pricing names a meter twice")
    constants = zip(shape.meters, shape.quantities or (), strict=False)
    billed = {meter for meter, one in constants if one is not None}
    needed = frozenset(billed | (minimum_meters & set(shape.meters)))
    prompt_lines = sum(meter in PROMPT_METERS for meter in shape.meters)
    return Pricing(frozenset(shape.meters), needed, prompt_lines, counts_every_line(text))


class _Bounds(NamedTuple):
    """Between which times and prompt sizes all rows lie; `exact`: they say too little, rows must be looked at."""

    times: tuple[int, int]
    prompts: tuple[int, int]
    exact: bool

    @classmethod
    def of(cls, rows: RowGroup, meters: Sequence[str]) -> _Bounds:
        times = rows.bounds("time")
        parts = [rows.bounds(f"quantity.{meter}") for meter in meters if meter in PROMPT_METERS]
        prompts = sum(low for low, _ in parts), sum(high for _, high in parts)
        exact = times[0] < 0 or any(low < 0 for low, _ in parts) or prompts[1] >= 2**63
        return cls(times, prompts, exact)


class _Models(NamedTuple):
    """The models of some rows: for each row its model, for each model where its prices may change."""

    of_row: Int64s
    edges: list[Edges]

    def having(self, edges_of: Callable[[Edges], Sequence[int]], least: int, largest: int) -> Bools:
        """The models with an edge after `least`, and not after `largest`."""
        return np.array([any(least < edge <= largest for edge in edges_of(one)) for one in self.edges], np.bool_)


def table_of_cases(
    rows: RowGroup,
    regular: Int64s | None,
    meters: Sequence[str],
    cases: Cases,
    words: Words,
    pricings: Sequence[Pricing],
    scratch: Scratch,
) -> CaseTable:
    """The cases of the rows, or of some of them; `pricings`: those of the rows, in the order of their codes."""

    def of(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return column if regular is None else column[regular]

    texts = {name: rows.texts(name) for name in CASE_TEXTS}
    time = of(rows.numbers("time").values)
    key = Key(len(time), scratch)
    for name in _OF_MODEL:
        key.add(of(texts[name].codes), len(texts[name].texts))
    key.number()
    models = _models(key, {name: of(texts[name].codes) for name in _OF_MODEL}, texts, cases, scratch)
    minute_edges, place = _places_in_day(models, time, scratch)
    stated = rows.numbers("provider_cost_pico").nulls
    if stated is not None:
        stated = of(~stated)
        key.add(stated, 2)
    if place is not None:
        key.add(place, len(minute_edges) + 2)
    for name in _OF_ENTRY:
        key.add(of(texts[name].codes), len(texts[name].texts))
    key.number()
    examples = key.examples()
    codes = {name: of(texts[name].codes)[examples] for name in CASE_TEXTS}
    of_model, of_pricing = models.of_row[examples], codes["pricing"]

    around = _Bounds.of(rows, meters)
    asked = {
        _TIME: models.having(lambda one: one.times, *around.times)[of_model] | around.exact,
        _PROMPT: models.having(lambda one: one.prompts, *around.prompts)[of_model]
        | np.array([not one.as_counted for one in pricings], np.bool_)[of_pricing]
        | around.exact,
    }
    for meter in sorted(frozenset().union(*(one.needed for one in pricings))):
        asked[meter] = np.array([meter in one.needed for one in pricings], np.bool_)[of_pricing]

    def values_of(name: str, some: Int64s) -> npt.NDArray[Any]:
        some = some if regular is None else regular[some]
        if name == _PROMPT:
            return _prompt_sizes(rows, meters, some)
        return rows.numbers(_TIME if name == _TIME else f"quantity.{name}").values[some]

    exact = _exact_ranges(key, examples, asked, values_of)
    prompt_lines = np.array([one.prompt_lines for one in pricings], np.int64)[of_pricing]
    return CaseTable(
        [words.numbers(texts[name].texts)[codes[name]] for name in CASE_TEXTS],
        np.ones(key.size, dtype=np.bool_) if stated is None else stated[examples],
        _minutes(minute_edges, np.zeros(key.size, dtype=np.int64) if place is None else place[examples]),
        _filled(np.full(key.size, around.times[0]), np.full(key.size, around.times[1]), exact.pop(_TIME)),
        _filled(*_wide_prompts(prompt_lines, around), exact.pop(_PROMPT)),
        exact,
    )


def _models(
    key: Key, codes: Mapping[str, npt.NDArray[Any]], texts: Mapping[str, Texts], cases: Cases, scratch: Scratch
) -> _Models:
    """The models that a key numbers, which has nothing else in it."""
    of_row = scratch.array("model", len(key.numbers), np.int64)
    of_row[:] = key.numbers
    examples = key.examples()
    values = [[[*texts[name].texts, None][code] for code in codes[name][examples].tolist()] for name in _OF_MODEL]
    return _Models(of_row, [cases.edges_of_model(*one) for one in zip(*values, strict=True)])


def _places_in_day(
    models: _Models, time: Int64s, scratch: Scratch
) -> tuple[tuple[int, ...], npt.NDArray[np.int32] | None]:
    """The minutes at which some price may change, and between which of them each row lies; 0 where it is no matter."""
    minutes = tuple(sorted({minute for one in models.edges for minute in one.minutes}))
    if not minutes:
        return (), None
    place = scratch.array("place in day", len(time), np.int32)
    place[:] = 0
    some = np.flatnonzero(np.array([bool(one.minutes) for one in models.edges]).take(models.of_row))
    place[some] = 1 + np.searchsorted(minutes, time[some] // 60_000_000 % DAY_MINUTES, side="right")
    return minutes, place


def _minutes(edges: Sequence[int], places: npt.NDArray[Any]) -> Ranges:
    least = np.array([0, 0, *edges], dtype=np.int64)
    largest = np.array([DAY_MINUTES, *edges, DAY_MINUTES], dtype=np.int64) - 1
    return Ranges(least[places], largest[places])


def _exact_ranges(
    key: Key,
    examples: Int64s,
    asked: Mapping[str, Bools],
    values_of: Callable[[str, Int64s], npt.NDArray[Any]],
) -> dict[str, tuple[Int64s, Ranges]]:
    """For each name the keys that ask for it, and the ranges of their rows' values.

    Args:
        key: of the rows.
        examples: for each key a row.
        asked: for each name, which keys ask.
        values_of: the values of a name in some rows.
    """
    anything = np.logical_or.reduce(list(asked.values()))
    rows = np.flatnonzero(anything.take(key.numbers))
    keys = key.numbers[rows]
    found = {}
    for name, of_keys in asked.items():
        asking = np.flatnonzero(of_keys)
        places = np.empty(key.size, dtype=np.int64)
        places[asking] = np.arange(len(asking))
        some = np.flatnonzero(of_keys.take(keys)) if len(asking) else asking
        first = values_of(name, examples[asking])
        found[name] = asking, ranges(places[keys[some]], first, values_of(name, rows[some]))
    return found


def _filled(least: npt.NDArray[Any], largest: npt.NDArray[Any], known: tuple[Int64s, Ranges]) -> Ranges:
    """Ranges, with the known ones of some keys put in their places."""
    keys, exact = known
    if exact.least.dtype == object:
        least, largest = least.astype(object), largest.astype(object)
    least[keys], largest[keys] = exact
    return Ranges(least, largest)


def _wide_prompts(prompt_lines: Int64s, around: _Bounds) -> Ranges:
    """What prompt sizes the rows of each key may have, from the number of parts that a prompt has in its pricing."""
    low, high = (min(one, 2**63 - 1) for one in around.prompts)
    none = prompt_lines == 0
    least = np.where(none, 0, np.maximum(prompt_lines, low))
    return Ranges(least, np.where(none, 0, np.maximum(least, high)))


def _prompt_sizes(rows: RowGroup, meters: Sequence[str], some: Int64s) -> npt.NDArray[Any]:
    names = [f"quantity.{meter}" for meter in meters if meter in PROMPT_METERS]
    bounds = {name: rows.bounds(name) for name in names}
    columns: list[npt.NDArray[Any]] = [rows.numbers(name).values[some] for name in names if bounds[name] != (0, 0)]
    if sum(max(high, -low) for low, high in bounds.values()) >= 2**63:
        columns = [one.astype(object) for one in columns]
    total: npt.NDArray[Any] = np.zeros(len(some), dtype=np.int64)
    for one in columns:
        total = total + one
    return total


# ── several row groups ──────────────────────────────────────────────────────────────────────────────────────────────


def merged(tables: Sequence[CaseTable], words: Words) -> list[Part]:
    """The cases of several row groups, each between the same minutes once."""
    if not tables:
        return []
    texts, known = words.texts(), len(words.texts())
    codes = [np.concatenate(one) for one in zip(*(table.texts for table in tables), strict=True)]
    stated = np.concatenate([table.stated for table in tables])
    minutes = [np.concatenate([table.minutes[end] for table in tables]) for end in (0, 1)]
    key = Key(len(stated), Scratch())
    for one in codes:
        key.add(one, known)
    key.add(stated, 2)
    for one in minutes:
        key.add(one, DAY_MINUTES)
    key.number()
    examples = key.examples()
    times, prompts = (
        _merged_ranges(key.numbers, examples, of_tables)
        for of_tables in ([table.times for table in tables], [table.prompts for table in tables])
    )
    quantities = _merged_quantities(tables, key.numbers)
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
