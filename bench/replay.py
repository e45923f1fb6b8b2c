"""Replay of 10 M sealed entries in blocks of a million, against DuckDB's plain sums over the same files, in this run.

The baseline reads every column of quantities and amounts and adds each up; the replay reads those and all else that a
price depends on, and checks every entry. Both have the same threads, each in a process of its own. The replay's rate
has the hashing of the files in it; it is compared with the sums without, since those hash nothing. The traffic has 12
models of 7 providers, four rate versions, tiers, times of day, batch prices, minimums, fees, figures that the provider
stated, and models without a price (`bench.block_files`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa

from bench.block_files import make_blocks
from bench.report import Row
from tallystick.archive.columns import ENTRY_SCHEMA
from tallystick.archive.format import read_block, write_block

BLOCKS, ROUNDS = 10, 3
_PLAIN = """
import json, os, sys, time
import duckdb
from tallystick.archive.format import block_info
files = sys.argv[1:]
meters = block_info(__import__("pathlib").Path(files[0])).meters
connection = duckdb.connect(config={"threads": len(os.sched_getaffinity(0))})
connection.execute("set enable_progress_bar = false")
sums = ", ".join(f'sum("quantity.{one}"), sum("amount.{one}")' for one in meters)
query = f"select {sums} from read_parquet({files!r})"
connection.execute(query).fetchall()
start = time.perf_counter()
connection.execute(query).fetchall()
print(json.dumps({"seconds": time.perf_counter() - start}))
"""
_REPLAY = """
import json, os, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from tallystick.app.cards import load_card_history
from tallystick.archive.replay import BlockReplay, Wanted
from tallystick.archive.replay_memory import keep_freed_memory
from tallystick.archive.store import file_sha256
from bench.report import peak_bytes
files = [Path(one) for one in sys.argv[1:]]
history = load_card_history()
threads = len(os.sched_getaffinity(0))
keep_freed_memory()  # as the command does
start = time.perf_counter()
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(file_sha256, files))
hashed = time.perf_counter() - start
wanted = Wanted(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
with tempfile.TemporaryDirectory() as folder:
    limits = {"threads": threads, "memory_mb": 1024, "temporary": Path(folder)}
    with BlockReplay(history.at, history.minimum_meters(), **limits) as one:
        parts = list(one.run(files, wanted))
print(json.dumps({
    "seconds": time.perf_counter() - start, "hashed": hashed, "entries": sum(part.entries for part in parts),
    "differences": [(one.org_id, one.seq, one.field) for part in parts for one in part.differences],
    "memory_mb": peak_bytes(os.getpid()) / 2**20,
}))
"""


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as name:
        files = make_blocks(Path(name), blocks=BLOCKS)
        return measure(files)


def measure(files: list[Path]) -> list[Row]:
    plain = min(_child(_PLAIN, files)["seconds"] for _ in range(ROUNDS))
    replays = [_child(_REPLAY, files) for _ in range(ROUNDS)]
    best = min(replays, key=lambda one: one["seconds"])
    entries, seconds = best["entries"], best["seconds"]
    ratio = (seconds - best["hashed"]) / plain
    memory = max(one["memory_mb"] for one in replays)
    place = _forge(files[len(files) // 2])
    found = _child(_REPLAY, files)["differences"]
    return [
        Row(
            f"replay {entries / 1e6:.0f} M entries from blocks",
            f"{entries / seconds / 1e6:.1f} M entries/s, {memory:.0f} MB; {best['hashed'] / seconds:.0%} of it hashing",
            f"plain scan and sum: {entries / plain / 1e6:.1f} M/s, {ratio:.1f} times as fast as ours without hashing",
            "5 M entries/s, 4 times or less, under 2,000 MB, no difference",
            entries / seconds >= 5e6 and ratio <= 4 and memory < 2000 and not any(_differences(replays)),
        ),
        Row(
            "one amount of all of them changed by 1 pico-USD",
            f"{len(found)} differences: {found[:1]}",
            "",
            "that one is named",
            bool(found) and {(org, seq) for org, seq, _ in found} == {place},
        ),
    ]


def _differences(replays: list[dict[str, object]]) -> list[object]:
    return [one["differences"] for one in replays]


def _child(program: str, files: list[Path]) -> dict:
    command = [sys.executable, "-c", program, *map(str, files)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def _forge(main: Path) -> tuple[str, int]:
    """Change one amount in the middle of a block; where."""
    table = read_block(main, None)
    row = table.num_rows // 2
    while not table.column("line_amount_pico")[row].as_py():
        row += 1
    amounts = table.column("line_amount_pico").slice(row, 1).to_pylist()
    amounts[0][0] = (amounts[0][0] or 0) + 1
    column = pa.chunked_array(
        [
            *table.column("line_amount_pico").slice(0, row).chunks,
            pa.array(amounts, pa.list_(pa.int64())),
            *table.column("line_amount_pico").slice(row + 1).chunks,
        ]
    )
    place = ENTRY_SCHEMA.names.index("line_amount_pico")
    forged = table.set_column(place, ENTRY_SCHEMA.field("line_amount_pico"), column)
    write_block(forged, main, main.with_suffix(".people"), block=1)
    return table.column("org_id")[row].as_py(), table.column("seq")[row].as_py()
