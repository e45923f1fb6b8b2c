"""Whether amounts follow from quantities and prices: a row group of a block at a time, as arrays.

For each row this holds, or the row is named:

    every amount is the quantity times the price of the row's pricing, rounded half to even where `per` does not divide
    a quantity without a line, and an amount without one, is zero; an amount is null where the line has no price
    the amounts add up to the cost; there is no cost where the entry is unpriced, and else there is one
    what the provider stated is the cost, and the adjustment that leads there is not zero

That the prices are the card's is not asked here (`archive.replay_cases`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tallystick.archive.lines import OWN_AMOUNT, Bools, Int64s, Shape
from tallystick.core.money import divide_half_even
from tallystick.rates.pricing import ADJUSTMENT

_BITS = 2**63
_SLICE_ROWS = 16_384  # what is computed in between stays in the processor's cache
_DICTIONARIES = ("pricing", "status", "kind")


class _Line(NamedTuple):
    """How the line of one meter in one pricing is computed: (quantity × price, divided by `per`) + fixed."""

    price: int = 0
    per: int = 1
    fixed: int = 0
    unpriced: bool = False
    skipped: bool = False
    """No amount can be so; the scalar pricing will say what is wrong."""


_NO_LINE = _Line(price=1)


def contradicted_rows(main: Path, group: int, meters: Sequence[str], shape_of: Callable[[str], Shape]) -> Int64s:
    """The places in the file of the rows of a row group in which an amount, a total or a quantity cannot be.

    Args:
        main: a block's own file.
        group: the number of a row group.
        meters: the meters that have columns.
        shape_of: reads a pricing.
    """
    flat = [f"{what}.{meter}" for meter in meters for what in ("quantity", "amount")]
    with pq.ParquetFile(main, read_dictionary=list(_DICTIONARIES), memory_map=True) as file:
        start = sum(file.metadata.row_group(number).num_rows for number in range(group))
        columns = [*_DICTIONARIES, "cost_pico", "provider_cost_pico", *flat]
        rows = file.read_row_group(group, columns=columns, use_threads=False)
    texts, codes = _dictionary(rows, "pricing")
    if not texts:  # there are irregular rows only
        return np.empty(0, dtype=np.int64)
    shapes = [shape_of(text) for text in texts]
    bad = _is_not(rows, "kind", "usage")
    unpriced = ~_is_not(rows, "status", "unpriced")
    adjusted = np.array([ADJUSTMENT in shape.meters for shape in shapes])
    pricings = [_Meter.of(shapes, meter) for meter in meters if meter != ADJUSTMENT]
    numbers = {name: _numbers(rows, name) for name in ("cost_pico", "provider_cost_pico", *flat)}
    for begin in range(0, rows.num_rows, _SLICE_ROWS):
        here = slice(begin, begin + _SLICE_ROWS)
        taken = {name: column.part(here) for name, column in numbers.items()}
        mine, wrong = codes[here], bad[here]
        total = _Total(len(mine))
        for pricing in pricings:
            quantity, amount = taken[f"quantity.{pricing.meter}"], taken[f"amount.{pricing.meter}"]
            if pricing.check(mine, quantity.values, amount, wrong):
                total.add(amount.values)
        adjustment = np.zeros(len(mine), dtype=np.int64)
        if ADJUSTMENT in meters:
            adjustment = taken[f"amount.{ADJUSTMENT}"].values
            wrong |= taken[f"quantity.{ADJUSTMENT}"].values != 0
            total.add(adjustment)
        wrong |= (adjustment != 0) != adjusted[mine]
        cost, stated = taken["cost_pico"], taken["provider_cost_pico"]
        wrong |= cost.is_null() != unpriced[here]
        wrong |= ~unpriced[here] & (total.values != cost.values)
        wrong |= ~stated.is_null() & (stated.values != cost.values)
    found: Int64s = np.flatnonzero(bad & (codes >= 0)) + start
    return found


class _Column(NamedTuple):
    """A column's numbers, 0 where it is null, and where it is; None for nowhere."""

    values: Int64s
    nulls: Bools | None

    def part(self, here: slice) -> _Column:
        return _Column(self.values[here], None if self.nulls is None else self.nulls[here])

    def is_null(self) -> Bools:
        return np.zeros(len(self.values), dtype=np.bool_) if self.nulls is None else self.nulls


