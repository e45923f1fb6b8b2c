"""The gateway of `tally serve`: calls a second and the time it adds, everything durable and enforced.

Every call shows a virtual key, is decided on a plan with limits, holds and charges credits, and its usage is priced,
hashed and committed before the answer is complete. Provider, gateway, database and caller share the machine. Measured
against, in the same run: the same calls straight to the provider.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.decisions import open_wallets, org_name
from bench.http_ingest import WORKERS, serving
from bench.journal import bench_runtime
from bench.report import Row, peak_bytes
from tallystick.app.keys import create_key
from tallystick.app.runtime import Runtime

TURNS = 2
ORGS = 20
WHOLE = (8, 32)
WHOLE_CALLS, ALONE_CALLS = 5_000, 500
STREAMS, STREAM_CONNECTIONS, CHUNKS = 1_000, 32, 200
OPEN_STREAMS, PAUSE_MS = 1_000, 20

CALLS_MIN, STREAMS_MIN, ADDED_MS_MAX, FIRST_MS_MAX = 1_500, 300, 4.0, 5.0
PATH = "/v1/chat/completions"


class Called(NamedTuple):
    """What one run of the caller has seen."""

    seconds: float
    requests: int
    p50_ms: float
    p99_ms: float
    first_p50_ms: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def run() -> list[Row]:
    """Calls and streams a second, and what the gateway adds to one alone."""
    whole: dict[int, list[Called]] = {connections: [] for connections in WHOLE}
    direct: dict[int, list[Called]] = {connections: [] for connections in WHOLE}
    alone: list[Called] = []
    alone_direct: list[Called] = []
    streams: list[Called] = []
    streams_direct: list[Called] = []
    first: list[Called] = []
    first_direct: list[Called] = []
    with bench_runtime() as runtime, provider() as upstream:
        open_wallets(runtime)
        tokens = keys(runtime)
        with gateway_file(upstream), serving(runtime.settings.data_dir) as port:
            through = f"/openai{PATH}"
            call(port, through, tokens, 8, 1_000)
            for _ in range(TURNS):
                for connections in WHOLE:
                    whole[connections].append(call(port, through, tokens, connections, WHOLE_CALLS))
                    direct[connections].append(call(upstream, PATH, tokens, connections, WHOLE_CALLS))
                alone.append(call(port, through, tokens[:1], 1, ALONE_CALLS))
                alone_direct.append(call(upstream, PATH, tokens[:1], 1, ALONE_CALLS))
                streams.append(call(port, through, tokens, STREAM_CONNECTIONS, STREAMS, "stream"))
                streams_direct.append(call(upstream, PATH, tokens, STREAM_CONNECTIONS, STREAMS, "stream"))
                first.append(call(port, through, tokens[:1], 1, 200, "stream"))
                first_direct.append(call(upstream, PATH, tokens[:1], 1, 200, "stream"))
    many = open_at_once()
    rows = [
        _rate_row(f"calls through the gateway, {connections} connections, {WORKERS} workers",
                  max(whole[connections], key=lambda one: one.rate),
                  max(direct[connections], key=lambda one: one.rate), CALLS_MIN, "calls")
        for connections in WHOLE
    ]  # fmt: skip
    added = min(one.p50_ms for one in alone) - min(one.p50_ms for one in alone_direct)
    rows.append(
        Row(
            "the same on one connection",
            f"{min(one.p50_ms for one in alone):.2f} ms p50, {added:.2f} of it added",
            f"straight to the provider: {min(one.p50_ms for one in alone_direct):.2f} ms",
            f"under {ADDED_MS_MAX:.0f} ms added",
            added < ADDED_MS_MAX,
        )
    )
    rows.append(
        _rate_row(
            f"streams of {CHUNKS} chunks, {STREAM_CONNECTIONS} connections",
            max(streams, key=lambda one: one.rate),
            max(streams_direct, key=lambda one: one.rate),
            STREAMS_MIN,
            "streams",
        )
    )
    delayed = min(one.first_p50_ms for one in first) - min(one.first_p50_ms for one in first_direct)
    rows.append(
        Row(
            "the first chunk of a stream",
            f"delayed by {delayed:.2f} ms p50",
            "",
            f"under {FIRST_MS_MAX:.0f} ms",
            delayed < FIRST_MS_MAX,
        )
    )
    rows.append(
        Row(
            f"{OPEN_STREAMS:,} streams open at once, each {CHUNKS} chunks over {CHUNKS * PAUSE_MS / 1000:.0f} s",
            f"all complete after {many.seconds:.1f} s; {many.bytes_each / 1024:.0f} KB of memory for each",
            f"of ten times as many chunks, all at once: {many.bytes_each_long / 1024:.0f} KB",
            "all complete and exact",
            many.complete,
        )
    )
    return rows


class Many(NamedTuple):
    """What became of many streams at once; memory is what the workers' peak rose by, for each stream."""

    seconds: float
    complete: bool
    bytes_each: float
    bytes_each_long: float


