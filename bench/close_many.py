"""Closing a month of 10,000 orgs with 1,000 events each, the month before closed and some facts of it late.

The month before has one event an org. After it is closed, one more arrives for it in one org of a hundred, so that the
close has to look for late facts everywhere and to adjust here and there. `BENCH_CLOSE_ORGS` and `BENCH_CLOSE_EACH`
make it smaller.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.close import _CONTRACT, _megabytes, _tally
from bench.report import Row
from tallystick.app.contracts import apply_contract
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.usage.event import UsageEvent

ORGS = int(os.environ.get("BENCH_CLOSE_ORGS", "10000"))
EACH = int(os.environ.get("BENCH_CLOSE_EACH", "1000"))
WANTED_SECONDS = 180
WANTED_BYTES = 2 * 10**9
_AUGUST = datetime(2026, 8, 15, tzinfo=UTC)
_SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
_BATCH = 10_000


def run() -> list[Row]:
    """Seconds and peak memory of `tally invoice close` for each of the two months."""
    with tempfile.TemporaryDirectory(prefix="tally-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with open_runtime(Settings(data_dir=folder / "data")) as runtime:
            apply_contract(runtime, _CONTRACT, "bench.yaml")
            for number in range(ORGS):
                set_subscription(runtime, _org(number), contract="bench", plan="scale", effective_from=_AUGUST)
            _append(runtime, (_event(number, "first", _AUGUST) for number in range(ORGS)))
            first, _, _ = _tally(folder / "data", "close", "2026-08")
            _append(runtime, _events())
            _append(runtime, (_event(number, "late", _AUGUST) for number in range(0, ORGS, 100)))
            closed, peak, results = _tally(folder / "data", "close", "2026-09")
    events = sum(one["events"] for one in results)
    assert events == ORGS * EACH, f"{events} events on the invoices of {ORGS * EACH}"
    scaled = WANTED_SECONDS * ORGS * EACH / 10**7
    return [
        Row(
            f"closing a month of {ORGS:,} orgs with one event each",
            f"{first:.1f} s ({1000 * first / ORGS:.1f} ms an org)",
        ),
        Row(
            f"closing the next, {ORGS:,} orgs with {EACH:,} events each, late facts in one of a hundred",
            f"{closed:.1f} s ({1000 * closed / ORGS:.1f} ms an org)",
            "",
            f"{scaled:,.0f} s",
            closed <= scaled,
        ),
        Row("  peak memory of that process", _megabytes(peak), "", "2,000 MB", peak < WANTED_BYTES),
    ]


def _append(runtime: Runtime, events: Iterator[UsageEvent]) -> None:
    batch: list[UsageEvent] = []
    for event in events:
        batch.append(event)
        if len(batch) == _BATCH:
            runtime.append(batch)
            batch = []
    runtime.append(batch)


def _org(number: int) -> str:
    return f"org-{number:05d}"


def _events() -> Iterator[UsageEvent]:
    """The orgs' rows lie mixed, each org's in the order of their time."""
    step = timedelta(days=29) / max(EACH, 1)
    for place in range(EACH):
        for number in range(ORGS):
            yield _event(number, f"r{place}", _SEPTEMBER + place * step)


def _event(number: int, name: str, time: datetime) -> UsageEvent:
    return UsageEvent(
        org_id=_org(number),
        request_id=name,
        time=time,
        user_id="user",
        session_id="session",
        feature="chat",
        environment="production",
        provider="openai",
        model="gpt-4o-mini",
        meters={"tokens_in": 300 + number % 4000, "tokens_out": 1 + number % 700, "cache_read_tokens": number % 2048},
        latency_ms=300,
    )
