"""A tenant's transaction sees its own rows and nothing of anybody else's, even when a query forgets to say whose."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from recorded_rows import BY_ORG, SHARED, fill
from tallystick.core.errors import BadInput
from tallystick.journal.database import Connection, Database
from tallystick.journal.roles import APP

OURS, THEIRS = "acme", "it's \\ theirs"
REFUSED = psycopg.errors.InsufficientPrivilege


@pytest.fixture(scope="module")
def database(module_database_url: str) -> Iterator[Database]:
    """Two orgs with a row each in every table; the tests leave it so."""
    with psycopg.connect(module_database_url) as connection:
        fill(connection, OURS, THEIRS)
    with closing(Database(module_database_url)) as opened:
        yield opened


@pytest.fixture(scope="module")
def owner(module_database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The tables' owner, whose statements count at once."""
    with psycopg.connect(module_database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def unnamed(database: Database) -> Iterator[tuple[Connection, Connection]]:
    """Two sessions of the application's: one that has never named an org, and one that has named none."""
    with database.connect(APP) as never, database.connect(APP) as emptied:
        never.autocommit = emptied.autocommit = True
        emptied.execute("set tallystick.org = ''")
        yield never, emptied


def orgs_in(connection: Connection, table: str) -> list[str]:
    return [org for (org,) in connection.execute(f"select org_id from {table}".encode())]


def of_orgs(connection: Connection, table: str) -> list[str]:
    """As `orgs_in`, without rows that are about no org: the trail has what a database's first start did."""
    return sorted(org for org in orgs_in(connection, table) if org is not None)


def test_every_table_belongs_to_orgs_behind_forced_policies_or_is_known_to_be_shared(database: Database) -> None:
    tables = """
        select relname, relrowsecurity and relforcerowsecurity,
               (select count(*) from pg_policy where polrelid = class.oid),
               exists (select from pg_attribute where attrelid = class.oid and attname = 'org_id')
        from pg_class as class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'f', 'm')
    """
    with database.operator() as connection:
        found = connection.execute(tables).fetchall()
    assert {name for name, _, _, has_org in found if has_org} == set(BY_ORG)
    assert {name for name, _, _, has_org in found if not has_org} == {*SHARED, "alembic_version"}
    assert {(walled, policies) for _, walled, policies, has_org in found if has_org} == {(True, 1)}


@pytest.mark.parametrize("table", BY_ORG)
def test_a_query_without_a_where_clause_shows_an_org_its_own_rows_alone(database: Database, table: str) -> None:
    for org in (OURS, THEIRS):
        with database.org(org) as connection:
            assert orgs_in(connection, table) == [org]
            assert connection.execute(f"select count(*) from {table}".encode()).fetchone() == (1,)
            other = THEIRS if org == OURS else OURS
            assert connection.execute(f"select from {table} where org_id = %s".encode(), [other]).rowcount == 0
    with database.org("nobody") as connection:
        assert orgs_in(connection, table) == []
    with database.operator() as connection:
        assert of_orgs(connection, table) == [OURS, THEIRS]


@pytest.mark.parametrize("table", BY_ORG)
def test_a_session_that_names_no_org_sees_nothing(unnamed: tuple[Connection, Connection], table: str) -> None:
    for connection, named in zip(unnamed, (None, ""), strict=True):
        assert connection.execute("select current_setting('tallystick.org', true)").fetchone() == (named,)
        assert orgs_in(connection, table) == []


@pytest.mark.parametrize("table", BY_ORG)
def test_an_org_cannot_add_a_row_to_another_even_where_it_may_add(
    database: Database, owner: psycopg.Connection[Any], table: str
) -> None:
    insert = BY_ORG[table].encode()
    with pytest.raises(REFUSED), database.org(OURS) as connection:
        connection.execute(insert, {"org": "another"})
    with policy_alone(owner, table):
        with pytest.raises(REFUSED, match="row-level security"), database.org(OURS) as connection:
            connection.execute(insert, {"org": "another"})
        assert of_orgs(owner, table) == [OURS, THEIRS]


@contextmanager
def policy_alone(owner: psycopg.Connection[Any], table: str) -> Iterator[None]:
    """The table as if anybody might add rows to it, but for its policy."""
    found = owner.execute("select has_table_privilege(%s, %s, 'insert')", [APP, table]).fetchone()
    owner.execute(f"grant insert on {table} to {APP}; alter table {table} disable trigger user".encode())
    yield
    owner.execute(f"alter table {table} enable trigger user".encode())
    if found == (False,):
        owner.execute(f"revoke insert on {table} from {APP}".encode())


@pytest.mark.parametrize("table", BY_ORG)
def test_no_other_way_of_reading_shows_more(database: Database, table: str) -> None:
    # A function that tells what it is given is tried on every row that it can be brought to see.
    leak = (
        "create function pg_temp.tell(text) returns boolean language plpgsql cost 0.0000001 as"
        " $$begin raise notice '%', $1; return true; end$$"
    )
    with database.org(OURS) as connection:
        told: list[str | None] = []
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary))
        connection.execute(leak)
        connection.execute(f"select from {table} where pg_temp.tell(org_id)".encode())
        assert told == [OURS]
        copied = io.BytesIO()
        with connection.cursor().copy(f"copy {table} to stdout".encode()) as copy:
            for chunk in copy:
                copied.write(chunk)
        assert copied.getvalue().count(b"\n") == 1
        assert b"theirs" not in copied.getvalue()
        joined = f"select one.org_id, two.org_id from {table} as one full join {table} as two on true"
        assert connection.execute(joined.encode()).fetchall() == [(OURS, OURS)]
        connection.execute(f"create temporary view mine as select * from {table}".encode())
        assert connection.execute("select org_id from mine").fetchall() == [(OURS,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):  # an error, not everything
            connection.execute(f"set local row_security = off; table {table}".encode())


def test_a_query_that_names_the_org_pays_for_the_policy_once_and_not_for_each_row(database: Database) -> None:
    with database.org(OURS) as connection:
        plan = connection.execute("explain select sum(cost_pico) from ledger_entries where org_id = %s", [OURS])
        (checked,) = (line for (line,) in plan if "tallystick.org" in line)
    assert checked.strip().startswith("One-Time Filter")


def test_the_org_is_forgotten_with_the_transaction_and_whatever_else_was_set(database: Database) -> None:
    asked = "select current_setting('tallystick.org', true), current_user, pg_backend_pid()"
    with database.org(OURS) as connection:
        connection.execute("select set_config('tallystick.org', %s, false)", [THEIRS])  # for the session, not for this
        connection.execute("set search_path = pg_temp; set statement_timeout = 12345; set role none")
        first = connection.execute("select pg_backend_pid()").fetchone()
    with database.org("third") as connection:
        seen = connection.execute(asked).fetchone()
        assert seen is not None
        assert first == seen[2:]  # the same connection, used again
        assert seen[:2] == ("third", APP)
        assert connection.execute("show statement_timeout").fetchone() == ("0",)
        assert connection.execute("show search_path").fetchone() == ("public,pg_temp",)
        assert orgs_in(connection, "ledger_entries") == []
        connection.commit()
        assert connection.execute(asked).fetchone() == ("", APP, seen[2])
        assert orgs_in(connection, "ledger_entries") == []


def test_a_transaction_that_fails_leaves_nothing_of_its_org_behind(database: Database) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero), database.org(OURS) as connection:
        connection.execute("select 1 / 0")
    with pytest.raises(KeyError), database.org(OURS) as connection:
        raise KeyError(orgs_in(connection, "subscriptions")[0])
    with database.org(THEIRS) as connection:
        assert orgs_in(connection, "subscriptions") == [THEIRS]


