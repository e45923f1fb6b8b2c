"""The SQL of a replay: which cases there are, whether amounts follow from quantities and prices, and which rows do not.

    u{i}, fixed{i}   of a pricing, for the meter at place i: its amount is quantity × u + fixed. Where there is no line
                     they are 1 and 0: the quantity and the amount must be zero both, or they contradict the total.
                     Null where it takes more than that: a `line` of the pricing says what
    p{i}, r{i}       of a pricing's lines that take more: the price, and per how many

Texts here are made of column names and numbers of this code base; names and paths are quoted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import gcd
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from tallystick.archive.lines import Shape
from tallystick.archive.replay_cases import Case
from tallystick.core.money import divide_half_even
from tallystick.rates.pricing import ADJUSTMENT
from tallystick.usage.meters import PROMPT_METERS

_CASE_COLUMNS = (*Case._fields[:-1],)
_NUMBER_MAX = 2**62
_MINUTE = "((epoch_us({time}) // 60000000) % 1440)"


class Scan(NamedTuple):
    """Block files with the same meters, and the conditions under which an entry of theirs is wanted."""

    files: tuple[Path, ...]
    meters: tuple[str, ...]
    conditions: tuple[str, ...]


def quoted(name: str) -> str:
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text."""
    return "'" + value.replace("'", "''") + "'"


def quantity(meter: str) -> str:
    """The column of what events counted."""
    return quoted(f"quantity.{meter}")


def amount(meter: str) -> str:
    """The column of what lines cost."""
    return quoted(f"amount.{meter}")


def entries_view(scans: Sequence[Scan], meters: Sequence[str]) -> str:
    """`entries`: the wanted rows of all files, with all meters, and where each row stands."""
    parts = []
    for scan in scans:
        lacking = [meter for meter in meters if meter not in scan.meters]
        zeros = "".join(f", 0::bigint as {quantity(one)}, 0::bigint as {amount(one)}" for one in lacking)
        files = ", ".join(literal(str(path)) for path in scan.files)
        where = f" where {' and '.join(scan.conditions)}" if scan.conditions else ""
        parts.append(f"select *{zeros} from read_parquet([{files}], filename = true, file_row_number = true){where}")
    return f"create or replace temp view entries as {' union all by name '.join(parts)}"


# ── pricings ────────────────────────────────────────────────────────────────────────────────────────────────────────


def pricings_table(shapes: Mapping[str, Shape], meters: Sequence[str]) -> pa.Table:
    """`shapes`: u, fixed, p and r of every pricing."""
    rows = []
    for text, shape in shapes.items():
        row: dict[str, object] = {"pricing": text, "adjusted": ADJUSTMENT in shape.meters}
        row |= {f"{name}{number}": one for number in range(len(meters)) for name, one in (("u", 1), ("fixed", 0))}
        for meter, (price_pico, units) in harder_lines(shape).items():
            row |= {f"p{meters.index(meter)}": price_pico, f"r{meters.index(meter)}": units}
        for meter, price, per, constant in _lines(shape):
            number = meters.index(meter)
            row |= dict(zip((f"u{number}", f"fixed{number}"), _linear(price, per, constant), strict=True))
        rows.append(row)
    numbers = [(f"{name}{number}", pa.int64()) for number in range(len(meters)) for name in ("u", "fixed", "p", "r")]
    return pa.Table.from_pylist(rows, schema=pa.schema([("pricing", pa.string()), ("adjusted", pa.bool_()), *numbers]))


def _lines(shape: Shape) -> Iterator[tuple[str, int | str | None, int | None, int | None]]:
    constants = shape.quantities or [None] * len(shape.meters)
    return zip(shape.meters, shape.price_pico, shape.per, constants, strict=True)


