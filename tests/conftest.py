"""What tests share: a PostgreSQL for each test process, and a fresh, migrated database for each test that asks.

A test without one of these fixtures starts no server.
"""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from data_folders import copy_folder, new_folder
from examples import PROFILE, examples
from quick_start import NOW, cards_of_template, opened_quickly
from tallystick.app.settings import Settings

__all__ = ["NOW"]

_numbers = itertools.count(1)
_left: list[str] = []
_SERVER_SETTINGS = {
    # Nobody's facts: these databases need not survive the machine, nor the memory that they are in be filled.
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",
    "min_wal_size": "64MB",
    # A new database is a copy of the files of another, which the kernel makes quicker by itself.
    "file_copy_method": "clone",
    # To drop a database is to look through all of this.
    "shared_buffers": "128MB",
    "max_connections": "200",
}

# As `tally serve` does: what is imported is no garbage, however often one looks.
gc.set_threshold(20_000, 20, 20)

# How long one example takes says more of what else runs on the machine than of the code.
hypothesis.settings.register_profile(PROFILE, deadline=None, max_examples=examples(100))
hypothesis.settings.load_profile(PROFILE)

# As text, for whoever reads why a test failed: structlog's own way draws tables around every line of every traceback,
# which takes longer than many a test.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
    ],
    logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # what a command says is not mixed with it
)

_LONGEST = ("crash/test_bank.py", "crash/", "acceptance/test_recipe.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no test process is left with it when the others have nothing to do."""
    tests = str(Path(__file__).parent)

    def rank(item: pytest.Item) -> int:
        name = os.path.relpath(item.path, tests)
        return next((rank for rank, begin in enumerate(_LONGEST) if name.startswith(begin)), len(_LONGEST))

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """What is there by now stays: nobody looks through it for garbage."""
    gc.freeze()


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
    folder = new_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def begun() -> Iterator[Path]:
    """A data directory in which Tallystick has run before, and nobody does now. It is there to be copied."""
    from tallystick.app.runtime import open_runtime

    folder = new_folder()
    with open_runtime(Settings(data_dir=folder), lambda: NOW):
        pass
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def begun_dir(begun: Path) -> Iterator[Path]:
    """As `short_dir`, but Tallystick has run there before, as most starts find it: its server is quick to start."""
    folder = copy_folder(begun)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of a database on this process's own server, holding the template of all the others."""
    import psycopg

    from tallystick.app.runtime import open_runtime
    from tallystick.journal.server import EmbeddedServer

    folder = new_folder()
    with EmbeddedServer(folder, settings=_SERVER_SETTINGS) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("create database template")
        with open_runtime(Settings(database_url=_on(url, "template"), data_dir=folder), lambda: NOW) as opened:
            cards_of_template[:] = [opened.cards]
        yield url
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    """The URL of a fresh database: migrated, with the bundled rate cards, and nothing else in it."""
    yield from _fresh_database(server_url, "template")


@pytest.fixture(scope="module")
def module_database_url(server_url: str) -> Iterator[str]:
    """As `database_url`, for all tests of a module."""
    yield from _fresh_database(server_url, "template")


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """The URL of a fresh database without anything in it, not even a schema."""
    yield from _fresh_database(server_url, "template1")


@pytest.fixture
def runtime(database_url: str, tmp_path: Path) -> Iterator[object]:
    """A running Tallystick on a fresh database, its clock fixed at `NOW`."""
    with opened_quickly(database_url, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def module_runtime(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """As `runtime`, for all tests of a module."""
    with opened_quickly(module_database_url, tmp_path_factory.mktemp("module")) as opened:
        yield opened


def _fresh_database(server_url: str, template: str) -> Iterator[str]:
    """One for this test. It is dropped before the next is made: right now the server still ends its sessions, for which
    it would wait a tenth of a second.
    """
    import psycopg

    name = f"test_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        while _left:
            connection.execute(f"drop database {_left.pop()} with (force)")
        connection.execute(f"create database {name} template {template} strategy file_copy")
    yield _on(server_url, name)
    _left.append(name)


def _on(url: str, database: str) -> str:
    head, _, query = url.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{database}?{query}"
