"""A server that is reachable and never answers is waited for so long and no longer, and nothing counts twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from journal_helpers import query, raw_event
from tallystick.app.ingest import check_items, sound_ones
from tallystick.app.reprice import reprice
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Unavailable
from tallystick.journal import patience, steps
from tallystick.usage.event import UsageEvent

PATIENCE_SECONDS = 0.5


def events(runtime: Runtime, *raws: dict[str, object]) -> list[UsageEvent]:
    return sound_ones(check_items(runtime, raws))


def wait_until_it_writes(runtime: Runtime) -> None:
    deadline = time.monotonic() + 10
    while runtime.writer.state().down is not None:
        assert time.monotonic() < deadline, "it stays down"
        time.sleep(0.02)


@contextmanager
def at_step(name: str, action: Callable[[], None]) -> Iterator[None]:
    """Do something once, at a step."""
    left = [action]

    def hook(step: str) -> None:
        if step == name and left:
            left.pop()()

    steps.install(hook)
    try:
        yield
    finally:
        steps.install(None)


@pytest.mark.parametrize("step", ["append.taken", "append.locked", "append.copied"])
def test_callers_are_told_when_the_server_freezes_and_nothing_is_lost_or_counted_twice(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    runtime.append(events(runtime, raw_event("before")))
    monkeypatch.setattr(patience, "ANSWER_SECONDS_MAX", PATIENCE_SECONDS)
    connection = runtime.writer._connection
    assert connection is not None
    backend = connection.info.backend_pid
    batch = events(runtime, raw_event("a"), raw_event("b", org_id="other"))
    try:
        with at_step(step, lambda: os.kill(backend, signal.SIGSTOP)):
            started = time.monotonic()
            with pytest.raises(Unavailable) as told:
                runtime.submit(batch).result(20)
            assert time.monotonic() - started < 5
    finally:
        os.kill(backend, signal.SIGCONT)
    assert told.value.code == "database_unreachable"
    assert "not answered" in told.value.detail
    wait_until_it_writes(runtime)
    receipts = runtime.append(batch)
    assert {receipt.status for receipt in receipts} <= {"accepted", "duplicate"}
    stored = query(runtime, "select org_id, request_id, seq from ledger_entries order by org_id, seq")
    assert stored == [("acme", "before", 1), ("acme", "a", 2), ("other", "b", 1)]


def test_repricing_does_not_wait_for_ever_either(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.append(events(runtime, raw_event("a", model="nobody-knows-it")))
    monkeypatch.setattr(patience, "ANSWER_SECONDS_MAX", PATIENCE_SECONDS)
    with psycopg.connect(runtime.database.url) as other:
        other.execute("select from org_heads for update")
        with pytest.raises(Unavailable) as told:
            reprice(runtime)
    assert told.value.code == "database_unreachable"
    assert reprice(runtime).corrected == 0
