"""Replay looks at rows only where a price has an edge within a row group's bounds: it misses none, wherever it is."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from replay_helpers import DAMAGE, DRAWN, MODELS, START, histories, one_by_one, replayed, rows_of
from tallystick.archive import format as block_format
from tallystick.archive.columns import ENTRY_SCHEMA
from tallystick.archive.format import write_block
from tallystick.archive.replay import BlockReplay, Wanted
from tallystick.rates.card import CardHistory
from tallystick.rates.cardfile import CardVersion, Header, ModelLine, ProviderLine, RateLine
from tallystick.usage.event import UsageEvent

EDGE = START + timedelta(days=3)
ABOVE = 100
MINIMUM = 10
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blocks")


def _card() -> CardHistory:
    """Prices with an edge in time, in prompt size, in the time of day, and in what is billed at least."""
    meters = ("tokens_in", "tokens_out")
    rates = [
        *(RateLine(provider="p", model="m0", meter=one, per=1, price_pico=7, valid_to=EDGE) for one in meters),
        *(RateLine(provider="p", model="m0", meter=one, per=1, price_pico=8, valid_from=EDGE) for one in meters),
        RateLine(provider="p", model="m1", meter="tokens_in", per=1, price_pico=5, tiers=((ABOVE, 6),)),
        RateLine(provider="p", model="m1", meter="cache_read_tokens", per=1, price_pico=2, tiers=((ABOVE, 3),)),
        RateLine(provider="p", model="m1", meter="tokens_out", per=1, price_pico=4),
        RateLine(provider="p", model="m1", meter="tokens_out", per=1, price_pico=9, window="00:00-01:00"),
        RateLine(provider="p", model="m1", meter="audio_in_ms", per=1, price_pico=3, quantity_min=MINIMUM),
    ]
    models = tuple(ModelLine("p", model, {"equals": model}) for model in MODELS[:2])
    header = Header(1, "v0", START, "test", None, None)
    return CardHistory([CardVersion(header, "0" * 64, (ProviderLine("p"),), models, (), (), tuple(rates))])


def _event(model: str, at: datetime, meters: dict[str, int], stated: int | None = None) -> UsageEvent:
    return UsageEvent(
        org_id="a",
        request_id="r",
        time=at,
        user_id="u",
        session_id="s",
        feature="f",
        environment="e",
        model=model,
        provider="p",
        meters=meters,
        provider_cost_pico=stated,
    )


def _in_time(offset: int) -> UsageEvent:
    return _event("m0", EDGE + offset * MICROSECOND, {"tokens_in": 3, "tokens_out": 2})


def _in_prompt(offset: int) -> UsageEvent:
    return _event("m1", EDGE + timedelta(hours=5), {"tokens_in": 60, "cache_read_tokens": ABOVE - 60 + offset})


def _in_day(offset: int) -> UsageEvent:
    return _event("m1", EDGE + timedelta(hours=1) + offset * MICROSECOND, {"tokens_out": 2})


def _in_minimum(offset: int) -> UsageEvent:
    return _event("m1", EDGE + timedelta(hours=5), {"audio_in_ms": MINIMUM + offset})


SIDES = {"time": _in_time, "prompt": _in_prompt, "day": _in_day, "minimum": _in_minimum}


def _replayed_in_groups(
    folder: Path, rows: list[dict[str, object]], history: CardHistory, group_rows: int
) -> tuple[set[tuple[int, str]], int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_format, "GROUP_ROWS", group_rows)
        return replayed(folder, rows, history)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("offsets", [(-2, -1), (-1, 0), (-1, 1), (0, 0), (0, 1), (1, 1), (1, 2)])
def test_a_price_from_beyond_an_edge_is_found_wherever_the_edge_lies(
    folder: Path, side: str, offsets: tuple[int, int]
) -> None:
    history, event = _card(), SIDES[side]
    rows = rows_of(history, [event(offset) for offset in offsets for _ in range(4)], [])
    assert _replayed_in_groups(folder, rows, history, 4) == (set(), len(rows))
    for place in (1, 6):
        forged = [dict(row) for row in rows]
        forged[place] |= _from_beyond(history, rows[place], event, side)
        expected = one_by_one(forged, history)
        assert {seq for seq, _ in expected} == {place + 1}
        assert _replayed_in_groups(folder, forged, history, 4)[0] == expected


def _from_beyond(
    history: CardHistory, row: dict[str, object], event: Callable[[int], UsageEvent], side: str
) -> dict[str, object]:
    """The lines of a row as they would be on the other side of the edge: each consistent with the others."""
    if side == "minimum":
        counted: int = row["meter_quantities"][0]  # type: ignore[index]
        quantities, prices = [MINIMUM + 5 if counted >= MINIMUM else counted], [3]
    else:
        quantities = list(row["meter_quantities"])  # type: ignore[call-overload]
        sides = [rows_of(history, [event(far)], [])[0]["line_price_pico"] for far in (-5, 5)]
        (prices,) = [list(one) for one in sides if one != row["line_price_pico"]]  # type: ignore[call-overload]
        if side == "prompt":
            quantities.reverse()  # lines have an order of their own
    amounts = [quantity * price for quantity, price in zip(quantities, prices, strict=True)]
    lines = {"line_quantities": quantities, "line_price_pico": prices, "line_amount_pico": amounts}
    return lines | {"cost_pico": sum(amounts)}


@settings(max_examples=examples(8))
@given(
    st.lists(st.tuples(st.sampled_from(list(SIDES)), st.integers(-3, 3)), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(0, 11),
)
def test_one_pico_is_found_in_any_row_of_any_row_group(
    folder: Path, drawn: list[tuple[str, int]], group_rows: int, place: int
) -> None:
    history = _card()
    rows = rows_of(history, [SIDES[side](offset) for side, offset in drawn], [])
    assert _replayed_in_groups(folder, rows, history, group_rows) == (set(), len(rows))
    forged = rows[place % len(rows)]
    amounts = list(forged["line_amount_pico"])  # type: ignore[call-overload]
    forged["line_amount_pico"] = [amounts[0] + 1, *amounts[1:]]
    forged["cost_pico"] = forged["cost_pico"] + 1  # type: ignore[operator]
    expected = one_by_one(rows, history)
    assert {seq for seq, _ in expected} == {forged["seq"]}
    assert _replayed_in_groups(folder, rows, history, group_rows)[0] == expected


@settings(max_examples=examples(8))
@given(
    histories(),
    DRAWN,
    st.lists(st.booleans(), min_size=12, max_size=12),
    st.randoms(use_true_random=False),
    st.integers(1, 4),
)
def test_small_row_groups_with_bounds_of_their_own_give_what_pricing_each_entry_gives(
    folder: Path, history: CardHistory, drawn: list[UsageEvent], corrected: list[bool], dice: random.Random, size: int
) -> None:
    rows = rows_of(history, drawn, corrected)
    for row in rows:
        if dice.random() < 0.3:
            dice.choice(DAMAGE)(row, dice)
    if rows:
        assert _replayed_in_groups(folder, rows, history, size)[0] == one_by_one(rows, history)


def _with_column(table: pa.Table, name: str, row: int, value: int) -> pa.Table:
    values = table.column(name).to_pylist()
    values[row] = value
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))


@pytest.mark.parametrize(
    "changed",
    [
        {"quantity.tokens_out": 0, "amount.tokens_out": 0, "cost_pico": 3 * 8},  # a line that counts nothing
        {"quantity.tokens_in": 0, "amount.tokens_in": 0, "cost_pico": 2 * 8},  # of the prompt
        {"quantity.audio_in_ms": 5, "amount.audio_in_ms": 5, "cost_pico": 5 * 8 + 5},  # what no line is for
        {"quantity.audio_in_ms": 5, "amount.audio_in_ms": -5, "cost_pico": 5 * 8 - 5},
        {"quantity.audio_in_ms": -5, "amount.audio_in_ms": 5, "cost_pico": 5 * 8 + 5},
    ],
)
def test_columns_as_no_writer_makes_them_are_not_taken_for_sound(folder: Path, changed: dict[str, int]) -> None:
    history = _card()
    rows = rows_of(history, [*(_in_time(offset) for offset in range(6)), _in_minimum(12)], [])
    main = folder / "forged.parquet"
    write_block(pa.Table.from_pylist(rows, schema=ENTRY_SCHEMA), main, folder / "forged.people.parquet", block=1)
    table = pq.read_table(main)
    for name, value in changed.items():
        table = _with_column(table, name, 2, value)
    pq.write_table(table, main)
    wanted = Wanted(START - timedelta(days=1), START + timedelta(days=100))
    with BlockReplay(history.at, history.minimum_meters(), threads=1, memory_mb=500, temporary=folder) as replay:
        (found,) = replay.run([main], wanted)
    assert {one.seq for one in found.differences} == {3}


def test_a_line_with_a_context_of_its_own_keeps_its_edges(folder: Path) -> None:
    history = _card()
    event = msgspec.structs.replace(_in_prompt(1), price_context={"service_tier": "default"})
    rows = rows_of(history, [event, _in_prompt(0)], [])
    assert _replayed_in_groups(folder, rows, history, 1) == (set(), 2)
