"""What tests share: a PostgreSQL for each test process, and a fresh, migrated database for each test that asks.

A test without one of these fixtures starts no server.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tallystick.app.settings import Settings

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
"""What the fixed clock of `runtime` says: October 2026 is over everywhere."""

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has set for their own Tallystick is no business of the tests."""
    for name in list(os.environ):
        if name.startswith("TALLY_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """An empty folder with a short path, which other users may pass through: a data directory as a person has one.

    pytest's own `tmp_path` is closed to others, and its path is long for a socket.
    """
    folder = Path(tempfile.mkdtemp(prefix="tally-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of a database on this process's own server, holding the template of all the others."""
    import psycopg

    from tallystick.app.runtime import open_runtime
    from tallystick.journal.server import EmbeddedServer

    folder = Path(tempfile.mkdtemp(prefix="tally-"))
    folder.chmod(0o711)
    # Nobody's facts: these databases need not survive the machine.
    with EmbeddedServer(folder, settings={"fsync": "off", "max_connections": "200"}) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("create database template")
        with open_runtime(Settings(database_url=_on(url, "template"), data_dir=folder), lambda: NOW):
            pass
        yield url
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    """The URL of a fresh database: migrated, with the bundled rate cards, and nothing else in it."""
    yield from _fresh_database(server_url, "template")


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """The URL of a fresh database without anything in it, not even a schema."""
    yield from _fresh_database(server_url, "template1")


@pytest.fixture
def runtime(database_url: str, tmp_path: Path) -> Iterator[object]:
    """A running Tallystick on a fresh database, its clock fixed at `NOW`."""
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings(database_url=database_url, data_dir=tmp_path), lambda: NOW) as opened:
        yield opened


def _fresh_database(server_url: str, template: str) -> Iterator[str]:
    import psycopg

    name = f"test_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}")
        yield _on(server_url, name)
        connection.execute(f"drop database {name} with (force)")


def _on(url: str, database: str) -> str:
    head, _, query = url.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{database}?{query}"
