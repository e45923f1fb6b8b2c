"""What docs/blocks.md says can be asked of blocks can be asked, and gives what was written."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from tallystick.archive.columns import ENTRY_SCHEMA
from tallystick.archive.format import block_schema, write_block

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "blocks.md").read_text(encoding="utf-8")


def entry(seq: int, meter: str, quantity: int, day: int) -> dict[str, object]:
    at = datetime(2026, 10, day, tzinfo=UTC)
    lines = {"line_meters": [meter], "line_quantities": [quantity], "line_price_pico": [5], "line_per": [1]}
    return dict.fromkeys(ENTRY_SCHEMA.names) | {
        **lines,
        "line_amount_pico": [5 * quantity],
        "cost_pico": 5 * quantity,
        "meter_names": [meter],
        "meter_quantities": [quantity],
        "org_id": "acme",
        "seq": seq,
        "kind": "usage",
        "request_id": f"r{seq}",
        **dict.fromkeys(("time", "time_max", "recorded_at"), at),
        "provider": "openai",
        "model": "gpt-4o",
        "rate_version": "v1",
        "status": "final",
        "fingerprint": bytes(32),
        "leaf": bytes(32),
    }


def test_the_query_of_the_page_sums_up_blocks_with_different_meters(tmp_path: Path) -> None:
    folder = tmp_path / "blocks" / "2026-11-02"
    folder.mkdir(parents=True)
    for number, meter in ((1, "tokens_in"), (2, "audio_ms")):
        rows = pa.Table.from_pylist([entry(number, meter, 7, number)], schema=ENTRY_SCHEMA)
        stem = f"block-{number:012d}"
        write_block(rows, folder / f"{stem}.parquet", folder / f"{stem}.people.parquet", block=number)
    (query,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    rows = duckdb.sql(query.replace("'blocks/", f"'{tmp_path}/blocks/")).fetchall()
    assert rows == [("openai", "gpt-4o", 2, 7, 70 / 1e12)]


def test_every_column_of_a_block_is_on_the_page() -> None:
    named = set(re.findall(r"`([a-z_]+)`", PAGE))
    for name in block_schema([]).names:
        assert name in named or name.startswith("line_"), name
