"""Sealing beside a server: in a process of its own, told in readiness, and never in the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from journal_helpers import query, raw_event, tamper
from tallystick.app.health import check_readiness
from tallystick.app.ingest import check_items
from tallystick.app.runtime import Runtime, utc_now
from tallystick.app.seal_loop import SealLoop, check_sealing, read_seal_state


@pytest.fixture
def served(runtime: Runtime) -> Runtime:
    """A Tallystick in the real present, with 30 entries that have waited for an hour."""
    settings = runtime.settings.model_copy(update={"seal_seconds": 1})
    earlier = replace(runtime, clock=lambda: datetime.now(UTC) - timedelta(hours=1))
    earlier.append(check_items(earlier, [raw_event(f"r{n}") for n in range(30)]))
    return replace(runtime, clock=utc_now, settings=settings)


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.05)


def test_what_has_waited_is_sealed_without_being_asked(served: Runtime) -> None:
    assert check_sealing(served.settings).detail == "nothing was due to be sealed yet"
    with SealLoop(served):
        wait_until(lambda: (state := read_seal_state(served.settings)) is not None and state.entries == 30)

    assert query(served, "select entries from blocks") == [(30,)]
    assert query(served, "select size from checkpoints") == [(1,)]
    assert check_sealing(served.settings).ok


def test_a_tampered_entry_is_told_in_readiness_and_events_are_taken_all_the_same(served: Runtime) -> None:
    tamper(served.database.url, "update ledger_entries set cost_pico = 5 where seq = 7")
    with SealLoop(served):
        wait_until(lambda: not check_sealing(served.settings).ok)

    found = check_readiness(served, [check_sealing(served.settings)])
    assert "entry 7 of acme" in check_sealing(served.settings).detail
    assert found.degraded
    assert found.ready
    assert query(served, "select last_seq from block_orgs") == [(6,)]
    assert [receipt.status for receipt in served.append(check_items(served, [raw_event("new")]))] == ["accepted"]


def test_a_blocks_folder_that_cannot_be_used_is_told_and_mended_sealing_goes_on(served: Runtime) -> None:
    folder = served.settings.data_dir / "blocks"
    folder.write_text("in the way")
    with SealLoop(served):
        wait_until(lambda: not check_sealing(served.settings).ok)
        assert str(folder) in check_sealing(served.settings).detail
        folder.unlink()
        wait_until(lambda: check_sealing(served.settings).ok)

    assert query(served, "select entries from blocks") == [(30,)]


def test_it_is_stopped_in_the_middle_of_a_run_and_nothing_is_harmed(served: Runtime) -> None:
    loop = SealLoop(served)
    loop.start()
    wait_until(lambda: loop._child is not None)
    loop.stop()

    assert query(served, "select count(*) from blocks") in ([(0,)], [(1,)])
    with SealLoop(served):
        wait_until(lambda: query(served, "select sum(entries) from blocks") == [(30,)])


def test_it_can_be_switched_off(served: Runtime) -> None:
    off = replace(served, settings=served.settings.model_copy(update={"seal_seconds": 0}))
    with SealLoop(off):
        time.sleep(0.2)
    assert "switched off" in check_sealing(off.settings).detail
    assert query(off, "select count(*) from blocks") == [(0,)]
