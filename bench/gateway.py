"""The gateway of `tally serve`: calls a second and the time it adds, everything durable and enforced.

Every call shows a virtual key, is decided on a plan with limits, holds and charges credits, and its usage is priced,
hashed and committed before the answer is complete. Provider, gateway, database and caller share the machine; what each
of them takes of the CPU for a call is told beside the rate. Measured against, in the same run:

* the same calls straight to the provider: what caller and provider could do at most;
* a hold and a settlement by one transaction for each step, over as many connections, without HTTP, ledger and much else
  (see `bench.wallet_by_wallet`);
* two bare commits, one after the other: what a call must wait for at least that is durable before it is answered.

Each is measured in turns, and the best turn of each counts: what else the machine does takes from all alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg

from bench import wallet_by_wallet
from bench.decisions import WALLETS, open_wallets, org_name
from bench.http_ingest import WORKERS, serving
from bench.journal import bench_runtime
from bench.processes import Cpu, cpu_now, workers_peak_bytes
from bench.report import Row
from tallystick.app.keys import create_key
from tallystick.app.runtime import Runtime

TURNS = 2
ORGS = 20
WHOLE = (8, 32)
WHOLE_CALLS, ALONE_CALLS = 5_000, 500
STREAMS, STREAM_CONNECTIONS, CHUNKS = 1_000, 32, 200
OPEN_STREAMS, PAUSE_MS = 1_000, 20
LONG = (40, 160)
"""How many times as many chunks long streams have: their memory is to be the same. Shorter ones end before all that
holds some of a stream on its way is full."""
STEPS, COMMITS = 2_000, 200

LONG_SHARE_MAX = 1.5
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
    others: Cpu = Cpu(0, 0, 0)

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def cpu(self) -> str:
        """Microseconds of CPU for each, by process."""
        parts = (*self.others, self.cpu_seconds)
        each = [f"{seconds / self.requests * 1e6:,.0f}" for seconds in parts]
        return "us of CPU: workers {}, database {}, provider {}, caller {}".format(*each)


class Turns:
    """What all turns have seen: of each measure its best."""

    def __init__(self) -> None:
        self._seen: dict[str, list[Called]] = {}

    def add(self, name: str, called: Called) -> None:
        self._seen.setdefault(name, []).append(called)

    def fastest(self, name: str) -> Called:
        return max(self._seen[name], key=lambda one: one.rate)

    def p50_ms(self, name: str) -> float:
        return min(one.p50_ms for one in self._seen[name])

    def first_p50_ms(self, name: str) -> float:
        return min(one.first_p50_ms for one in self._seen[name])


def run() -> list[Row]:
    """Calls and streams a second, and what the gateway adds to one alone."""
    turns = Turns()
    steps = dict.fromkeys(WHOLE, 0.0)
    commits_ms = float("inf")
    with bench_runtime() as runtime, provider() as upstream:
        open_wallets(runtime)
        wallet_by_wallet.make(runtime.database.url, WALLETS)
        tokens = keys(runtime)
        with gateway_file(upstream), serving(runtime.settings.data_dir) as port:
            call(port, f"/openai{PATH}", tokens, 8, 1_000)
            for turn in range(TURNS):
                _take_turn(turns, runtime, port, upstream, tokens)
                commits_ms = min(commits_ms, two_commits_ms(runtime))
                for connections in WHOLE:
                    steps[connections] = max(steps[connections], _steps(runtime, connections, turn))
    rows = [_whole_row(turns, connections, steps[connections]) for connections in WHOLE]
    return [*rows, _alone_row(turns, commits_ms), *_stream_rows(turns), *_many_rows(open_at_once(), long_streams())]


def _take_turn(turns: Turns, runtime: Runtime, port: int, upstream: int, tokens: list[str]) -> None:
    """Everything once, through the gateway and straight to the provider."""
    for name, to, path in (("through", port, f"/openai{PATH}"), ("straight", upstream, PATH)):

        def measure(
            kind: str, connections: int, requests: int, *, to: int = to, path: str = path, name: str = name
        ) -> None:
            before = cpu_now(runtime.settings.data_dir)
            shown = tokens if connections > 1 else tokens[:1]
            called = call(to, path, shown, connections, requests, kind)
            others = cpu_now(runtime.settings.data_dir).since(before)
            turns.add(f"{name} {kind} {connections}", called._replace(others=others))

        for connections in WHOLE:
            measure("whole", connections, WHOLE_CALLS)
        measure("whole", 1, ALONE_CALLS)
        measure("stream", STREAM_CONNECTIONS, STREAMS)
        measure("stream", 1, 200)


def _steps(runtime: Runtime, connections: int, turn: int) -> float:
    prefix = f"g{connections}-{turn}"
    url = runtime.database.url
    return wallet_by_wallet.pairs_per_second(url, connections // WORKERS, STEPS, WALLETS, WORKERS, prefix=prefix)


def two_commits_ms(runtime: Runtime) -> float:
    """Milliseconds that two commits of a row each take, one after the other, and nothing else; half of them less."""
    taken = []
    with psycopg.connect(runtime.database.url, autocommit=True) as connection:
        connection.execute("create table if not exists bare_commits (number bigint)")
        for number in range(COMMITS):
            started = time.perf_counter()
            for _ in range(2):
                connection.execute("insert into bare_commits values (%s)", [number], prepare=True)
            taken.append((time.perf_counter() - started) * 1000)
    return sorted(taken)[COMMITS // 2]


def _whole_row(turns: Turns, connections: int, steps: float) -> Row:
    called, straight = (turns.fastest(f"{name} whole {connections}") for name in ("through", "straight"))
    return Row(
        f"calls through the gateway, {connections} connections, {WORKERS} workers",
        f"{called.rate:,.0f} calls/s; p50 {called.p50_ms:.1f}, p99 {called.p99_ms:.1f} ms; {called.cpu}",
        f"straight to the provider: {straight.rate:,.0f} calls/s; one transaction for each step, without HTTP: "
        f"{steps:,.0f} calls/s",
        f"{CALLS_MIN:,} calls/s",
        called.rate >= CALLS_MIN,
    )


def _alone_row(turns: Turns, commits_ms: float) -> Row:
    p50_ms, straight_ms = turns.p50_ms("through whole 1"), turns.p50_ms("straight whole 1")
    return Row(
        "the same on one connection",
        f"{p50_ms:.2f} ms p50, {p50_ms - straight_ms:.2f} of it added",
        f"straight to the provider: {straight_ms:.2f} ms; two bare commits alone: {commits_ms:.2f} ms",
        f"under {ADDED_MS_MAX:.0f} ms added",
        p50_ms - straight_ms < ADDED_MS_MAX,
    )


def _stream_rows(turns: Turns) -> list[Row]:
    name = f"stream {STREAM_CONNECTIONS}"
    called, straight = turns.fastest(f"through {name}"), turns.fastest(f"straight {name}")
    first_ms, straight_ms = turns.first_p50_ms("through stream 1"), turns.first_p50_ms("straight stream 1")
    return [
        Row(
            f"streams of {CHUNKS} chunks, {STREAM_CONNECTIONS} connections",
            f"{called.rate:,.0f} streams/s; p50 {called.p50_ms:.1f}, p99 {called.p99_ms:.1f} ms; {called.cpu}",
            f"straight to the provider: {straight.rate:,.0f} streams/s",
            f"{STREAMS_MIN:,} streams/s",
            called.rate >= STREAMS_MIN,
        ),
        Row(
            "the first chunk of a stream",
            f"delayed by {first_ms - straight_ms:.2f} ms p50",
            f"straight from the provider: after {straight_ms:.2f} ms",
            f"under {FIRST_MS_MAX:.0f} ms",
            first_ms - straight_ms < FIRST_MS_MAX,
        ),
    ]


def _many_rows(many: Many, long: list[float]) -> list[Row]:
    once, more = long
    return [
        Row(
            f"{OPEN_STREAMS:,} streams open at once, each {CHUNKS} chunks over {CHUNKS * PAUSE_MS / 1000:.0f} s",
            f"all complete after {many.seconds:.1f} s; {many.bytes_each / 1024:.0f} KB of memory for each",
            "",
            "all complete and exact",
            many.complete,
        ),
        Row(
            f"streams of {LONG[1] * CHUNKS:,} chunks, all at once, {STREAM_CONNECTIONS} connections",
            f"{more / 1024:.0f} KB of memory for each",
            f"of {LONG[0] * CHUNKS:,} chunks: {once / 1024:.0f} KB",
            f"at most {LONG_SHARE_MAX} of that",
            more <= LONG_SHARE_MAX * once,
        ),
    ]


class Many(NamedTuple):
    """What became of many streams at once; memory is what the workers' peak rose by, for each stream."""

    seconds: float
    complete: bool
    bytes_each: float


