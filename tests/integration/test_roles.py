"""On a server of one's own: logins with few rights, and what an administrator is told to run where they are too few."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from conftest import NOW
from journal_helpers import raw_event
from tallystick.app.ingest import ingest_events
from tallystick.app.orgs import all_orgs, find_org
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import Unavailable
from tallystick.journal.database import Database
from tallystick.journal.migrate import migrate
from tallystick.journal.roles import ALL_LOGINS, KEEPER, LOGINS
from tallystick.journal.self_test import check_walls
from tallystick.journal.server import EmbeddedServer

ROLES = (*ALL_LOGINS, KEEPER)


@pytest.fixture(scope="module")
def own_server() -> Iterator[str]:
    """A server that lets in whoever has a role, as one's own does; none of ours is there yet."""
    folder = Path(tempfile.mkdtemp(prefix="tally-"))
    folder.chmod(0o711)
    who = folder / "who_may_connect"
    who.write_text("local all all trust\n")
    who.chmod(0o644)
    with EmbeddedServer(folder, settings={"fsync": "off", "hba_file": str(who)}) as url:
        yield url
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def owned(own_server: str) -> Iterator[tuple[str, str]]:
    """The administrator's URL of an empty database that belongs to the role `deploy`, and that role's."""
    with psycopg.connect(own_server, autocommit=True) as connection:
        connection.execute("create role deploy login; create role service login")
        connection.execute("create database owned owner deploy")
    yield make_conninfo(own_server, dbname="owned"), make_conninfo(own_server, dbname="owned", user="deploy")
    with psycopg.connect(own_server, autocommit=True) as connection:
        connection.execute("drop database owned with (force)")
        for role in (*ROLES, "deploy", "service"):
            if connection.execute("select from pg_roles where rolname = %s", [role]).rowcount:
                connection.execute(f"drop owned by {role}; drop role {role}".encode())


def statements(error: Unavailable) -> str:
    """What the error says to run."""
    assert error.code == "roles_missing"
    return error.next_step.partition("then start again: ")[2]


def works(url: str, folder: Path, *, role_logins: bool = False) -> None:
    """Start with that login, write, and read for one org and across orgs."""
    settings = Settings(database_url=url, database_role_logins=role_logins, data_dir=folder)
    with open_runtime(settings, lambda: NOW) as runtime:
        results = ingest_events(runtime, [raw_event("r1"), raw_event("r2")])
        assert [result.status for result in results] == ["accepted", "accepted"]
        assert find_org(runtime, "acme").entries == 2
        assert [org.org_id for org in all_orgs(runtime)] == ["acme"]


def test_a_login_that_may_make_no_roles_is_told_what_an_administrator_must_run(
    owned: tuple[str, str], tmp_path: Path
) -> None:
    administrator, deploy = owned
    with pytest.raises(Unavailable) as caught:
        migrate(deploy)
    said = statements(caught.value)
    assert re.findall(r"create role (\w+) nosuperuser", said) == list(ROLES)
    assert re.findall(r"grant (\w+) to deploy", said) == list(ROLES)
    page = (Path(__file__).parents[2] / "docs" / "tenants.md").read_text(encoding="utf-8")
    assert said.replace("; ", ";\n") + ";\n```" in page
    with psycopg.connect(administrator, autocommit=True) as connection:
        assert connection.execute("select from pg_tables where schemaname = 'public'").rowcount == 0
        connection.execute(said.encode())
    works(deploy, tmp_path)


def test_a_login_that_may_make_roles_but_none_that_bypass_the_policies_is_told_so(owned: tuple[str, str]) -> None:
    administrator, deploy = owned
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute("alter role deploy createrole")
    with pytest.raises(Unavailable) as caught:
        migrate(deploy)
    said = statements(caught.value)
    with psycopg.connect(administrator, autocommit=True) as connection:
        for statement in said.split("; "):
            if "create role tallystick_app" not in statement:  # which it could make by itself
                connection.execute(statement.encode())
    migrate(deploy)


def test_a_login_that_may_make_such_roles_makes_them_and_becomes_them(owned: tuple[str, str], tmp_path: Path) -> None:
    administrator, deploy = owned
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute("alter role deploy createrole bypassrls")
    works(deploy, tmp_path)
    with psycopg.connect(administrator) as connection:
        logins = connection.execute("select rolname from pg_roles where rolcanlogin and rolname like 'tallystick%'")
        assert logins.fetchall() == []  # nobody needs to log in as them here


def test_once_migrated_a_login_that_owns_nothing_and_is_a_member_of_the_roles_is_enough(
    owned: tuple[str, str], tmp_path: Path
) -> None:
    administrator, deploy = owned
    migrate(administrator)
    service = make_conninfo(deploy, user="service")
    with pytest.raises(Unavailable) as caught:
        works(service, tmp_path)
    assert re.findall(r"grant (\w+) to service", statements(caught.value)) == list(ALL_LOGINS)
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(f"grant {', '.join(ALL_LOGINS)} to service".encode())
    works(service, tmp_path)


def test_where_the_roles_log_in_themselves_no_login_needs_to_be_a_member_of_them(
    owned: tuple[str, str], tmp_path: Path
) -> None:
    administrator, deploy = owned
    migrate(administrator)
    service = make_conninfo(deploy, user="tallystick_operator")
    with pytest.raises(Unavailable) as caught:
        works(make_conninfo(deploy, user="service"), tmp_path, role_logins=True)
    said = statements(caught.value)
    assert said.split("; ") == [f"alter role {role} login" for role in ALL_LOGINS]
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(said.encode())
    works(service, tmp_path, role_logins=True)
    with Database(service, role_logins=True).connect(LOGINS[0]) as connection:
        assert connection.execute("select session_user, current_user").fetchone() == (LOGINS[0], LOGINS[0])


def test_an_owner_that_is_no_superuser_is_held_by_the_policies_and_the_triggers(owned: tuple[str, str]) -> None:
    administrator, deploy = owned
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute("alter role deploy createrole bypassrls")
    migrate(deploy)
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute("alter role deploy nocreaterole nobypassrls")
        connection.execute("insert into org_heads (org_id) values ('acme')")
    with psycopg.connect(deploy, autocommit=True) as connection:
        owner = connection.execute("select tableowner from pg_tables where tablename = 'org_heads'")
        assert owner.fetchone() == ("deploy",)
        assert connection.execute("select org_id from org_heads").fetchall() == []
        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute("delete from ledger_entries")
    database = Database(deploy)
    check_walls(database)
    database.close()
