"""`POST /v1/events` of `tally serve`: events priced, hashed, stored exactly once and durably, sent by another process.

Server, database and sender share the machine, as they would not where they are apart. Measured against, in the same
run and the same database server:

* for batches, a bare COPY of the same rows into a table of the same shape and keys (see `bench.journal`);
* for single events, one INSERT and commit for each, by the same HTTP server over as many connections, and without HTTP
  (see `bench.row_by_row`).

Each is measured in turns, and the best turn of each counts: what else the machine does takes from all alike.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import row_by_row
from bench.journal import bench_runtime, checked, raw_rows_per_second
from bench.report import Row
from tallystick.app.runtime import Runtime

WORKERS = 2
TURNS = 3
BATCH = 500
BATCH_CONNECTIONS = 16
BATCH_EVENTS = 150_000
SINGLE_CONNECTIONS = 64
SINGLE_EVENTS = 30_000
ROW_BY_ROW_EVENTS = 10_000

RAW_SHARE_MIN = 0.4
HOT_SHARE_MIN = 0.7
SINGLES_MIN, P99_MS_MAX, SINGLES_TIMES_MIN = 5_000, 25.0, 3.0


class Sent(NamedTuple):
    """What one run of the sender has seen."""

    seconds: float
    events: int
    p50_ms: float
    p99_ms: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.events / self.seconds


def run() -> list[Row]:
    """Events a second over HTTP: in batches over many orgs and one, and one by one."""
    with bench_runtime() as runtime:
        raw = 0.0
        spread: list[Sent] = []
        hot: list[Sent] = []
        single: list[Sent] = []
        for turn in range(TURNS):
            raw = max(raw, raw_rows_per_second(runtime, checked(f"raw{turn}", 100_000)))
            with serving(runtime.settings.data_dir) as port:
                send(port, 4, BATCH, 10_000, prefix=f"warm{turn}")
                spread.append(send(port, BATCH_CONNECTIONS, BATCH, BATCH_EVENTS, prefix=f"spread{turn}"))
                hot.append(send(port, BATCH_CONNECTIONS, BATCH, BATCH_EVENTS, orgs=1, prefix=f"hot{turn}"))
                single.append(send(port, SINGLE_CONNECTIONS, 1, SINGLE_EVENTS, prefix=f"single{turn}"))
        naive = _row_by_row(runtime)
        direct = row_by_row.direct(runtime.database.url, SINGLE_CONNECTIONS, ROW_BY_ROW_EVENTS, WORKERS)
    return _rows(raw, *(max(turns, key=lambda sent: sent.rate) for turns in (spread, hot, single)), naive, direct)


def _rows(raw: float, spread: Sent, hot: Sent, single: Sent, naive: Sent, direct: float) -> list[Row]:
    served = f"{WORKERS} workers"
    times = single.rate / naive.rate
    return [
        Row(
            f"POST /v1/events, batches of {BATCH}, {BATCH_CONNECTIONS} callers, {served}",
            f"{spread.rate:,.0f} events/s, {spread.rate / raw:.2f} of the COPY",
            f"bare COPY of the rows: {raw:,.0f} rows/s",
            f"{RAW_SHARE_MIN} of the COPY",
            spread.rate >= RAW_SHARE_MIN * raw,
        ),
        Row(
            "the same for one hot org",
            f"{hot.rate:,.0f} events/s",
            f"spread over 50 orgs: {spread.rate:,.0f} events/s",
            f"{HOT_SHARE_MIN} of the spread rate",
            hot.rate >= HOT_SHARE_MIN * spread.rate,
        ),
        Row(
            f"POST /v1/events, one event each, {SINGLE_CONNECTIONS} connections, {served}",
            f"{single.rate:,.0f} events/s, p50 {single.p50_ms:.1f} ms, p99 {single.p99_ms:.1f} ms",
            f"INSERT and commit each, same server: {naive.rate:,.0f} events/s, p99 {naive.p99_ms:.1f} ms",
            f"{SINGLES_MIN:,} events/s, p99 under {P99_MS_MAX:.0f} ms, {SINGLES_TIMES_MIN:.0f} times ({times:.1f})",
            single.rate >= SINGLES_MIN and single.p99_ms < P99_MS_MAX and times >= SINGLES_TIMES_MIN,
        ),
        Row(
            "INSERT and commit each without HTTP or anything else, for comparison",
            f"{direct:,.0f} events/s",
            f"{SINGLE_CONNECTIONS} connections, rows made beforehand",
        ),
    ]


def _row_by_row(runtime: Runtime) -> Sent:
    command = [
        sys.executable,
        "-m",
        "bench.row_by_row",
        runtime.database.url,
        "0",
        str(WORKERS),
        str(SINGLE_CONNECTIONS),
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        send(port, SINGLE_CONNECTIONS, 1, 2_000, prefix="naive-warm")
        return max(
            (send(port, SINGLE_CONNECTIONS, 1, ROW_BY_ROW_EVENTS, prefix=f"naive{turn}") for turn in range(TURNS)),
            key=lambda sent: sent.rate,
        )
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@contextmanager
def serving(data_dir: Path, workers: int = WORKERS) -> Iterator[int]:
    """`tally serve` over this data directory; its port."""
    command = [sys.executable, "-c", "from tallystick.cli.main import main; main()", "serve", "--port", "0"]
    command += ["--workers", str(workers), "--data-dir", str(data_dir)]
    log = data_dir / "serve.log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            command, stderr=stream, env={**os.environ, "TALLY_SEAL_SECONDS": "0", "TALLY_JOBS": "false"}
        )
    try:
        while not (found := re.search(r"listening on \S+:(\d+)", log.read_text())):
            assert server.poll() is None, log.read_text()
            time.sleep(0.05)
        yield int(found[1])
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def send(port: int, connections: int, batch: int, events: int, *, orgs: int = 50, prefix: str, first: int = 0) -> Sent:
    """Send new events from a process of its own; every one must be accepted."""
    command = [sys.executable, "-m", "bench.http_load"]
    command += [str(argument) for argument in (port, connections, batch, events, orgs, prefix, first)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Sent(**json.loads(done.stdout))
