"""`tally replay`: the sealed history computed again; what was changed in it is found, or refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest

from journal_helpers import query, raw_event, tamper
from tallystick.app.ingest import check_items
from tallystick.app.replay_history import replay_history
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.archive.columns import ENTRY_SCHEMA
from tallystick.archive.format import read_block, write_block
from tallystick.archive.paths import people_path
from tallystick.core.errors import BadInput, NotFound

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
MODELS = [
    ("openai", "gpt-4o", {"tokens_in": 1000, "tokens_out": 10}),
    ("google", "gemini-2.5-pro", {"cache_read_tokens": 250_000, "tokens_in": 5}),
    ("anthropic", "claude-sonnet-4-5", {"tokens_in": 7, "cache_read_tokens": 0, "web_searches": 1}),
    ("perplexity", "sonar-pro", {"tokens_in": 9}),
    ("groq", "whisper-large-v3", {"audio_in_ms": 77}),
    ("openai", "unheard-of", {"tokens_in": 4}),
]


def append(runtime: Runtime, count: int, *, org: str = "acme", day: int = 15) -> None:
    raws = []
    for number in range(count):
        provider, model, meters = MODELS[number % len(MODELS)]
        time = f"2026-10-{day:02}T12:00:{number % 60:02}Z"
        more = {"provider": provider, "model": model, "meters": meters, "time": time, "org_id": org}
        raws.append(raw_event(f"{day}-{number}", **more))
    assert {receipt.status for receipt in runtime.append(check_items(runtime, raws))} == {"accepted"}


def only_block(runtime: Runtime) -> Path:
    ((path,),) = query(runtime, "select path from blocks")
    return runtime.settings.data_dir / "blocks" / str(path)


def rewrite(runtime: Runtime, database_url: str, row: int, column: str, value: object) -> None:
    """Forge one value of the block, and the hash that the database has of it."""
    main = only_block(runtime)
    table = read_block(main, people_path(main))
    values = table.column(column).to_pylist()
    assert values[row] != value
    values[row] = value
    place = ENTRY_SCHEMA.names.index(column)
    write_block(table.set_column(place, ENTRY_SCHEMA.field(column), pa.array(values, ENTRY_SCHEMA.field(column).type)),
                main, people_path(main), block=1)  # fmt: skip
    digest = sha256(main.read_bytes()).hexdigest()
    tamper(database_url, f"update blocks set file_sha256 = '\\x{digest}'")


def test_what_was_written_replays_identically(runtime: Runtime) -> None:
    append(runtime, 40)
    append(runtime, 10, org="bolt")
    seal_once(runtime, everything=True)
    report = replay_history(runtime, START, END)
    assert (report.identical, report.blocks, report.entries) == (True, 1, 50)
    assert replay_history(runtime, START, END, "bolt").entries == 10


def test_the_time_is_half_open(runtime: Runtime) -> None:
    append(runtime, 1, day=3)
    append(runtime, 1, day=4)
    seal_once(runtime, everything=True)
    at = datetime(2026, 10, 4, 12, tzinfo=UTC)
    assert replay_history(runtime, START, at).entries == 1
    assert replay_history(runtime, at, END).entries == 1
    assert replay_history(runtime, at, at + timedelta(microseconds=1)).entries == 1
    assert replay_history(runtime, at - timedelta(microseconds=1), at).entries == 0


@pytest.mark.parametrize(
    ("row", "column", "value", "field"),
    [
        (0, "line_amount_pico", [2_500_000_001, 100_000_000], "cost line 1 (tokens_in), amount_pico"),
        (0, "meter_quantities", [1001, 10], "cost line 1 (tokens_in), quantity"),
        (1, "line_price_pico", [1, 2], "cost line 1 (tokens_in), price_pico"),
        (3, "status", "estimated", "status"),
        (4, "cost_pico", 0, "cost_pico"),
        (5, "reason", "why not", "reason"),
        (0, "model", "gpt-5-mini", "cost line 1 (tokens_in), price_pico"),
        (1, "time", datetime(2025, 9, 24, tzinfo=UTC), None),
    ],
)
def test_one_changed_value_is_named(
    runtime: Runtime, database_url: str, row: int, column: str, value: object, field: str | None
) -> None:
    append(runtime, 600)
    seal_once(runtime, everything=True)
    rewrite(runtime, database_url, row, column, value)
    report = replay_history(runtime, datetime(2020, 1, 1, tzinfo=UTC), END) if field else None
    if field is None:  # it has left the time, so it is asked for where it is now
        tamper(database_url, "update blocks set time_min = '2025-01-01T00:00:00Z'")
        report = replay_history(runtime, datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
    assert report is not None
    assert not report.identical
    assert {one.seq for one in report.differences} == {row + 1}
    assert {one.request_id for one in report.differences} == {f"15-{row}"}
    assert field is None or field in {one.field for one in report.differences}


def test_a_block_that_is_not_the_sealed_one_is_refused(runtime: Runtime) -> None:
    append(runtime, 5)
    seal_once(runtime, everything=True)
    main = only_block(runtime)
    sound = main.read_bytes()
    main.chmod(0o600)
    main.write_bytes(sound[:100] + bytes([sound[100] ^ 1]) + sound[101:])
    report = replay_history(runtime, START, END)
    assert not report.identical
    assert [one.path for one in report.refused] == [str(main)]
    assert (report.entries, report.blocks) == (0, 0)
    main.unlink()
    assert [one.reason for one in replay_history(runtime, START, END).refused] == ["the file is missing"]


def test_what_cannot_be_asked_is_refused(runtime: Runtime) -> None:
    with pytest.raises(BadInput) as caught:
        replay_history(runtime, END, START)
    assert caught.value.code == "invalid_period"
    with pytest.raises(NotFound) as missing:
        replay_history(runtime, START, END, "nobody")
    assert missing.value.code == "unknown_org"
