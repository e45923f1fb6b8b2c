"""A disk that fills up under load: events are refused, nothing is harmed, and they are taken once there is room."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from crash.checks import wrongs
from crash.traffic import Ledger, event
from fault_tools import fill, small_disk
from faults import bring, resend_the_rest, strangers
from tallystick.app.health import check_readiness
from tallystick.app.ingest import ingest_events
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import Unavailable
from tallystick.journal.server import EmbeddedServer

_CALLS_MAX = 3000


def eventually(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def new_ledger() -> Ledger:
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(2**32))
    return Ledger(random.Random(seed))


def bring_until_refused(runtime: Runtime, ledger: Ledger) -> str:
    """Bring events until a call is refused; its code."""
    for _ in range(_CALLS_MAX):
        numbers = [number for _ in range(20) for number in ledger.take()]
        try:
            results = ingest_events(runtime, [event(number) for number in numbers])
        except Unavailable as error:
            return error.code
        ledger.note(numbers, [result.as_dict() for result in results])
    raise AssertionError("the disk did not fill up")


def test_the_embedded_server_is_never_brought_to_the_end_of_its_disk() -> None:
    ledger = new_ledger()
    with small_disk(300) as folder, open_runtime(Settings(data_dir=folder / "data")) as runtime:
        assert bring(runtime, ledger, ledger.take())
        ballast = fill(folder, leave_bytes=80_000_000)
        assert bring_until_refused(runtime, ledger) == "storage_full"
        readiness = check_readiness(runtime)
        assert (readiness.mode, readiness.ready) == ("refusing", False)
        state = runtime.server_state()
        assert state is not None
        assert (state.running, state.restarts) == (True, 0)
        ballast.unlink()
        eventually(lambda: check_readiness(runtime).mode == "normal")
        resend_the_rest(runtime, ledger)
        assert bring(runtime, ledger, ledger.take())
        url = runtime.database.url
        assert wrongs(url, ledger) + strangers(url, ledger) == []


@pytest.mark.parametrize("left", [0, 3_000_000, 20_000_000])
def test_a_database_that_runs_out_of_disk_loses_and_doubles_nothing(tmp_path: Path, left: int) -> None:
    # Nobody watches this disk, as with somebody else's server: PostgreSQL is brought to its very end.
    ledger = new_ledger()
    with small_disk(200) as folder, EmbeddedServer(folder / "data") as url:
        with open_runtime(Settings(database_url=url, data_dir=tmp_path)) as runtime:
            assert bring(runtime, ledger, ledger.take())
            ballast = fill(folder, leave_bytes=left)
            assert bring_until_refused(runtime, ledger) in ("storage_full", "database_unreachable")
            for _ in range(5):
                bring(runtime, ledger, ledger.take())
            ballast.unlink()
            resend_the_rest(runtime, ledger)
            assert bring(runtime, ledger, ledger.take())
        assert wrongs(url, ledger) + strangers(url, ledger) == []
