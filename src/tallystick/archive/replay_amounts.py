"""Whether amounts follow from quantities and prices: a row group of a block at a time, as arrays.

For each row this holds, or the row is named:

    every amount is the quantity times the price of the row's pricing, rounded half to even where `per` does not divide
    a quantity without a line, and an amount without one, is zero; an amount is null where the line has no price
    the amounts add up to the cost; there is no cost where the entry is unpriced, and else there is one
    what the provider stated is the cost, and the adjustment that leads there is not zero

That the prices are the card's is not asked here (`archive.replay_cases`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tallystick.archive.lines import OWN_AMOUNT, Bools, Int64s, Shape
from tallystick.archive.row_group import Codes, Numbers, RowGroup
from tallystick.core.money import divide_half_even
from tallystick.rates.pricing import ADJUSTMENT

_BITS = 2**63
_SLICE_ROWS = 32_768  # what is computed in between stays in the processor's cache


class _Line(NamedTuple):
    """How the line of one meter in one pricing is computed: (quantity × price, divided by `per`) + fixed."""

    price: int = 0
    per: int = 1
    fixed: int = 0
    unpriced: bool = False
    skipped: bool = False
    """No amount can be so; the scalar pricing will say what is wrong."""


_NO_LINE = _Line(price=1)


def contradicted(rows: RowGroup, codes: Codes, shapes: Sequence[Shape], meters: Sequence[str]) -> Bools:
    """The rows in which an amount, a total or a quantity cannot be.

    Args:
        rows: with the columns of the meters, and those of cost, status and kind.
        codes: for each row, the index of its pricing in `shapes`; of a negative one nothing is said.
        shapes: the pricings.
        meters: the meters that have columns.
    """
    bad, unpriced = rows.texts("kind").is_not("usage"), ~rows.texts("status").is_not("unpriced")
    adjusted = np.array([ADJUSTMENT in shape.meters for shape in shapes])
    pricings = [_Meter.of(shapes, meter) for meter in meters if meter != ADJUSTMENT]
    flat = [f"{what}.{meter}" for meter in meters for what in ("quantity", "amount")]
    numbers = {name: rows.numbers(name) for name in ("cost_pico", "provider_cost_pico", *flat)}
    for begin in range(0, rows.count, _SLICE_ROWS):
        here = slice(begin, begin + _SLICE_ROWS)
        taken = {name: column.part(here) for name, column in numbers.items()}
        mine, wrong = codes[here], bad[here]
        total = _Total(len(mine))
        for pricing in pricings:
            quantity, amount = taken[f"quantity.{pricing.meter}"], taken[f"amount.{pricing.meter}"]
            pricing.check(mine, quantity.values, amount, total, wrong)
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
    return bad


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

    def check(self, codes: Codes, quantity: Int64s, amount: Numbers, total: _Total, bad: Bools) -> None:
        """Mark the rows whose quantity or amount cannot be, and add the amounts to the total."""
        if self.fixed is None:
            used = quantity | amount.values
            places = np.flatnonzero(used if amount.nulls is None else (used != 0) | amount.nulls)
            if len(places) < len(codes) // 2:  # zero quantities cost nothing: most meters are in few rows
                if len(places):
                    nulls = None if amount.nulls is None else amount.nulls[places]
                    few = Numbers(amount.values[places], nulls)
                    bad[places] |= self._contradicts(codes[places], quantity[places], few)
                    total.add(few.values, places)
                return
        bad |= self._contradicts(codes, quantity, amount)
        total.add(amount.values)

    def _contradicts(self, codes: Codes, quantity: Int64s, amount: Numbers) -> Bools:
        largest = int(quantity.max()) * int(self.units.max()) + (0 if self.fixed is None else int(self.fixed.max()))
        numbers: npt.NDArray[Any] = quantity if largest < _BITS else quantity.astype(object)
        product = numbers * self.units.take(codes, mode="wrap")
        if self.fixed is not None:
            product = product + self.fixed.take(codes, mode="wrap")
        contradicts: Bools = product != amount.values
        if int(quantity.min()) < 0:
            contradicts |= quantity < 0
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
        return contradicts


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

    def add(self, amount: Int64s, places: Int64s | None = None) -> None:
        """Add a meter's amounts; of the rows at `places`, or of all."""
        self._largest += max(int(amount.max()), -int(amount.min()))
        if self._largest >= _BITS and self.values.dtype != object:
            self.values = self.values.astype(object)
        if places is None:
            self.values += amount
        else:
            self.values[places] += amount