def open_at_once() -> Many:
    """Streams that all are open for seconds, and long ones that come at full speed."""
    with bench_runtime() as runtime:
        open_wallets(runtime)
        tokens = keys(runtime)
        with (
            provider(str(CHUNKS), str(PAUSE_MS)) as slow,
            gateway_file(slow),
            serving(runtime.settings.data_dir) as port,
        ):
            call(port, f"/openai{PATH}", tokens, 8, 16, "stream")
            before = _peaks()
            called = call(port, f"/openai{PATH}", tokens, OPEN_STREAMS, OPEN_STREAMS, "stream")
            after = _peaks()
        settled = _settled(runtime)
        with provider(str(10 * CHUNKS)) as long, gateway_file(long), serving(runtime.settings.data_dir) as port:
            call(port, f"/openai{PATH}", tokens, 8, 16, "stream")
            before_long = _peaks()
            call(port, f"/openai{PATH}", tokens, STREAM_CONNECTIONS, 10 * STREAM_CONNECTIONS, "stream")
            after_long = _peaks()
    each = (after - before) / OPEN_STREAMS
    return Many(called.seconds, settled == OPEN_STREAMS + 16, each, (after_long - before_long) / STREAM_CONNECTIONS)


def _settled(runtime: Runtime) -> int:
    """How many usage entries there are that say exactly what the provider said."""
    with runtime.database.operator() as connection:
        query = (
            "select count(*) from ledger_entries where kind = 'usage' and status = 'final'"
            " and meter_names = '{tokens_in,tokens_out}' and meter_quantities = array[812, %s]::bigint[]"
        )
        row = connection.execute(query, [CHUNKS]).fetchone()
    return int(row[0]) if row else 0


def _peaks() -> int:
    """The most memory that the workers of our server have held, all together."""
    told = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in told.splitlines()[1:]]
    ours = {os.getpid()}
    for _ in range(3):  # the server is our child, and the workers are its
        ours |= {int(pid) for pid, parent, _ in rows if int(parent) in ours}
    return sum(
        peak_bytes(int(pid)) for pid, _, command in rows if int(pid) in ours and "tallystick.cli.workers" in command
    )


def _rate_row(name: str, through: Called, straight: Called, aim: float, what: str) -> Row:
    return Row(
        name,
        f"{through.rate:,.0f} {what}/s; p50 {through.p50_ms:.1f}, p99 {through.p99_ms:.1f} ms",
        f"straight to the provider: {straight.rate:,.0f} {what}/s",
        f"{aim:,} {what}/s",
        through.rate >= aim,
    )


def keys(runtime: Runtime) -> list[str]:
    """Tokens of as many orgs."""
    tags = {"feature": "briefs", "user_id": "u1", "session_id": "s1", "environment": "production"}
    return [
        create_key(runtime, org_id=org_name(number), scopes=["gateway"], author="bench", defaults=tags).token
        for number in range(ORGS)
    ]


@contextmanager
def provider(*arguments: str) -> Iterator[int]:
    """A provider in a process of its own; its port."""
    command = [sys.executable, "-m", "bench.gateway_upstream", *(arguments or (str(CHUNKS),))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


@contextmanager
def gateway_file(upstream: int) -> Iterator[None]:
    """The servers that are started meanwhile call this provider."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "gateway.yaml"
        file.write_text(f"providers: {{openai: {{base_url: 'http://127.0.0.1:{upstream}', key_env: BENCH_KEY}}}}\n")
        os.environ |= {"TALLY_GATEWAY_FILE": str(file), "BENCH_KEY": "sk-bench"}
        try:
            yield
        finally:
            del os.environ["TALLY_GATEWAY_FILE"], os.environ["BENCH_KEY"]


def call(port: int, path: str, tokens: list[str], connections: int, requests: int, kind: str = "whole") -> Called:
    """Call from a process of its own; every call must be answered with 200."""
    command = [sys.executable, "-m", "bench.gateway_load", str(port), path, ",".join(tokens)]
    done = subprocess.run(
        [*command, str(connections), str(requests), kind], stdout=subprocess.PIPE, check=True, text=True
    )
    return Called(**json.loads(done.stdout))