def open_at_once() -> Many:
    """Streams that all are open for seconds."""
    with bench_runtime() as runtime:
        open_wallets(runtime)
        tokens = keys(runtime)
        with (
            provider(str(CHUNKS), str(PAUSE_MS)) as slow,
            gateway_file(slow),
            serving(runtime.settings.data_dir) as port,
        ):
            call(port, f"/openai{PATH}", tokens, 8, 16, "stream")
            before = workers_peak_bytes()
            called = call(port, f"/openai{PATH}", tokens, OPEN_STREAMS, OPEN_STREAMS, "stream")
            each = (workers_peak_bytes() - before) / OPEN_STREAMS
        return Many(called.seconds, _settled(runtime) == OPEN_STREAMS + 16, each)


def long_streams() -> list[float]:
    """Bytes of memory for each of some streams that come at full speed, for each of the lengths."""
    each = []
    with bench_runtime() as runtime:
        open_wallets(runtime)
        tokens = keys(runtime)
        for times in LONG:
            with (
                provider(str(times * CHUNKS)) as long,
                gateway_file(long),
                serving(runtime.settings.data_dir) as port,
            ):
                call(port, f"/openai{PATH}", tokens, 8, 16, "stream")
                before = workers_peak_bytes()
                call(port, f"/openai{PATH}", tokens, STREAM_CONNECTIONS, 4 * STREAM_CONNECTIONS, "stream")
                each.append((workers_peak_bytes() - before) / STREAM_CONNECTIONS)
    return each


def _settled(runtime: Runtime) -> int:
    """How many usage entries there are that say exactly what the provider said."""
    with runtime.database.operator() as connection:
        query = (
            "select count(*) from ledger_entries where kind = 'usage' and status = 'final'"
            " and meter_names = '{tokens_in,tokens_out}' and meter_quantities = array[812, %s]::bigint[]"
        )
        row = connection.execute(query, [CHUNKS]).fetchone()
    return int(row[0]) if row else 0


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
