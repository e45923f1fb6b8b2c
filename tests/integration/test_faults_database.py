"""The database restarted, killed and cut off under load: what was acknowledged is there, once."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from data_folders import copy_folder
from faults import FAULTS, fresh_database, strike
from journal_helpers import raw_event
from tallystick.app.ingest import ingest_events
from tallystick.app.runtime import Runtime
from tallystick.journal.server import EmbeddedServer


@pytest.fixture(scope="module")
def served(begun: Path) -> Iterator[tuple[EmbeddedServer, str, Path]]:
    """A server of this module's own, with everything that makes it durable."""
    folder = copy_folder(begun)
    server = EmbeddedServer(folder)
    with server as url:
        yield server, url, folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_was_acknowledged_is_there_once_in_its_place(served: tuple[EmbeddedServer, str, Path], fault: str) -> None:
    server, url, folder = served
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(2**32))
    own = fresh_database(url, f"fault_{fault}")
    report = strike(fault, server, own, folder, seconds=1.0, seed=seed)
    assert not report.wrongs, str(report)
    assert report.struck > 0, str(report)
    assert report.promised > 50, str(report)


def test_a_writer_that_freezes_in_the_middle_does_not_stop_the_others_for_long(runtime: Runtime) -> None:
    (first,) = ingest_events(runtime, [raw_event("r1")])
    assert first.status == "accepted"
    with closing(runtime.database.connect_writer()) as frozen:
        assert frozen.execute("show idle_in_transaction_session_timeout").fetchone() == ("10s",)
        frozen.execute("set local idle_in_transaction_session_timeout = '1s'")  # nobody has ten seconds here
        frozen.execute("select from org_heads where org_id = 'acme' for update")
        begun = time.monotonic()
        (second,) = ingest_events(runtime, [raw_event("r2")])
        assert (second.status, time.monotonic() - begun > 0.5) == ("accepted", True)
