"""Meters and cost lines, from parallel lists to flat columns and back, a slice of rows at a time.

A row's lists say little that is its own: which meters there are, at what price, per how many, repeats from row
to row. So a block keeps

    quantity.<meter>   what the event counted; 0 when it counted none
    amount.<meter>     what the line costs, in pico-USD; 0 when there is no such line, null when it has no price
    pricing            everything else of the lines, as JSON that repeats: the lines' meters in their order, their
                       price_pico and per, their quantities where they are not the event's (null where they are),
                       their models when there are any, and the meters that the event named with a quantity of zero

and a column of numbers can be summed, and multiplied, without unpacking anything; it has no holes but unknown
amounts, which makes arithmetic on it twice as fast. A row that this cannot hold to the last bit (a correction, a
meter in two lines, a list with a hole) is irregular: its `pricing` is null, and its lists are kept as they are, in
columns of their own. Its quantities and amounts stand in the flat columns all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tallystick.archive.columns import ENTRY_SCHEMA, LIST_COLUMNS
from tallystick.usage.meters import METER_NAME

FLAT_METERS_MAX = 64
"""Most meters of a block with columns of their own (an integer has as many bits); a row with another is irregular."""
SHAPES_MAX = 16_384
"""Most different pricings in a slice; rows with further ones are irregular."""
OWN_AMOUNT = "amount"
"""In the place of a price: it is the line's amount, as it is for what a provider itself stated."""

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Bits = npt.NDArray[np.uint64]


class LineKind(IntEnum):
    """Where a line's quantity and price come from."""

    AS_COUNTED = 0
    CONSTANT = 1
    OWN_PRICE = 2


class Lists(NamedTuple):
    """A column of lists, taken apart: for each row the length and the start of its values; null lists are `absent`."""

    lengths: Int64s
    starts: Int64s
    absent: Bools
    values: pa.Array


