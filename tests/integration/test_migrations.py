"""A database is brought to the schema once, however many try, and one that is ahead of us is left alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import BadInput, Unavailable
from tallystick.journal.migrate import current_revision, migrate
from tallystick.journal.migrations import revisions


def test_an_empty_database_is_migrated_once_by_processes_that_start_together(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: migrate(empty_database_url), range(4)))
    with psycopg.connect(empty_database_url) as connection:
        assert current_revision(connection) == revisions()[-1]
        assert connection.execute("select count(*) from org_heads").fetchone() == (0,)


def test_a_database_that_a_later_release_has_migrated_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(Unavailable) as caught:
        migrate(database_url)
    assert caught.value.code == "database_is_newer"


def test_a_database_that_is_not_there_is_unavailable_and_a_url_that_is_none_is_bad_input(tmp_path: object) -> None:
    with pytest.raises(Unavailable) as caught, open_runtime(Settings(database_url="postgresql://127.0.0.1:1/none")):
        pass
    assert caught.value.code == "database_unreachable"
    with pytest.raises(BadInput) as wrong, open_runtime(Settings(database_url="mysql://x/y z")):
        pass
    assert wrong.value.code == "invalid_database_url"
