"""`tally ingest` of 200,000 events, and beside it a bare binary COPY of such rows into a table with the same keys.

What the baseline is, and what the journal reaches without files and checks, is in `bench.journal`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from bench.journal import bench_runtime, checked, raw_rows_per_second
from bench.report import Row
from bench.traffic import raw_events

EVENTS = 200_000
WANTED_PER_SECOND = 20_000


def run() -> list[Row]:
    """Events a second of `tally ingest` (a process of its own, start and stop included), and of the bare COPY."""
    with bench_runtime() as runtime:  # the server is up, as beside `tally serve`
        data_dir = runtime.settings.data_dir
        file = data_dir.parent / "events.jsonl"
        file.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in raw_events("file", EVENTS)))
        baseline = raw_rows_per_second(runtime, checked("bare", EVENTS // 2))
        first = _ingest(file, data_dir)
        again = _ingest(file, data_dir)
        with runtime.database.operator() as connection:
            (stored,) = connection.execute("select count(*) from ledger_entries").fetchone() or (0,)
    assert stored == EVENTS, f"{stored} entries for {EVENTS} events"
    bare = f"bare COPY, same keys: {baseline:,.0f} rows/s"
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
