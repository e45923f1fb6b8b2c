"""`tally ingest` of 200,000 events, and beside it a bare binary COPY of the same rows by the same driver.

The baseline copies rows that were encoded beforehand into two tables without keys, constraints or triggers, in one
transaction: what the disk and the protocol allow when nothing is checked, priced, probed or numbered.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.report import Row
from tallystick.app.ingest import check_items
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.journal.copy_rows import END, SIGNATURE, entry_row_head, event_row_head, row_tails
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.encoding import fingerprint

EVENTS = 200_000
WANTED_PER_SECOND = 20_000
_MODELS = (
    ("openai", "gpt-4o"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"),
    ("openai", "gpt-4o-mini"),
)


def run() -> list[Row]:
    """Events a second of `tally ingest` (a process of its own, start and stop included), and of the bare COPY."""
    with tempfile.TemporaryDirectory(prefix="tally-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        lines = [json.dumps(_event(number)) for number in range(EVENTS)]
        file = folder / "events.jsonl"
        file.write_text("\n".join(lines) + "\n")
        with open_runtime(Settings(data_dir=folder / "data")) as runtime:  # the server is up, as beside `tally serve`
            baseline = _bare_copy(runtime, [json.loads(line) for line in lines])
            first = _ingest(file, folder / "data")
            again = _ingest(file, folder / "data")
            with runtime.database.connection() as connection:
                (stored,) = connection.execute("select count(*) from ledger_entries").fetchone() or (0,)
    assert stored == EVENTS, f"{stored} entries for {EVENTS} events"
    bare = f"bare COPY of the rows: {_rate(baseline)}"
    met = first <= EVENTS / WANTED_PER_SECOND
    return [
        Row(f"tally ingest of {EVENTS:,} new events", _rate(first), bare, f"{WANTED_PER_SECOND:,} events/s", met),
        Row("tally ingest of the same file again", _rate(again), "", "every one a duplicate"),
    ]


def _rate(seconds: float) -> str:
    return f"{EVENTS / seconds:,.0f} events/s ({seconds:.1f} s)"


def _ingest(file: Path, data_dir: Path) -> float:
    environment = {**os.environ, "TALLY_DATA_DIR": str(data_dir)}
    environment.pop("DATABASE_URL", None)
    command = [sys.executable, "-c", "from tallystick.cli.main import main; main()", "ingest", str(file)]
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _bare_copy(runtime: Runtime, raws: list[dict[str, object]]) -> float:
    now = datetime.now(UTC)
    events, entries = [SIGNATURE], [SIGNATURE]
    for seq, event in enumerate(check_items(runtime, raws), 1):
        fact, entry = row_tails(event, runtime.card.price_event(event), now, fingerprint(event))
        events += (event_row_head(seq), fact)
        entries += (entry_row_head(seq), entry)
    queries = load_queries("writer")
    with runtime.database.connection() as connection:
        for table in ("usage_events", "ledger_entries"):
            connection.execute(f"create table bare_{table} (like {table})")
    start = time.perf_counter()
    with runtime.database.connection() as connection:
        for table, query, rows in (
            ("usage_events", "copy_events", events),
            ("ledger_entries", "copy_entries", entries),
        ):
            bare = queries[query].decode().replace(f"copy {table}", f"copy bare_{table}")
            data = memoryview(b"".join([*rows, END]))
            with connection.cursor() as cursor, cursor.copy(bare) as stream:
                for offset in range(0, len(data), 1 << 18):
                    stream.write(data[offset : offset + (1 << 18)])
    seconds = time.perf_counter() - start
    with runtime.database.connection() as connection:
        connection.execute("drop table bare_usage_events, bare_ledger_entries")
    return seconds


def _event(number: int) -> dict[str, object]:
    provider, model = _MODELS[number % len(_MODELS)]
    return {
        "org_id": f"org-{number % 50}",
        "request_id": f"req-{number:08x}-{number * 2654435761 % 2**32:08x}",
        "time": f"2026-10-{1 + number % 28:02d}T{number % 24:02d}:{number % 60:02d}:00.{number % 1000:03d}Z",
        "user_id": f"user-{number % 997}",
        "session_id": f"session-{number // 7}",
        "feature": ("chat", "search", "agent")[number % 3],
        "environment": "production",
        "provider": provider,
        "model": model,
        "meters": {
            "tokens_in": 300 + number % 4000,
            "tokens_out": 1 + number % 700,
            "cache_read_tokens": number % 2048,
        },
        "latency_ms": 200 + number % 9000,
        "attributes": {"region": f"eu-{number % 3}"},
    }
