"""Whether amounts follow from quantities and prices: a row group of a block at a time, as arrays.

For each row this holds, or the row is named:

    every amount is the quantity times the price of the row's pricing, rounded half to even where `per` does not divide
    a quantity without a line, and an amount without one, is zero; an amount is null where the line has no price
    a line of what was counted counts at least one, if its pricing has no line with a quantity of its own
    the amounts add up to the cost; there is no cost where the entry is unpriced, and else there is one
    what the provider stated is the cost, and the adjustment that leads there is not zero

That the prices are the card's is not asked here (`archive.replay_cases`). Arithmetic is of 64 bits. A row whose numbers
might not fit is named too: naming one too many costs time, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tallystick.archive.lines import OWN_AMOUNT, Bools, Int64s, Shape, read_shape
from tallystick.archive.replay_keys import Scratch
from tallystick.archive.row_group import Numbers, RowGroup, Texts
from tallystick.core.money import divide_half_even
from tallystick.rates.pricing import ADJUSTMENT

_BITS = 2**63
_SLICE_ROWS = 61_440  # fewer fit the cache better, but then the calls take longer than the numbers
_SHAPES_HELD = 65_536


class _Line(NamedTuple):
    """How the line of one meter in one pricing is computed: (quantity × price, divided by `per`) + fixed."""

    price: int = 0
    per: int = 1
    fixed: int = 0
    unpriced: bool = False
    skipped: bool = False
    """No amount can be so; the scalar pricing will say what is wrong."""
    counts: bool = False
    """The line's quantity is what the event counted, so that there is none without a quantity."""


def contradicted(rows: RowGroup, pricing: Texts, meters: Sequence[str], scratch: Scratch) -> Bools:
    """The rows in which an amount, a total or a quantity cannot be.

    Args:
        rows: with the columns of the meters, and those of cost, status and kind.
        pricing: their pricings; of rows that have none nothing is said.
        meters: the meters that have columns.
        scratch: memory to compute in.
    """
    bad = rows.texts("kind").is_not("usage")
    codes = scratch.array("pricing", rows.count, np.int64)
    codes[:] = pricing.codes
    checks = list(_checks(rows, pricing.texts, meters))
    counts = _Counts.of(pricing.texts)
    adjusted = np.array([ADJUSTMENT in dict(_lines(text)) for text in pricing.texts])
    adjustment = _Adjustment.of(rows, meters, adjusted)
    totals = _Totals.of(rows, meters, checks, adjustment)
    is_open = np.array([any(line.unpriced for _, line in _lines(text)) for text in pricing.texts], np.bool_)
    open_rows = np.flatnonzero(is_open.take(codes, mode="clip"))
    for check in checks:
        check.look_at_nulls(bad, codes, open_rows)
    work = _Work(min(_SLICE_ROWS, rows.count), scratch)
    for begin in range(0, rows.count, _SLICE_ROWS):
        here = slice(begin, begin + _SLICE_ROWS)
        work.start(codes[here], bad[here])
        for check in checks:
            check.look(work, here)
        counts.look(work)
        adjustment.look(work, here)
        totals.look(work, here)
    return bad


def counts_every_line(pricing: str) -> bool:
    """Whether a row of this pricing that `contradicted` does not name has a quantity for each line, and no other."""
    return all(line.counts for meter, line in _lines(pricing) if meter != ADJUSTMENT)


class _Work:
    """Arrays for one slice of rows after another."""

    def __init__(self, size: int, scratch: Scratch) -> None:
        self._numbers = [scratch.array(name, size, np.int64) for name in ("number", "total")]
        self._flags = [scratch.array(name, size, np.bool_) for name in ("differs", "some")]
        self._counted = scratch.array("counted", size, np.int8)

    def start(self, codes: Int64s, bad: Bools) -> None:
        """Begin with these rows."""
        self.codes, self.bad = codes, bad
        self.number, self.total = (one[: len(codes)] for one in self._numbers)
        self.differs, self.some = (one[: len(codes)] for one in self._flags)
        self.counted = self._counted[: len(codes)]
        self.total[:] = 0
        self.counted[:] = 0


