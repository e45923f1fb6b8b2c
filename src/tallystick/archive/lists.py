"""Meters and cost lines out of a block's flat columns, as the parallel lists that they were; see `archive.lines`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tallystick.archive.lines import OWN_AMOUNT, Bools, Int64s, LineKind, read_shape, starts_of


def to_lists(rows: pa.RecordBatch, meters: Sequence[str]) -> dict[str, pa.Array]:
    """The list columns, by name, of rows that have `flat_fields(meters)`."""
    counted, amounts = _matrix(rows, "quantity", meters), _matrix(rows, "amount", meters)
    pricing = rows.column("pricing")
    if not isinstance(pricing, pa.DictionaryArray):
        pricing = pricing.dictionary_encode()
    irregular = pricing.is_null().to_numpy(zero_copy_only=False)
    shape_of_row = pricing.indices.fill_null(-1).to_numpy().astype(np.int64)
    shapes = _read_shapes(pricing.dictionary.to_pylist(), meters)
    columns = _counted_lists(shapes, shape_of_row, irregular, counted, meters)
    columns |= _line_lists(shapes, shape_of_row, irregular, counted, amounts, meters)
    if irregular.any():
        columns = {name: pc.if_else(pa.array(irregular), rows.column(name), made) for name, made in columns.items()}
    return columns


def _matrix(rows: pa.RecordBatch, what: str, meters: Sequence[str]) -> Int64s:
    numbers = np.zeros((len(meters), rows.num_rows), dtype=np.int64)
    for code, meter in enumerate(meters):
        numbers[code] = rows.column(f"{what}.{meter}").fill_null(0).to_numpy()
    return numbers


def _counted_lists(
    shapes: _Shapes, shape_of_row: Int64s, irregular: Bools, counted: Int64s, meters: Sequence[str]
) -> dict[str, pa.Array]:
    named = counted.T != 0
    if shapes.zeros.any():
        named |= shapes.zeros[shape_of_row]  # of irregular rows nothing is kept
    named &= ~irregular[:, None]
    row, code = np.nonzero(named)
    lengths = named.sum(axis=1)
    nowhere = np.zeros(len(lengths), dtype=np.bool_)
    return {
        "meter_names": _lists(lengths, _named(code, meters), nowhere),
        "meter_quantities": _lists(lengths, pa.array(counted[code, row]), nowhere),
    }


class _Shapes(NamedTuple):
    """The lines of all pricings, one after the other; like `_Lines`, with null prices apart."""

    starts: Int64s
    lengths: Int64s
    with_models: Bools
    zeros: Bools
    code: Int64s
    price: Int64s
    per: Int64s
    unpriced: Bools
    how: Int64s
    constant: Int64s
    models: list[str | None]


def _read_shapes(texts: Sequence[str], meters: Sequence[str]) -> _Shapes:
    codes = {meter: code for code, meter in enumerate(meters)}
    shapes = [read_shape(text) for text in texts]
    lengths = np.array([len(shape.meters) for shape in shapes], dtype=np.int64)
    lines: list[tuple[int, int, int, bool, int, int]] = []
    models: list[str | None] = []
    for shape in shapes:
        nothing = [None] * len(shape.meters)
        constants = shape.quantities or nothing
        for meter, price, per, constant in zip(shape.meters, shape.price_pico, shape.per, constants, strict=True):
            own = price == OWN_AMOUNT
            how = LineKind.OWN_PRICE if own else LineKind.AS_COUNTED if constant is None else LineKind.CONSTANT
            number = 0 if price is None or own else int(price)
            lines.append((codes[meter], number, per or 0, price is None, how, constant or 0))
        models += shape.models or nothing
    zeros = np.zeros((len(shapes), len(meters)), dtype=np.bool_)
    for number, shape in enumerate(shapes):
        zeros[number, [codes[meter] for meter in shape.zeros or ()]] = True
    table = np.array(lines, dtype=np.int64).reshape(-1, 6)
    code, price_pico, per_units, unpriced, hows, fixed = table.T
    with_models = np.array([shape.models is not None for shape in shapes], dtype=np.bool_)
    return _Shapes(
        starts_of(lengths) if len(lengths) else lengths,
        lengths,
        with_models,
        zeros,
        code,
        price_pico,
        per_units,
        unpriced.astype(np.bool_),
        hows,
        fixed,
        models,
    )


def _line_lists(
    shapes: _Shapes,
    shape_of_row: Int64s,
    irregular: Bools,
    counted: Int64s,
    amounts: Int64s,
    meters: Sequence[str],
) -> dict[str, pa.Array]:
    count = len(shape_of_row)
    lengths = np.zeros(count, dtype=np.int64)
    regular = ~irregular
    lengths[regular] = shapes.lengths[shape_of_row[regular]]
    row = np.repeat(np.arange(count), lengths)
    place = shapes.starts[shape_of_row[row]] + (np.arange(len(row)) - starts_of(lengths)[row]) if len(row) else row
    code, how, unpriced = shapes.code[place], shapes.how[place], shapes.unpriced[place]
    amount = amounts[code, row]
    quantity = np.where(how == LineKind.AS_COUNTED, counted[code, row], shapes.constant[place])
    price = np.where(how == LineKind.OWN_PRICE, amount, shapes.price[place])
    present = np.zeros(count, dtype=np.bool_)
    no_models = np.ones(count, dtype=np.bool_)
    no_models[regular] = ~shapes.with_models[shape_of_row[regular]]
    of_models = np.where(no_models, 0, lengths)
    models = pa.array(shapes.models, type=pa.string()).take(pa.array(place[~no_models[row]]))
    return {
        "line_meters": _lists(lengths, _named(code, meters), present),
        "line_quantities": _lists(lengths, pa.array(quantity), present),
        "line_price_pico": _lists(lengths, pa.array(price, mask=unpriced), present),
        "line_per": _lists(lengths, pa.array(shapes.per[place], mask=unpriced), present),
        "line_amount_pico": _lists(lengths, pa.array(amount, mask=unpriced), present),
        "line_models": _lists(of_models, models, no_models),
    }


def _named(code: npt.NDArray[Any], meters: Sequence[str]) -> pa.Array:
    return pa.array(meters, type=pa.string()).take(pa.array(code))


def _lists(lengths: Int64s, values: pa.Array, absent: Bools) -> pa.Array:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    mask = pa.array(absent) if absent.any() else None
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=mask)
