"""Sealing 300,000 entries: read, written as a block, read back, every leaf computed again, hashed, signed.

Beside it, what reading alone takes: the same rows through the same driver as Arrow columns, nothing done with them.
Sealing runs as beside a server: in a process of its own that gives way to others; its start is part of the time. CPU
time is without PostgreSQL's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from bench.report import Row, peak_bytes
from bench.traffic import raw_events
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.journal.sealing import read_entries, unsealed
from tallystick.usage.event import UsageEvent

ENTRIES = 300_000
_BATCH = 4000


def run() -> list[Row]:
    """Entries a second by the clock and by the processor, of sealing and of reading alone."""
    with tempfile.TemporaryDirectory(prefix="tally-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        settings = Settings(data_dir=folder / "data")
        with open_runtime(settings) as runtime:
            _fill(runtime)
            reading = _read(runtime)
            sealing, peak = _seal(settings)
        size = sum(path.stat().st_size for path in (folder / "data" / "blocks").glob("*/*.parquet"))
    return [
        Row(
            f"sealing of {ENTRIES:,} entries, verified and signed",
            _rates(*sealing),
            f"reading the rows alone: {_rates(*reading)}",
            "beside what writes them",
        ),
        Row("a sealed entry on disk", f"{size / ENTRIES:,.0f} bytes", "", "people files included"),
        Row("memory of the process that seals", f"{peak / 2**20:,.0f} MB", "", "bounded by the entries of a block"),
    ]


def _fill(runtime: Runtime) -> None:
    events = msgspec.convert(list(raw_events("seal", ENTRIES)), list[UsageEvent])
    for batch in _batches(iter(events)):
        assert all(receipt.status == "accepted" for receipt in runtime.append(batch))


def _batches(events: Iterator[UsageEvent]) -> Iterator[list[UsageEvent]]:
    while batch := list(islice(events, _BATCH)):
        yield batch


def _read(runtime: Runtime) -> tuple[float, float]:
    with runtime.database.operator() as connection:
        ranges = unsealed(connection)
    start, before = time.perf_counter(), time.process_time()
    with read_entries(runtime.database, ranges) as batches:
        assert sum(batch.num_rows for batch in batches) == ENTRIES
    return time.perf_counter() - start, time.process_time() - before


def _seal(settings: Settings) -> tuple[tuple[float, float], int]:
    """Seconds by the clock and by the processor, start and stop included, and the most memory in bytes."""
    asked = {"settings": settings.model_dump(mode="json"), "retention": False}
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "tallystick.app.seal_child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(asked).encode() + b"\n")
    child.stdin.flush()
    answer = json.loads(child.stdout.readline())
    peak = peak_bytes(child.pid)
    _, status, used = os.wait4(child.pid, 0)
    assert (status, answer.get("entries"), answer.get("left")) == (0, ENTRIES, 0), answer
    return (time.perf_counter() - start, used.ru_utime + used.ru_stime), peak


def _rates(elapsed: float, cpu: float) -> str:
    return f"{ENTRIES / elapsed:,.0f} entries/s ({ENTRIES / cpu:,.0f} by CPU time)"