def test_many_threads_on_few_connections_each_see_their_own_org(database_url: str) -> None:
    database = Database(database_url)
    orgs = [f"org{number}" for number in range(24)]
    with psycopg.connect(database_url) as connection:
        for org in orgs:
            connection.execute(BY_ORG["subscriptions"].encode(), {"org": org})
    seen: dict[str, set[str]] = {org: set() for org in orgs}

    def look(org: str) -> None:
        for _ in range(10):
            with database.org(org) as connection:
                seen[org] |= set(orgs_in(connection, "subscriptions"))

    threads = [threading.Thread(target=look, args=[org]) for org in orgs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.close()
    assert seen == {org: {org} for org in orgs}


@pytest.mark.parametrize("org_id", ["", "a\0b", "\ud800"])
def test_what_no_org_can_be_called_is_refused_before_the_database_is_asked(database: Database, org_id: str) -> None:
    with pytest.raises(BadInput) as caught, database.org(org_id):
        pass
    assert caught.value.code == "invalid_text"


@pytest.mark.parametrize("role", ["org", "operator", "writer"])
def test_no_role_makes_objects_in_the_schema_of_the_tables(database: Database, role: str) -> None:
    block = database.org(OURS) if role == "org" else getattr(database, role)()
    with pytest.raises(REFUSED), block as connection:
        connection.execute("create table public.theirs ()")