class Shape(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pricing, decoded: parallel over the lines; see the module."""

    meters: list[str]
    price_pico: list[int | str | None]
    per: list[int | None]
    quantities: list[int | None] | None = None
    models: list[str | None] | None = None
    zeros: list[str] | None = None


_encode = msgspec.json.Encoder().encode
read_shape = msgspec.json.Decoder(Shape).decode
"""A pricing from its JSON; it raises msgspec.DecodeError for what is none."""


def take_apart(column: pa.Array) -> Lists:
    """The rows of a list column, whatever slice of a larger one it is."""
    absent = column.is_null().to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
    return Lists(lengths, starts_of(lengths), absent, column.flatten())


def starts_of(lengths: Int64s) -> Int64s:
    starts = np.zeros(len(lengths), dtype=np.int64)
    np.cumsum(lengths[:-1], out=starts[1:])
    return starts


def flat_meters(names: Sequence[pa.ChunkedArray]) -> list[str]:
    """The meters that get columns of their own, by name: all that are called as meters are, or the most frequent."""
    counts: dict[str, int] = {}
    for column in names:
        for chunk in column.chunks:
            for one in pc.value_counts(chunk.flatten()).to_pylist():
                if one["values"] is not None and METER_NAME.fullmatch(one["values"]):
                    counts[one["values"]] = counts.get(one["values"], 0) + one["counts"]
    frequent = sorted(counts, key=lambda name: (-counts[name], name))[:FLAT_METERS_MAX]
    return sorted(frequent)


def flat_fields(meters: Sequence[str]) -> list[pa.Field]:
    """The columns that stand for the lists in a block with these meters."""
    return [
        *(pa.field(f"quantity.{meter}", pa.int64(), nullable=False) for meter in meters),
        *(pa.field(f"amount.{meter}", pa.int64()) for meter in meters),
        pa.field("pricing", pa.dictionary(pa.int32(), pa.string())),
        *(ENTRY_SCHEMA.field(name) for name in LIST_COLUMNS),
    ]


# ── lists to flat columns ───────────────────────────────────────────────────────────────────────────────────────────


def to_flat(rows: pa.RecordBatch, meters: Sequence[str]) -> list[pa.Array]:
    """The arrays of `flat_fields(meters)` for these rows."""
    known = pa.array(meters, type=pa.string())
    names, quantities = take_apart(rows.column("meter_names")), take_apart(rows.column("meter_quantities"))
    usage = pc.equal(rows.column("kind"), "usage").to_numpy(zero_copy_only=False)
    paired = names.lengths == quantities.lengths
    regular = usage & paired & ~names.absent & ~quantities.absent
    counted, present, _ = _place(names, quantities, paired, known, regular, ascending=True)
    zeros = np.zeros(rows.num_rows, dtype=np.uint64)
    for code in range(len(meters)):
        zeros |= (present[code] & (counted[code] == 0)).astype(np.uint64) << np.uint64(code)

    shapes, shape_of_row = _shapes(rows, meters, known, regular, counted, zeros)
    regular = shape_of_row >= 0

    of_lines, of_amounts = take_apart(rows.column("line_meters")), take_apart(rows.column("line_amount_pico"))
    paired = of_lines.lengths == of_amounts.lengths
    amounts, _, unknown = _place(of_lines, of_amounts, paired, known, regular.copy())

    pricing = pa.DictionaryArray.from_arrays(
        pa.array(shape_of_row, mask=~regular, type=pa.int32()), pa.array(shapes, type=pa.string())
    )
    return [
        *(pa.array(counted[code]) for code in range(len(meters))),
        *(pa.array(amounts[code], mask=unknown[code]) for code in range(len(meters))),
        pricing,
        *(_kept(rows.column(name), regular) for name in LIST_COLUMNS),
    ]


def _kept(column: pa.Array, regular: Bools) -> pa.Array:
    """The lists of irregular rows, null elsewhere."""
    if regular.all():
        return pa.nulls(len(column), column.type)
    return pc.if_else(pa.array(regular), pa.scalar(None, column.type), column)


def _place(
    names: Lists, numbers: Lists, paired: Bools, known: pa.Array, regular: Bools, *, ascending: bool = False
) -> tuple[Int64s, Bools, Bools]:
    """Each row's numbers at the rows' places by meter, which places have one, and which have one that is null.

    What cannot be placed marks its row in `regular` as false. Of a meter that stands in a row more than once the
    numbers are added up.
    """
    into = np.zeros((len(known), len(paired)), dtype=np.int64)
    present = np.zeros((len(known), len(paired)), dtype=np.bool_)
    unknown = np.zeros((len(known), len(paired)), dtype=np.bool_)
    if not paired.all():  # rows whose lists do not belong together hold nothing that could be placed
        names, numbers = _without(names, ~paired), _without(numbers, ~paired)
    row = np.repeat(np.arange(len(names.lengths)), names.lengths)
    code = pc.index_in(names.values, value_set=known).fill_null(-1).to_numpy().astype(np.int64)
    missing = numbers.values.is_null().to_numpy(zero_copy_only=False)
    number = numbers.values.fill_null(0).to_numpy()
    if ascending:
        regular[row[(code < 0) | missing]] = False
        falls = np.flatnonzero((row[1:] == row[:-1]) & (code[1:] <= code[:-1])) + 1
        regular[row[falls]] = False
    holes = (code >= 0) & missing
    unknown[code[holes], row[holes]] = True
    usable = (code >= 0) & ~missing
    plain = usable & regular[row]
    into[code[plain], row[plain]] = number[plain]
    present[code[plain], row[plain]] = True
    for at in np.flatnonzero(usable & ~regular[row]).tolist():
        place = code[at], row[at]
        total = int(into[place]) + int(number[at])
        fits = -(2**63) <= total < 2**63
        into[place], present[place] = (total, True) if fits else (0, False)
        unknown[place] |= not fits
    return into, present, unknown


def _without(lists: Lists, lost: Bools) -> Lists:
    values = lists.values.filter(pa.array(~np.repeat(lost, lists.lengths)))
    lengths = np.where(lost, 0, lists.lengths)
    return Lists(lengths, starts_of(lengths), lists.absent, values)


class _Lines(NamedTuple):
    """All lines of a slice, one after the other: what a shape is made of."""

    row: Int64s
    code: Int64s
    price: Int64s
    per: Int64s
    unpriced: Bools
    how: Int64s
    constant: Int64s
    model: Int64s


def _shapes(
    rows: pa.RecordBatch, meters: Sequence[str], known: pa.Array, regular: Bools, counted: Int64s, zeros: Bits
) -> tuple[list[str], Int64s]:
    """The different pricings as JSON, and for each row which one is its own; -1 for irregular rows."""
    of_row = np.full(rows.num_rows, -1, dtype=np.int64)
    lists = {name: take_apart(rows.column(name)) for name in LIST_COLUMNS if name.startswith("line_")}
    lengths = lists["line_meters"].lengths
    paired = regular
    for name, one in lists.items():
        optional = one.absent if name == "line_models" else False
        paired = paired & (optional | (~one.absent & (one.lengths == lengths)))
    no_models = lists["line_models"].absent
    lists = {name: _without(one, ~paired) for name, one in lists.items()}
    lengths = lists["line_meters"].lengths
    model_names, lines = _read_lines(lists, known, counted)
    regular = paired
    regular[lines.row[lines.code < 0]] = False
    for name in ("line_per", "line_amount_pico"):
        uneven = lists[name].values.is_null().to_numpy(zero_copy_only=False) != lines.unpriced
        regular[lines.row[uneven]] = False
    regular[lines.row[lists["line_quantities"].values.is_null().to_numpy(zero_copy_only=False)]] = False

    starts = starts_of(lengths)
    whole = _Whole(starts, lengths, no_models, zeros)
    keys = _row_keys(lines, whole)
    chosen = np.flatnonzero(regular)
    if not len(chosen):
        return [], of_row
    codes = pa.array(keys[chosen]).dictionary_encode().indices.to_numpy().astype(np.int64)
    first = np.empty(int(codes.max()) + 1, dtype=np.int64)
    first[codes[::-1]] = chosen[::-1]
    of_row[chosen] = codes
    _compare_with_first(lines, whole, first, of_row)
    shapes = []
    sound = np.zeros(len(first), dtype=np.bool_)
    for number, row in enumerate(first.tolist()[:SHAPES_MAX]):
        here = range(int(starts[row]), int(starts[row] + lengths[row]))
        named = [int(lines.code[at]) for at in here]
        sound[number] = len(set(named)) == len(named)
        named_zero = [meter for code, meter in enumerate(meters) if int(zeros[row]) >> code & 1]
        shapes.append(_shape_json(lines, here, meters, None if no_models[row] else model_names, named_zero))
    of_row[chosen] = np.where(sound[of_row[chosen]] & (of_row[chosen] >= 0), of_row[chosen], -1)
    return shapes, of_row


def _read_lines(lists: dict[str, Lists], known: pa.Array, counted: Int64s) -> tuple[list[str | None], _Lines]:
    head = lists["line_meters"]
    row = np.repeat(np.arange(len(head.lengths)), head.lengths)
    code = pc.index_in(head.values, value_set=known).fill_null(-1).to_numpy().astype(np.int64)
    quantity, price, per, amount = (
        lists[name].values.fill_null(0).to_numpy()
        for name in ("line_quantities", "line_price_pico", "line_per", "line_amount_pico")
    )
    if len(known):
        as_counted = (quantity != 0) & (counted[code, row] == quantity)
    else:
        as_counted = np.zeros(len(row), dtype=np.bool_)
    own = ~as_counted & (quantity == 1) & (per == 1) & (price == amount)
    adjusts = pc.equal(head.values, "provider_cost_adjustment").fill_null(False).to_numpy(zero_copy_only=False)
    how = np.where(as_counted, LineKind.AS_COUNTED, np.where(own & adjusts, LineKind.OWN_PRICE, LineKind.CONSTANT))
    unpriced = lists["line_price_pico"].values.is_null().to_numpy(zero_copy_only=False)
    model_lists = lists["line_models"]
    encoded = model_lists.values.dictionary_encode()
    model = np.full(len(row), -1, dtype=np.int64)
    has_models = np.repeat(~model_lists.absent, head.lengths)
    model[has_models] = encoded.indices.fill_null(-1).to_numpy()
    return encoded.dictionary.to_pylist(), _Lines(
        row,
        code,
        np.where(how == LineKind.OWN_PRICE, 0, price),
        per,
        unpriced,
        how,
        np.where(how == LineKind.AS_COUNTED, 0, quantity),
        model,
    )


class _Whole(NamedTuple):
    """What of each row its pricing says besides the lines: where they start, their number, and what is constant."""

    starts: Int64s
    lengths: Int64s
    no_models: Bools
    zeros: Bits


_ODD = tuple(np.uint64(one) for one in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _mixed(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * _ODD[1]
    value = (value ^ (value >> np.uint64(27))) * _ODD[2]
    mixed: npt.NDArray[np.uint64] = value ^ (value >> np.uint64(31))
    return mixed


def _row_keys(lines: _Lines, whole: _Whole) -> Bits:
    """A number for each row, the same for the same pricing. It need not be unique: rows are compared afterwards."""
    key = (np.arange(len(lines.row)) - whole.starts[lines.row]).astype(np.uint64)
    small = ((lines.model + 1) << 20) | ((lines.code + 1) << 4) | (lines.how << 1) | lines.unpriced
    for part in (small, lines.price, lines.per, lines.constant):
        key = _mixed(key * _ODD[0] + part.astype(np.uint64))
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(key, dtype=np.uint64)])
    total = sums[whole.starts + whole.lengths] - sums[whole.starts]
    return _mixed(_mixed(total + whole.zeros) + whole.no_models.astype(np.uint64))


def _compare_with_first(lines: _Lines, whole: _Whole, first: Int64s, of_row: Int64s) -> None:
    """Take the rows out (-1) that are not truly of the pricing of their key's first row."""
    assigned = np.flatnonzero(of_row >= 0)
    example = first[of_row[assigned]]
    same = np.ones(len(assigned), dtype=np.bool_)
    for column in whole[1:]:
        same &= column[assigned] == column[example]
    of_row[assigned[~same]] = -1
    mine = np.flatnonzero(of_row[lines.row] >= 0)
    row = lines.row[mine]
    theirs = whole.starts[first[of_row[row]]] + (mine - whole.starts[row])
    differs = np.zeros(len(mine), dtype=np.bool_)
    for column in lines[1:]:
        differs |= column[mine] != column[theirs]
    of_row[row[differs]] = -1


def _shape_json(
    lines: _Lines, here: range, meters: Sequence[str], model_names: list[str | None] | None, zeros: list[str]
) -> str:
    how = [int(lines.how[at]) for at in here]
    prices: list[int | str | None] = []
    for at in here:
        own = int(lines.how[at]) == LineKind.OWN_PRICE
        prices.append(OWN_AMOUNT if own else None if lines.unpriced[at] else int(lines.price[at]))
    constants = [
        None if one == LineKind.AS_COUNTED else int(lines.constant[at]) for one, at in zip(how, here, strict=True)
    ]
    models: list[str | None] | None = None
    if model_names is not None:
        models = [None if lines.model[at] < 0 else model_names[int(lines.model[at])] for at in here]
    shape = Shape(
        [meters[int(lines.code[at])] for at in here],
        prices,
        [None if lines.unpriced[at] else int(lines.per[at]) for at in here],
        constants if any(one is not None for one in constants) else None,
        models,
        zeros or None,
    )
    return _encode(shape).decode()