class _Meter(NamedTuple):
    """How the amounts of one meter come to be, by pricing."""

    meter: str
    lines: tuple[_Line, ...]
    units: Int64s
    """What one of it costs; 1 where there is no line, so that a quantity and an amount of zero agree, and no others."""
    fixed: Int64s | None
    unpriced: Bools | None

    @classmethod
    def of(cls, shapes: Sequence[Shape], meter: str) -> _Meter:
        lines = tuple(_line(shape, meter) for shape in shapes)
        units = np.array(
            [line.price // line.per if line.price % line.per == 0 else 0 for line in lines], dtype=np.int64
        )
        fixed = np.array([line.fixed for line in lines], dtype=np.int64)
        unpriced = np.array([line.unpriced for line in lines])
        return cls(meter, lines, units, fixed if fixed.any() else None, unpriced if unpriced.any() else None)

    def check(self, codes: Int64s, quantity: Int64s, amount: _Column, bad: Bools) -> bool:
        """Mark the rows whose quantity or amount cannot be; whether there is any quantity or amount at all."""
        largest = int(quantity.max(initial=0))
        if (
            not largest
            and amount.nulls is None
            and self.fixed is None
            and not amount.values.any()
            and not quantity.any()
        ):
            return False
        if int(quantity.min(initial=0)) < 0:
            bad |= quantity < 0
        units = self.units[codes]
        numbers: npt.NDArray[Any] = quantity
        if largest * int(self.units.max()) + (0 if self.fixed is None else int(self.fixed.max())) >= _BITS:
            numbers = quantity.astype(object)
        product = numbers * units
        if self.fixed is not None:
            product = product + self.fixed[codes]
        contradicts = product != amount.values
        if self.unpriced is not None:
            contradicts = np.where(self.unpriced[codes], ~amount.is_null(), contradicts | amount.is_null())
        elif amount.nulls is not None:
            contradicts |= amount.nulls
        for code, line in enumerate(self.lines):
            if line.skipped:
                contradicts[codes == code] = False
            elif line.price % line.per:
                at = np.flatnonzero(codes == code)
                contradicts[at] = amount.is_null()[at] | (_divided(quantity[at], line) != amount.values[at])
        bad |= contradicts
        return True


def _divided(quantity: Int64s, line: _Line) -> npt.NDArray[Any]:
    """Quantity × price / per, half to even."""
    common = gcd(line.price, line.per)
    price, per = line.price // common, line.per // common
    numbers: npt.NDArray[Any] = quantity
    if int(quantity.max(initial=0)) * price >= _BITS:
        numbers = quantity.astype(object)
    result, rest = numbers * price // per, numbers * price % per
    up: npt.NDArray[Any] = (2 * rest > per) | ((2 * rest == per) & (result % 2 == 1))
    divided: npt.NDArray[Any] = result + up
    return divided


def _line(shape: Shape, meter: str) -> _Line:
    if meter not in shape.meters:
        return _NO_LINE
    index = shape.meters.index(meter)
    price, per = shape.price_pico[index], shape.per[index]
    constant = shape.quantities[index] if shape.quantities else None
    # A line with a constant quantity says nothing of what was counted; cases look at that.
    if price is None:
        return _Line(unpriced=True)
    if price == OWN_AMOUNT or not isinstance(price, int) or not per or per < 0 or not 0 <= price < _BITS:
        return _Line(skipped=True)
    if constant is not None:
        return _Line(fixed=divide_half_even(constant * price, per), skipped=constant < 0)
    return _Line(price, per)


class _Total:
    """Amounts added up, in 64 bits as long as they suffice for certain."""

    def __init__(self, count: int) -> None:
        self.values: npt.NDArray[Any] = np.zeros(count, dtype=np.int64)
        self._largest = 0

    def add(self, amount: Int64s) -> None:
        """Add a meter's amounts."""
        self._largest += max(int(amount.max(initial=0)), -int(amount.min(initial=0)))
        if self._largest >= _BITS and self.values.dtype != object:
            self.values = self.values.astype(object)
        self.values = self.values + amount


def _numbers(rows: pa.Table, name: str) -> _Column:
    column = rows.column(name)
    column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if not column.null_count:
        return _Column(column.to_numpy(), None)
    return _Column(column.fill_null(0).to_numpy(), column.is_null().to_numpy(zero_copy_only=False))


def _dictionary(rows: pa.Table, name: str) -> tuple[list[str], Int64s]:
    """The texts of a column, and for each row which one it has; -1 for null."""
    column = rows.column(name)
    column = column.chunk(0) if column.num_chunks == 1 else column.unify_dictionaries().combine_chunks()
    return column.dictionary.to_pylist(), column.indices.fill_null(-1).to_numpy().astype(np.int64)


def _is_not(rows: pa.Table, name: str, text: str) -> Bools:
    texts, codes = _dictionary(rows, name)
    return np.array([*(one != text for one in texts), True])[codes]
