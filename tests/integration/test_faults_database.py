"""The database restarted, killed and cut off under load: what was acknowledged is there, once."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults import FAULTS, fresh_database, strike
from tallystick.journal.server import EmbeddedServer


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[EmbeddedServer, str, Path]]:
    """A server of this module's own, with everything that makes it durable."""
    folder = Path(tempfile.mkdtemp(prefix="tally-"))
    folder.chmod(0o711)
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