class _Check(NamedTuple):
    """The amounts of one meter. What is indexed by pricing is None where it is of none of them."""

    quantity: Int64s
    amount: Numbers
    units: Int64s
    """What one of it costs; -1 where there is no line: a quantity and an amount of zero agree then, and no others."""
    fixed: Int64s | None
    uneven: dict[int, _Line]
    """The pricings in which `per` does not divide the price."""
    is_uneven: Bools | None
    unpriced: Bools | None
    skipped: Bools | None
    most: Int64s | None
    """The largest quantity whose amount fits, where one might not."""
    negative: bool
    """Whether there may be quantities or amounts below zero."""

    def look(self, work: _Work, here: slice) -> None:
        """Note the rows whose quantity or amount cannot be, count the quantities, and add the amounts to the total."""
        codes, number, differs = work.codes, work.number, work.differs
        quantity, amount = self.quantity[here], self.amount.values[here]
        self.units.take(codes, out=number, mode="clip")
        np.multiply(number, quantity, out=number)
        if self.fixed is not None:
            number += self.fixed.take(codes, mode="clip")
        if self.is_uneven is not None:
            self._divide(number, np.flatnonzero(self.is_uneven.take(codes, mode="clip")), codes, quantity)
        np.not_equal(number, amount, out=differs)
        if self.amount.nulls is not None:
            np.greater(differs, self.amount.nulls[here], out=differs)  # differs, and is not null
        if self.skipped is not None:
            differs &= ~self.skipped.take(codes, mode="clip")
        work.bad |= differs
        np.not_equal(quantity, 0, out=work.some)
        np.add(work.counted, work.some.view(np.int8), out=work.counted)
        np.add(work.total, amount, out=work.total)
        if self.most is not None:
            work.bad |= quantity > self.most.take(codes, mode="clip")
        if self.negative:
            work.bad |= (quantity < 0) | (amount < 0)

    def _divide(self, number: Int64s, rows: Int64s, codes: Int64s, quantity: Int64s) -> None:
        if self.most is not None:
            rows = rows[quantity[rows] <= self.most[codes[rows]]]
        of_rows = codes[rows]
        for code, line in self.uneven.items():
            at = rows[of_rows == code]
            number[at] = _divided(quantity[at], line)

    def look_at_nulls(self, bad: Bools, codes: Int64s, open_rows: Int64s) -> None:
        """Note the rows of all that have an amount without a price, or a price without an amount.

        Args:
            bad: where to note them.
            codes: the rows' pricings.
            open_rows: the rows whose pricing has a line without a price.
        """
        nulls = self.amount.nulls
        if self.unpriced is not None:
            found = np.zeros(len(open_rows), np.bool_) if nulls is None else nulls[open_rows]
            bad[open_rows] |= found != self.unpriced.take(codes[open_rows], mode="clip")
            if nulls is None or np.count_nonzero(found) == np.count_nonzero(nulls):
                return
            nulls = nulls.copy()
            nulls[open_rows] = False
        if nulls is not None:
            bad |= nulls


def _checks(rows: RowGroup, pricings: Sequence[str], meters: Sequence[str]) -> Iterator[_Check]:
    """What there is to check of each meter; nothing of one that no row has and no pricing asks for."""
    of_meter: dict[str, dict[int, _Line]] = {}
    for code, text in enumerate(pricings):
        for meter, line in _lines(text):
            of_meter.setdefault(meter, {})[code] = line
    for meter in meters:
        if meter == ADJUSTMENT:
            continue
        lines = of_meter.get(meter, {})
        fixed = _by_code(len(pricings), {code: line.fixed for code, line in lines.items() if line.fixed})
        unpriced = _by_code(len(pricings), {code: True for code, line in lines.items() if line.unpriced})
        quantities, amounts = rows.bounds(f"quantity.{meter}"), rows.bounds(f"amount.{meter}")
        no_line = fixed is None and unpriced is None
        if no_line and quantities == amounts == (0, 0) and not rows.has_nulls(f"amount.{meter}"):
            continue
        units = np.full(max(1, len(pricings)), -1, dtype=np.int64)
        for code, line in lines.items():
            units[code] = line.price // line.per
        uneven = {code: line for code, line in lines.items() if line.price % line.per}
        skipped = _by_code(len(pricings), {code: True for code, line in lines.items() if line.skipped})
        offset = np.int64(0) if fixed is None else fixed
        dearest = units.copy()
        dearest[list(uneven)] += 1
        fits = quantities[1] * int(dearest.max()) + int(offset.max()) < _BITS
        most = None if fits else (_BITS - 1 - offset) // np.maximum(dearest, 1)
        yield _Check(
            rows.numbers(f"quantity.{meter}").values,
            rows.numbers(f"amount.{meter}"),
            units,
            fixed,
            uneven,
            _by_code(len(pricings), dict.fromkeys(uneven, True)),
            unpriced,
            skipped,
            most,
            quantities[0] < 0 or amounts[0] < 0,
        )


def _by_code(count: int, values: dict[int, Any]) -> npt.NDArray[Any] | None:
    if not values:
        return None
    array = np.zeros(count, dtype=type(next(iter(values.values()))))
    for code, value in values.items():
        array[code] = value
    return array


