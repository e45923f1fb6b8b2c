"""Closing and replaying a month of 1,000,000 events, one half of them of one org, the rest of nine others.

Close and replay run as a person runs them, each in a process of its own, start and stop included; the peak of its
memory is what Linux reports for it. The baseline is the least that any closing must do: sum each org's
quantities by meter in one SQL statement, without costs, fingerprints, tiers or a digest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.report import Row
from tallystick.app.contracts import apply_contract
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.usage.event import UsageEvent

EVENTS = int(os.environ.get("BENCH_CLOSE_EVENTS", "1000000"))
MONTH = "2026-09"
WANTED_SECONDS = 30
WANTED_BYTES = 10**9
_START = datetime(2026, 9, 1, tzinfo=UTC)
_BATCH = 10_000
_MODELS = (
    ("openai", "gpt-4o"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"),
    ("openai", "gpt-4o-mini"),
)
_CONTRACT = """
contract: bench
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
plans:
  scale:
    title: Scale
    base: "10"
    commit: "1000"
    prices:
      tokens_in:
        graduated:
          - {up_to: 1_000_000_000, unit: "0.10", per: 1_000_000}
          - {unit: "0.07", per: 1_000_000}
      tokens_out: {unit: "0.30", per: 1_000_000, includes: [reasoning_tokens]}
      cache_read_tokens: {cost_plus: "0.30"}
environments:
  development: {charge: false}
"""

_SUM = """
select org_id, meter, sum(quantity) from ledger_entries
cross join lateral unnest(meter_names, meter_quantities) as used (meter, quantity)
where time >= %s and time < %s group by org_id, meter
"""


def run() -> list[Row]:
    """Seconds and peak memory of `tally invoice close`, and the rate of `tally invoice replay`."""
    with tempfile.TemporaryDirectory(prefix="tally-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with open_runtime(Settings(data_dir=folder / "data")) as runtime:  # the server is up, as beside `tally serve`
            _fill(runtime)
            bare = _bare_sum(runtime)
            closed, close_bytes, results = _tally(folder / "data", "close", MONTH)
            largest = max(results, key=lambda one: one["events"])
            replayed, replay_bytes, reports = _tally(folder / "data", "replay", largest["invoice_id"])
    events = sum(one["events"] for one in results)
    assert events == EVENTS, f"{events} events on the invoices of {EVENTS}"
    assert reports[0]["identical"], reports[0]["differences"][:3]
    count = largest["events"]
    return [
        Row(
            f"closing a month of {EVENTS:,} events",
            f"{closed:.1f} s",
            f"bare SQL sum by org and meter: {bare:.1f} s",
            f"{WANTED_SECONDS} s",
            closed <= WANTED_SECONDS,
        ),
        Row("  peak memory of that process", _megabytes(close_bytes), "", "1,000 MB", close_bytes < WANTED_BYTES),
        Row(f"replaying an invoice of {count:,} events", f"{count / replayed:,.0f} events/s ({replayed:.1f} s)"),
        Row("  peak memory of that process", _megabytes(replay_bytes), "", "1,000 MB", replay_bytes < WANTED_BYTES),
    ]


# VmHWM is the peak since the program began; ru_maxrss would also count what the process that forked it held.
_PROGRAM = """
import atexit, pathlib, sys
atexit.register(lambda: sys.stderr.write(pathlib.Path("/proc/self/status").read_text()))
from tallystick.cli.main import main
main()
"""


def _tally(data_dir: Path, *arguments: str) -> tuple[float, int, list[dict[str, Any]]]:
    """Run `tally invoice …` with --json: seconds, peak resident bytes, and what it printed."""
    environment = {**os.environ, "TALLY_DATA_DIR": str(data_dir)}
    environment.pop("DATABASE_URL", None)
    command = [sys.executable, "-c", _PROGRAM, "invoice", *arguments, "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    peak_kib = int(done.stderr.rpartition("VmHWM:")[2].split()[0])
    return seconds, peak_kib * 1024, [json.loads(line) for line in done.stdout.splitlines()]


def _fill(runtime: Runtime) -> None:
    apply_contract(runtime, _CONTRACT, "bench.yaml")
    for number in range(10):
        set_subscription(runtime, f"org-{number}", contract="bench", plan="scale", effective_from=_START)
    batch: list[UsageEvent] = []
    for event in _events():
        batch.append(event)
        if len(batch) == _BATCH:
            runtime.append(batch)
            batch = []
    runtime.append(batch)


def _bare_sum(runtime: Runtime) -> float:
    start = time.perf_counter()
    with runtime.database.operator() as connection:
        connection.execute(_SUM, [_START, _START + timedelta(days=30)]).fetchall()
    return time.perf_counter() - start


def _events() -> Iterator[UsageEvent]:
    for number in range(EVENTS):
        provider, model = _MODELS[number % len(_MODELS)]
        meters = {"tokens_in": 300 + number % 4000, "tokens_out": 1 + number % 700, "cache_read_tokens": number % 2048}
        if number % 11 == 0:
            meters["reasoning_tokens"] = number % 900
        yield UsageEvent(
            org_id="org-0" if number % 2 else f"org-{1 + number // 2 % 9}",
            request_id=f"req-{number:08x}",
            time=_START + timedelta(microseconds=number * 2_500_000 % 2_591_999_000_000),
            user_id=f"user-{number % 997}",
            session_id=f"session-{number // 7}",
            feature=("chat", "search", "agent")[number % 3],
            environment="production" if number % 20 else "development",
            provider=provider,
            model=model,
            meters=meters,
            latency_ms=200 + number % 9000,
            outcome="failure" if number % 50 == 7 else "success",
            attributes={"region": f"eu-{number % 3}"},
        )


def _megabytes(size: int) -> str:
    return f"{size / 10**6:,.0f} MB"