def _linear(price: int | str | None, per: int | None, constant: int | None) -> tuple[int | None, int | None]:
    """The u and fixed of a line; nulls where its amount is no such multiple. An unknown amount contradicts nothing."""
    if not isinstance(price, int):
        return 0, 0
    if not per or per < 0 or not 0 <= price < _NUMBER_MAX:  # no price is so; the scalar pricing will tell
        return None, None
    if constant is not None:
        fixed = divide_half_even(constant * price, per)
        return (0, fixed) if 0 <= fixed < _NUMBER_MAX else (None, None)
    return (price // per, 0) if price % per == 0 else (None, None)


def nullable_meters(shapes: Mapping[str, Shape]) -> set[str]:
    """The meters of lines that a multiplication says nothing about."""
    return {
        meter
        for shape in shapes.values()
        for meter, price, per, constant in _lines(shape)
        if price is None or _linear(price, per, constant)[0] is None
    }


def harder_lines(shape: Shape) -> dict[str, tuple[int, int]]:
    """The lines that take more than a multiplication: price and per, reduced, by meter.

    They are those whose price is no multiple of `per`, and the priced ones beside a line without a price: there an
    amount that is missing would not be noticed in the total.
    """
    partly = None in shape.price_pico
    found = {}
    for meter, price, per, constant in _lines(shape):
        if isinstance(price, int) and per and per > 0 and constant is None and (partly or price % per):
            common = gcd(price, per)  # products stay small
            found[meter] = (price // common, per // common)
    return found


# ── cases ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def prompt_size(meters: Sequence[str]) -> str:
    """The prompt size of a row."""
    return " + ".join(quantity(meter) for meter in meters if meter in PROMPT_METERS) or "0::bigint"


class Arithmetic(NamedTuple):
    """How amounts are checked.

    Attributes:
        meters: all meters.
        constants: those whose recorded quantity is not always the event's, or may have to be another.
        nullable: those that have a line without an amount, or without u.
        harder: those that have a line which takes more than a multiplication.
        strict: a quantity may be negative, which no event's is.
        wide: compute in 128 bits: something does not fit into 64.
    """

    meters: Sequence[str]
    constants: Sequence[str]
    nullable: Collection[str]
    harder: Collection[str]
    strict: bool = False
    wide: bool = False


class Windows(NamedTuple):
    """The models with prices by time of day, by the names that entries have, and where those may change: minutes."""

    models: Sequence[str]
    edges: Sequence[int]


def cases_table(arithmetic: Arithmetic, windows: Windows) -> str:
    """`cases`: how many entries of each case, and where they lie; `minute_place`: between which edges of a window."""
    meters, constants = arithmetic.meters, arithmetic.constants
    prompt = prompt_size(meters)
    ranges = "".join(
        f", min({quantity(one)}) as least{index}, max({quantity(one)}) as most{index}"
        for index, one in enumerate(constants)
    )
    return f"""
create or replace temp table cases as
select row_number() over () as id, * from (
    select {", ".join(_CASE_COLUMNS)}, provider_cost_pico is not null as stated,
           {_minute_place(windows)} as minute_place, count(*) as entries,
           min(epoch_us(time)) as time_min, max(epoch_us(time)) as time_max,
           min({prompt}) as prompt_min, max({prompt}) as prompt_max{ranges}
    from entries
    group by all
)"""


def _minute_place(windows: Windows) -> str:
    if not windows.models:
        return "0"
    names = ", ".join(map(literal, windows.models))
    places = " + ".join(f"({_MINUTE.format(time='time')} >= {edge})::int" for edge in windows.edges)
    return f"case when model in ({names}) then {places} else 0 end"


def contradicted(arithmetic: Arithmetic) -> str:
    """Where the rows stand that have an amount, a total or a quantity that cannot be."""
    meters = arithmetic.meters
    kind = "::hugeint" if arithmetic.wide else ""
    # Differences are collected as bits and compared once: twice as fast as a comparison for each.
    bits = [_difference(arithmetic, number, meter) for number, meter in enumerate(meters) if meter != ADJUSTMENT]
    conditions = [f"({' | '.join(bits)}) <> 0"] if bits else []
    conditions += [
        _harder_contradicts(arithmetic, number, meter)
        for number, meter in enumerate(meters)
        if meter in arithmetic.harder
    ]
    if arithmetic.strict:
        conditions += [f"{quantity(meter)} < 0" for meter in meters]
    total = " + ".join(f"{amount(meter)}{kind}" for meter in meters) or "0"
    conditions += ["kind <> 'usage'", "(cost_pico is null) <> (status = 'unpriced')"]
    conditions.append(f"coalesce(cost_pico <> {total}, cost_pico is not null)")
    conditions.append("provider_cost_pico <> cost_pico")
    if ADJUSTMENT in meters:
        conditions += [f"({amount(ADJUSTMENT)} <> 0) <> adjusted", f"{quantity(ADJUSTMENT)} <> 0"]
    return f"""
select filename, file_row_number from entries join shapes using (pricing) where {" or ".join(conditions)}"""


def _difference(arithmetic: Arithmetic, number: int, meter: str) -> str:
    kind = "::hugeint" if arithmetic.wide else ""
    fixed = f" + fixed{number}" if meter in arithmetic.constants else ""
    bits = f"xor({amount(meter)}{kind}, {quantity(meter)}{kind} * u{number}{fixed})"
    return f"coalesce({bits}, 0)" if meter in arithmetic.nullable else bits


def _harder_contradicts(arithmetic: Arithmetic, number: int, meter: str) -> str:
    kind = "::hugeint" if arithmetic.wide else ""
    product, per = f"({quantity(meter)}{kind} * p{number})", f"r{number}"
    whole, rest = f"({product} // {per})", f"({product} % {per})"
    up = f"(2 * {rest} > {per} or (2 * {rest} = {per} and {whole} % 2 = 1))::bigint"
    return f"(p{number} is not null and {amount(meter)} is distinct from {whole} + {up})"


# ── rows in doubt ───────────────────────────────────────────────────────────────────────────────────────────────────

DOUBT_SCHEMA = pa.schema(
    [("id", pa.int64()), *((name, pa.list_(pa.int64())) for name in ("time_edges", "prompt_edges", "minute_edges"))]
)


def same_case(left: str, right: str) -> str:
    """The condition that rows of two relations are of one case."""
    names = " and ".join(f"{left}.{name} is not distinct from {right}.{name}" for name in _CASE_COLUMNS)
    # A case between some edges of a window stands for all of its entries: where they lie is looked at again.
    return f"{names} and ({left}.provider_cost_pico is not null) = {right}.stated"


def _placed(meters: Sequence[str]) -> str:
    """The rows of the cases in `doubt`, each with the region that it lies in."""

    def place(edges: str, value: str) -> str:
        return f"len(list_filter(doubt.{edges}, lambda edge: edge <= {value}))"

    minute = _MINUTE.format(time="e.time")
    prompt = prompt_size(meters)
    return f"""
select doubt.id, {place("time_edges", "epoch_us(e.time)")} as time_place,
       {place("prompt_edges", "e.prompt")} as prompt_place, {place("minute_edges", minute)} as minute_place,
       epoch_us(e.time) as time_us, e.prompt, {minute} as minute_of_day, e.filename, e.file_row_number
from (select *, {prompt} as prompt from entries where model in (select model from cases join doubt using (id))) as e
join (select * from cases join doubt using (id)) as doubt on {same_case("e", "doubt")}"""


def regions(meters: Sequence[str]) -> str:
    """How many entries of the cases in `doubt` lie in each region, and where."""
    return f"""
select id, time_place, prompt_place, minute_place, min(time_us), max(time_us), min(prompt), max(prompt),
       min(minute_of_day), max(minute_of_day)
from ({_placed(meters)}) group by all"""


def rows_of_regions(meters: Sequence[str]) -> str:
    """Where the rows stand that lie in the regions of `wrong`."""
    return f"""
select filename, file_row_number from ({_placed(meters)})
semi join wrong using (id, time_place, prompt_place, minute_place)"""


# ── sums ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def sums(meters: Sequence[str]) -> str:
    """What the regular rows of usage add up to that are not in `apart`, by what an invoice groups by."""
    of_meters = "".join(
        f", sum({quantity(one)}), count(*) filter (where {quantity(one)} > 0), sum({amount(one)}),"
        f" count(*) filter (where {amount(one)} is null)"
        for one in meters
    )
    return f"""
select environment, outcome = 'failure' as failed, provider, model, rate_version, count(*),
       count(*) filter (where cost_pico is null), coalesce(sum(cost_pico), 0){of_meters}
from entries anti join apart using (filename, file_row_number)
where pricing is not null and kind = 'usage'
group by environment, failed, provider, model, rate_version"""