class _Counts(NamedTuple):
    """How many quantities a row of each pricing has, and in which this follows from the lines."""

    lines: npt.NDArray[np.int8]
    known: Bools | None
    """None where it follows in all."""

    @classmethod
    def of(cls, pricings: Sequence[str]) -> _Counts:
        lines = [sum(meter != ADJUSTMENT for meter, _ in _lines(text)) for text in pricings]
        known = np.array([counts_every_line(text) for text in pricings], dtype=np.bool_)
        return cls(np.array(lines, dtype=np.int8), None if known.all() else known)

    def look(self, work: _Work) -> None:
        """Note the rows that have a line too many: what they have without a line, the amounts say."""
        differs = np.not_equal(work.counted, self.lines.take(work.codes, mode="clip"), out=work.differs)
        if self.known is not None:
            differs &= self.known.take(work.codes, mode="clip")
        work.bad |= differs


class _Adjustment(NamedTuple):
    """What leads from the card's price to what the provider stated; `adjusted`: the pricings with such a line."""

    quantity: Int64s | None
    amount: Numbers | None
    adjusted: Bools

    @classmethod
    def of(cls, rows: RowGroup, meters: Sequence[str], adjusted: Bools) -> _Adjustment:
        if ADJUSTMENT not in meters:
            return cls(None, None, adjusted)
        quantity, amount = f"quantity.{ADJUSTMENT}", f"amount.{ADJUSTMENT}"
        counted = None if rows.bounds(quantity) == (0, 0) else rows.numbers(quantity).values
        return cls(counted, rows.numbers(amount), adjusted)

    def look(self, work: _Work, here: slice) -> None:
        adjusted = self.adjusted.take(work.codes, mode="clip")
        if self.amount is None:
            work.bad |= adjusted
            return
        amount = self.amount.values[here]
        work.bad |= (amount != 0) != adjusted
        if self.amount.nulls is not None:
            work.bad |= self.amount.nulls[here]
        if self.quantity is not None:
            work.bad |= self.quantity[here] != 0
        np.add(work.total, amount, out=work.total)


class _Totals(NamedTuple):
    """What the amounts have to add up to."""

    cost: Numbers
    stated: Numbers
    priced: Bools
    amounts: tuple[Int64s, ...]
    """All amounts, where their sum might not fit."""

    @classmethod
    def of(cls, rows: RowGroup, meters: Sequence[str], checks: Sequence[_Check], adjustment: _Adjustment) -> _Totals:
        priced = rows.texts("status").is_not("unpriced")
        amounts = [check.amount for check in checks]
        if adjustment.amount is not None:
            amounts.append(adjustment.amount)
        bounds = [rows.bounds(f"amount.{meter}") for meter in meters]
        largest = sum(max(high, -low) for low, high in bounds)
        mighty = tuple(one.values for one in amounts) if largest >= _BITS else ()
        return cls(rows.numbers("cost_pico"), rows.numbers("provider_cost_pico"), priced, mighty)

    def look(self, work: _Work, here: slice) -> None:
        bad, priced, cost = work.bad, self.priced[here], self.cost.values[here]
        bad |= (work.total != cost) & priced
        no_cost = self.cost.part(here).is_null()
        bad |= no_cost == priced
        stated = np.flatnonzero(~self.stated.part(here).is_null())
        bad[stated] |= (self.stated.values[here][stated] != cost[stated]) | no_cost[stated]
        if self.amounts:
            rough = sum(np.abs(one[here].astype(np.float64)) for one in self.amounts)
            bad |= rough >= _BITS / 2


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


@lru_cache(maxsize=_SHAPES_HELD)
def _lines(pricing: str) -> tuple[tuple[str, _Line], ...]:
    """The meters of a pricing, and how their amounts come to be."""
    shape = read_shape(pricing)
    return tuple((meter, _line(shape, index)) for index, meter in enumerate(shape.meters))


def _line(shape: Shape, index: int) -> _Line:
    price, per = shape.price_pico[index], shape.per[index]
    constant = shape.quantities[index] if shape.quantities else None
    counts = constant is None
    # A line with a constant quantity says nothing of what was counted; cases look at that.
    if price is None:
        return _Line(unpriced=True, counts=counts)
    if price == OWN_AMOUNT or not isinstance(price, int) or not per or per < 0 or not 0 <= price < _BITS:
        return _Line(skipped=True, counts=counts)
    if constant is not None:
        fixed = divide_half_even(constant * price, per)
        skipped = constant < 0 or fixed >= _BITS
        return _Line(fixed=0 if skipped else fixed, skipped=skipped)
    return _Line(price, per, counts=True)
