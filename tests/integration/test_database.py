"""Connections are few, opened when needed, and replaced when they die; that a database is away is told soon."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tallystick.core.errors import Unavailable
from tallystick.journal.database import Connection, Database
from tallystick.journal.pool import Pool
from tallystick.journal.roles import APP, LOGINS, OPERATOR, WRITER, session_conninfo
from tallystick.journal.server import EmbeddedServer

BLOCKS: dict[str, Callable[[Database], contextlib.AbstractContextManager[Connection]]] = {
    APP: lambda database: database.org("acme"),
    OPERATOR: Database.operator,
    WRITER: Database.writer,
}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


def backends(url: str) -> int:
    """How many connections there are to the database, apart from the one that asks."""
    with psycopg.connect(url) as connection:
        asked = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        ((number,),) = connection.execute(asked)
        return int(number)


def add_rate_version(connection: Connection, ordinal: int) -> None:
    connection.execute(f"insert into rate_versions values ({ordinal}, '{ordinal}', now(), now(), '', '', '')".encode())


def add_and_fail(database: Database, ordinal: int) -> None:
    with database.operator() as connection:
        add_rate_version(connection, ordinal)
        raise KeyError


def ordinals(database: Database) -> list[int]:
    with database.operator() as connection:
        return [found for (found,) in connection.execute("select ordinal from rate_versions where ordinal >= 1000")]


@pytest.mark.parametrize("role", LOGINS)
def test_each_block_works_in_its_role_and_in_utc_whatever_the_server_says(
    database: Database, database_url: str, role: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for setting in ("timezone = 'Asia/Tokyo'", "search_path = nowhere", "standard_conforming_strings = off"):
            connection.execute(f"alter database {connection.info.dbname} set {setting}".encode())
    with BLOCKS[role](database) as connection:
        assert connection.execute("select current_user").fetchone() == (role,)
        for name, value in (("timezone", "UTC"), ("search_path", "public,pg_temp"), ("row_security", "on")):
            assert connection.execute(f"show {name}".encode()).fetchone() == (value,)
        connection.execute("select from org_heads")


def test_a_block_is_one_transaction(database: Database) -> None:
    with database.operator() as connection:
        add_rate_version(connection, 1000)
    with pytest.raises(KeyError):
        add_and_fail(database, 1001)
    assert ordinals(database) == [1000]
    with database.operator() as connection:  # and what kind of transaction can still be said
        connection.execute("set transaction isolation level repeatable read, read only")
        assert connection.execute("show transaction_isolation").fetchone() == ("repeatable read",)


def test_nothing_is_connected_before_it_is_needed_and_what_was_is_used_again(
    database: Database, database_url: str
) -> None:
    assert backends(database_url) == 0
    for _ in range(5):
        with database.org("acme"):
            assert backends(database_url) == 1
    with database.operator(), database.writer(), database.org("other"):
        assert backends(database_url) == 3
    database.close()
    with pytest.raises(Unavailable), database.operator():
        pass


@pytest.mark.parametrize("role", LOGINS)
def test_a_connection_that_died_while_it_lay_idle_is_replaced(database: Database, database_url: str, role: str) -> None:
    with BLOCKS[role](database) as connection:
        before = connection.info.backend_pid
    with psycopg.connect(database_url, autocommit=True) as killer:
        killer.execute("select pg_terminate_backend(%s, 5000)", [before])
    with BLOCKS[role](database) as connection:
        assert connection.execute("select pg_backend_pid() <> %s", [before]).fetchone() == (True,)


def test_a_connection_that_dies_at_work_is_told_and_not_used_again(database: Database, database_url: str) -> None:
    def work() -> None:
        with database.operator() as connection:
            add_rate_version(connection, 1000)
            with psycopg.connect(database_url, autocommit=True) as killer:
                killer.execute("select pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
            connection.execute("select 1")

    with pytest.raises(Unavailable) as caught:
        work()
    assert caught.value.code == "database_unreachable"
    assert ordinals(database) == []


def test_a_connection_that_was_left_in_autocommit_is_not_used_again(database: Database) -> None:
    with database.operator() as connection:
        connection.commit()
        connection.autocommit = True
    with pytest.raises(KeyError):
        add_and_fail(database, 1000)
    assert ordinals(database) == []


def test_a_server_that_refuses_is_told_at_once_in_its_own_words() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening
        database = Database(f"postgresql://nobody@127.0.0.1:{taken.getsockname()[1]}/none")
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="refused") as caught, database.org("acme"):
            pass
    assert caught.value.code == "database_unreachable"
    assert time.monotonic() - begun < 1


def test_a_server_that_never_answers_is_waited_for_a_few_seconds_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = Database(f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none")
        begun = time.monotonic()
        with pytest.raises(Unavailable) as caught, database.operator():
            pass
    assert caught.value.code == "database_unreachable"
    assert time.monotonic() - begun < 4.5


def test_when_every_connection_stays_at_work_the_next_caller_is_told_and_no_slot_is_lost(database_url: str) -> None:
    pool = Pool(lambda: psycopg.connect(database_url), connections_max=2, wait_seconds_max=0.1)
    with pool.transaction("select 1"), pool.transaction("select 1"):
        with pytest.raises(Unavailable) as caught, pool.transaction("select 1"):
            pass
        assert caught.value.code == "database_busy"
    for _ in range(5):  # what fails gives its slot back
        with pytest.raises(psycopg.errors.UndefinedColumn), pool.transaction("select nothing"):
            pass
    with pool.transaction("select 1"), pool.transaction("select 1"):
        assert backends(database_url) == 2
    pool.close()


def test_threads_wait_for_a_connection_rather_than_open_more(database: Database) -> None:
    pids, done = set(), []

    def work() -> None:
        for _ in range(3):
            with database.operator() as connection:
                connection.execute("select pg_sleep(0.02)")
                pids.add(connection.info.backend_pid)
                done.append(1)

    threads = [threading.Thread(target=work) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 72
    assert 1 < len(pids) <= 8


def test_the_embedded_server_lets_in_the_roles_and_nobody_else(short_dir: Path) -> None:
    from tallystick.journal.migrate import migrate

    with EmbeddedServer(short_dir, settings={"fsync": "off"}) as url:
        migrate(url, role_logins=True)
        database = Database(url, role_logins=True)
        for role in LOGINS:
            with BLOCKS[role](database) as connection:
                # Not even a statement that was slipped in becomes anybody else.
                assert connection.execute("select session_user, current_user").fetchone() == (role, role)
                with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    connection.execute("set role postgres")
        database.close()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("create role stranger login")
        for role in ("stranger", "tallystick_keeper"):
            with pytest.raises(psycopg.OperationalError, match="no pg_hba"):
                psycopg.connect(url, user=role)


def test_a_password_in_the_url_is_not_tried_for_the_roles_own_logins() -> None:
    url = "postgresql://owner:secret@db.example/ledger?connect_timeout=7"
    as_role = conninfo_to_dict(session_conninfo(url, APP, role_logins=True))
    becoming = conninfo_to_dict(session_conninfo(url, APP))
    assert as_role["user"] == APP
    assert "password" not in as_role
    assert (becoming["user"], becoming["password"]) == ("owner", "secret")
    assert "-c role=tallystick_app" in str(becoming["options"])
    assert as_role["connect_timeout"] == becoming["connect_timeout"] == "7"  # what was given is kept
