"""A database is brought to the schema once, however many try, and one that is ahead of us is left alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from conftest import NOW
from journal_helpers import raw_event
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import BadInput, Unavailable
from tallystick.journal.database import Database
from tallystick.journal.migrate import current_revision, migrate
from tallystick.journal.migrations import revisions
from tallystick.usage.checks import check_event
from tallystick.usage.meters import METERS

EVENT = check_event(raw_event(), now=NOW, known_meters=METERS)


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


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_text_is_refused(server_url: str, encoding: str) -> None:
    name = f"encoding_{encoding.lower()}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"create database {name} encoding '{encoding}' template template0 locale 'C'")
        with pytest.raises(Unavailable) as caught:
            migrate(make_conninfo(server_url, dbname=name))
        connection.execute(f"drop database {name}")
    assert caught.value.code == "database_encoding"


def test_a_schema_that_cannot_be_made_is_said_as_one_error(empty_database_url: str) -> None:
    with pytest.raises(Unavailable) as caught:
        migrate(make_conninfo(empty_database_url, options="-c default_transaction_read_only=on"))
    assert caught.value.code == "migration_failed"


def test_the_tables_are_where_the_grants_are_whatever_the_search_path_of_the_login(empty_database_url: str) -> None:
    migrate(make_conninfo(empty_database_url, options="-c search_path=nowhere"))
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("select count(*) from public.ledger_entries").fetchone() == (0,)


@pytest.mark.parametrize("role", ["operator", "writer"])
def test_a_database_that_has_become_read_only_is_unavailable_and_no_fault_of_ours(database_url: str, role: str) -> None:
    read_only = Database(make_conninfo(database_url, options="-c default_transaction_read_only=on"))
    table = "signing_keys" if role == "operator" else "org_heads"
    with pytest.raises(Unavailable) as caught, getattr(read_only, role)() as connection:
        connection.execute(f"insert into {table} table {table}".encode())
    read_only.close()
    assert caught.value.code == "database_unreachable"


def test_what_the_server_or_the_shell_sets_changes_nothing(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with psycopg.connect(database_url, autocommit=True) as connection:
        for setting in ("datestyle = 'German'", "default_transaction_isolation = 'serializable'"):
            connection.execute(f"alter database {connection.info.dbname} set {setting}")  # type: ignore[call-overload]
    event = msgspec.structs.replace(EVENT, request_id="é1", user_id="ü")
    with open_runtime(Settings(database_url=database_url, data_dir=tmp_path), lambda: NOW) as runtime:
        receipts = [*runtime.append([event]), *runtime.append([event])]
        with runtime.database.operator() as connection:
            assert connection.execute("show transaction_isolation").fetchone() == ("read committed",)
    with psycopg.connect(database_url, client_encoding="utf8") as connection:
        assert connection.execute("select request_id, user_id from ledger_entries").fetchall() == [("é1", "ü")]
    assert [receipt.status for receipt in receipts] == ["accepted", "duplicate"]
    assert receipts[1].recorded_at == NOW


@pytest.mark.parametrize(
    ("name", "value"), [("TALLY_PORT", "many"), ("TALLY_PORT", "99999"), ("TALLY_BODY_BYTES_MAX", "0")]
)
def test_a_setting_that_cannot_be_is_bad_input_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadInput) as caught:
        Settings()
    assert (caught.value.code, caught.value.where) == ("invalid_setting", name)


def test_a_setting_that_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Settings()
    for name in ("DATABASE_URL", "TALLY_DATABASE_URL", "TALLY_DATA_DIR", "TALLY_HOST", "TALLY_PORT"):
        monkeypatch.setenv(name, "")
    assert Settings() == plain


def test_a_database_that_is_not_there_is_unavailable_and_a_url_that_is_none_is_bad_input(tmp_path: object) -> None:
    with pytest.raises(Unavailable) as caught, open_runtime(Settings(database_url="postgresql://127.0.0.1:1/none")):
        pass
    assert caught.value.code == "database_unreachable"
    with pytest.raises(BadInput) as wrong, open_runtime(Settings(database_url="mysql://x/y z")):
        pass
    assert wrong.value.code == "invalid_database_url"
