"""A block gives back every entry exactly as it was written, whatever the entry looks like."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from tallystick.archive.columns import ENTRY_SCHEMA, PERSONAL_COLUMNS
from tallystick.archive.format import BlockInfo, block_info, read_block, write_block, write_people
from tallystick.core.errors import BadInput

INTEGERS = st.one_of(st.integers(0, 3), st.integers(-(2**63), 2**63 - 1))
TEXTS = st.one_of(st.sampled_from(["a", "b", "ü", ""]), st.text(max_size=5).filter(lambda text: "\x00" not in text))
METERS = st.one_of(
    st.sampled_from(["tokens_in", "tokens_out", "requests", "provider_cost_adjustment", "amount", "a.b"]), TEXTS
)
INSTANTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))


# Made once: a strategy that is made for each draw is looked over for each.
MAYBE_TEXT, MAYBE_INTEGER = st.one_of(st.none(), TEXTS), st.one_of(st.none(), INTEGERS)
MAYBE_METER = st.one_of(st.none(), METERS)
HASH = st.binary(min_size=32, max_size=32)
MAYBE_HASH = st.one_of(st.none(), HASH)
METER_SETS = st.dictionaries(METERS, INTEGERS, max_size=4)
ORGS = st.sets(TEXTS, min_size=1, max_size=3)


@cache
def _lists(size: int, elements: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(elements, min_size=size, max_size=size)


@st.composite
def usual(draw: st.DrawFn) -> dict[str, Any]:
    """What the writer makes of an event: its meters by name, a line for each that is not zero, and a few more."""
    meters = dict(sorted(draw(METER_SETS).items()))
    lines = [(name, quantity) for name, quantity in meters.items() if draw(st.booleans())]
    if draw(st.booleans()) and "requests" not in meters:
        lines.append(("requests", 1))
    names = [name for name, _ in lines]
    free = [draw(st.integers(0, 9)) == 0 for _ in lines]
    amounts = [None if unpriced else draw(INTEGERS) for unpriced in free]
    prices = [None if unpriced else draw(st.sampled_from([0, 5, 2**62])) for unpriced in free]
    pers = [None if unpriced else draw(st.sampled_from([1, 10**6])) for unpriced in free]
    quantities = [draw(st.sampled_from([quantity, quantity, 7])) for _, quantity in lines]
    if "provider_cost_adjustment" not in names and draw(st.booleans()):
        rest = draw(INTEGERS)
        names, quantities = [*names, "provider_cost_adjustment"], [*quantities, 1]
        prices, pers, amounts = [*prices, rest], [*pers, 1], [*amounts, rest]
    models = draw(st.one_of(st.none(), _lists(len(names), MAYBE_TEXT)))
    return _lists_of(list(meters), list(meters.values()), names, quantities, prices, pers, amounts, models)


@st.composite
def arbitrary(draw: st.DrawFn) -> dict[str, Any]:
    """What a table could hold though no writer makes it: lists that do not belong together, repeated meters, holes."""
    count, lines = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    number, name = MAYBE_INTEGER, MAYBE_METER

    def of(size: int, elements: st.SearchStrategy[Any]) -> list[Any]:
        return draw(_lists(size + draw(st.sampled_from([0, 0, 0, 1])), elements))

    return _lists_of(
        draw(st.one_of(st.none(), _lists(count, name))),
        draw(st.one_of(st.none(), _lists(count, number))),
        of(lines, name),
        of(lines, number),
        of(lines, number),
        of(lines, number),
        of(lines, number),
        draw(st.one_of(st.none(), _lists(lines, name))),
    )


def _lists_of(*values: object) -> dict[str, Any]:
    names = ("meter_names", "meter_quantities", "line_meters", "line_quantities", "line_price_pico", "line_per")
    return dict(zip((*names, "line_amount_pico", "line_models"), values, strict=True))


POOLS = st.lists(st.one_of(usual(), usual(), arbitrary()), min_size=1, max_size=6)


@st.composite
def entries(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows = []
    pool = draw(POOLS)
    for org in sorted(draw(ORGS)):
        first = draw(st.integers(1, 2**40))
        for seq in range(first, first + draw(st.integers(1, 6))):
            time = draw(INSTANTS)
            row = {field.name: None for field in ENTRY_SCHEMA}
            row |= draw(st.sampled_from(pool))
            row |= {"org_id": org, "seq": seq, "kind": draw(st.sampled_from(["usage", "usage", "correction"]))}
            row |= {"time": time, "time_max": time + timedelta(hours=draw(st.integers(0, 9))), "recorded_at": time}
            for name in ("request_id", "rate_version", "status"):
                row[name] = draw(TEXTS)
            for name in ("feature", "provider", "model", "price_context", "reason", "outcome", "usage_status"):
                row[name] = draw(MAYBE_TEXT)
            for name in ("payer", "body"):
                row[name] = draw(MAYBE_TEXT)
            for name in ("latency_ms", "cost_pico", "provider_cost_pico", "refers_to_seq"):
                row[name] = draw(MAYBE_INTEGER)
            if draw(st.booleans()):
                row |= {"user_id": draw(TEXTS), "session_id": draw(TEXTS), "attributes": "{}", "salt": bytes(16)}
            row["fingerprint"] = draw(MAYBE_HASH)
            row["leaf"] = draw(HASH)
            rows.append(row)
    return rows


def _written(rows: list[dict[str, Any]], folder: Path) -> tuple[Path, Path, BlockInfo, pa.Table]:
    table = pa.Table.from_pylist(rows, schema=ENTRY_SCHEMA)
    main, people = folder / "main.parquet", folder / "people.parquet"
    return main, people, write_block(table, main, people, block=7), table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blocks")


@settings(max_examples=examples(25))
@given(rows=entries())
def test_a_block_reads_back_to_the_same_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    main, people, info, table = _written(rows, folder)
    assert read_block(main, people).to_pylist() == table.to_pylist()
    assert info == block_info(main)
    assert (info.block, info.entries) == (7, len(rows))
    assert (info.time_min, info.time_max) == (min(row["time"] for row in rows), max(row["time"] for row in rows))


@settings(max_examples=examples(25))
@given(rows=entries())
def test_flat_columns_hold_each_rows_quantities_and_amounts(folder: Path, rows: list[dict[str, Any]]) -> None:
    main, _, info, _ = _written(rows, folder)
    flat = pq.read_table(main).to_pylist()
    for row, stored in zip(rows, flat, strict=True):
        pairs = [("quantity", "meter_names", "meter_quantities"), ("amount", "line_meters", "line_amount_pico")]
        for what, names, numbers in pairs:
            expected: dict[str, int] = {}
            if len(row[names] or []) == len(row[numbers] or []):
                for name, number in zip(row[names] or [], row[numbers] or [], strict=True):
                    if name is not None and number is not None:
                        expected[name] = expected.get(name, 0) + number
            repeated = len(set(row[names] or [])) < len(row[names] or [])
            if repeated:  # of a repeated meter whose sum leaves 64 bits on the way, nothing is promised
                continue
            for meter in info.meters:
                unknown = what == "amount" and meter in (row[names] or []) and meter not in expected
                lone = len(row[names] or []) != len(row[numbers] or [])
                assert lone or stored[f"{what}.{meter}"] == (None if unknown else expected.get(meter, 0))


@settings(max_examples=examples(25))
@given(rows=entries())
def test_the_block_itself_holds_nothing_personal(folder: Path, rows: list[dict[str, Any]]) -> None:
    main, _, _, table = _written(rows, folder)
    assert not set(PERSONAL_COLUMNS) & set(pq.read_schema(main).names)
    without = read_block(main, None)
    assert all(without.column(name).null_count == len(rows) for name in PERSONAL_COLUMNS)
    rest = [name for name in ENTRY_SCHEMA.names if name not in PERSONAL_COLUMNS]
    assert without.select(rest).to_pylist() == table.select(rest).to_pylist()


def _row(org: str, seq: int) -> dict[str, Any]:
    at = datetime(2026, 10, 1, tzinfo=UTC)
    row = {field.name: None for field in ENTRY_SCHEMA}
    row |= {"org_id": org, "seq": seq, "kind": "usage", "request_id": f"r{seq}", "leaf": bytes(32)}
    row |= {"time": at, "time_max": at, "recorded_at": at, "rate_version": "v", "status": "final", "cost_pico": 6}
    row |= {"user_id": "u", "session_id": "s", "attributes": "{}", "salt": bytes(16), "fingerprint": bytes(32)}
    return row | _lists_of(["tokens_in"], [3], ["tokens_in"], [3], [2], [1], [6], None)


ROWS = [_row(org, seq) for org in ("a", "b") for seq in range(1, 5)]


def test_an_erased_person_leaves_the_people_file_and_nothing_else(tmp_path: Path) -> None:
    main, people, _, table = _written(ROWS, tmp_path)
    before = main.read_bytes()
    kept = table.filter(pc.or_(pc.not_equal(table.column("org_id"), "a"), pc.not_equal(table.column("seq"), 2)))
    write_people(kept, people)
    again = read_block(main, people).to_pylist()
    blank = dict.fromkeys(PERSONAL_COLUMNS)
    assert again == [row | blank if (row["org_id"], row["seq"]) == ("a", 2) else row for row in ROWS]
    assert main.read_bytes() == before


@pytest.mark.parametrize(
    "wrong",
    [
        [*ROWS, _row("b", 9)],
        [*ROWS, _row("c", 1)],
        [_row("", 1), *ROWS],
        [*ROWS[:3], ROWS[2], *ROWS[3:]],
        [ROWS[1], ROWS[0], *ROWS[2:]],
    ],
    ids=["unknown sequence", "unknown org", "unknown org first", "twice", "out of order"],
)
def test_people_of_entries_that_are_not_there_are_refused(wrong: list[dict[str, Any]], tmp_path: Path) -> None:
    main, people, _, _ = _written(ROWS, tmp_path)
    write_people(pa.Table.from_pylist(wrong, schema=ENTRY_SCHEMA), people)
    with pytest.raises(BadInput) as caught:
        read_block(main, people)
    assert (caught.value.code, caught.value.where) == ("broken_block", str(people))


def test_a_file_that_is_no_block_is_refused_by_name(tmp_path: Path) -> None:
    main, people, _, _ = _written(ROWS, tmp_path)
    whole = main.read_bytes()
    for content in (b"", b"PAR1", whole[:-9], whole[: len(whole) // 2], people.read_bytes()):
        main.write_bytes(content)
        with pytest.raises(BadInput) as caught:
            read_block(main, people)
        assert (caught.value.code, caught.value.where) == ("broken_block", str(main))
    with pytest.raises(BadInput) as caught:
        read_block(tmp_path / "none.parquet", None)
    assert caught.value.code == "missing_block"


def test_the_same_entries_make_the_same_bytes() -> None:
    table = pa.Table.from_pylist(ROWS, schema=ENTRY_SCHEMA)

    def made() -> tuple[bytes, bytes]:
        main, people = io.BytesIO(), io.BytesIO()
        write_block(table, main, people, block=1)
        return main.getvalue(), people.getvalue()

    assert made() == made()
