"""A database in which a wall is down or history can be changed is refused at the start, by name and with the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from recorded_rows import fill
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import Unavailable
from tallystick.journal.database import Database
from tallystick.journal.self_test import check_walls

ISOLATION = "tenant_isolation_broken"
HISTORY = "append_only_broken"

# What was done; the error's code; what it must name.
BREAKS = {
    "a superuser": ("alter role tallystick_app superuser", ISOLATION, "role tallystick_app is a superuser"),
    "bypassing": ("alter role tallystick_app bypassrls", ISOLATION, "role tallystick_app bypasses row-level security"),
    "making roles": ("alter role tallystick_operator createrole", ISOLATION, "tallystick_operator may make roles"),
    "replicating": (
        "alter role tallystick_writer replication",
        ISOLATION,
        "tallystick_writer may copy the whole server",
    ),
    "the keeper logs in": (
        "alter role tallystick_keeper login",
        ISOLATION,
        "role tallystick_keeper is not for anybody",
    ),
    "a member of the writer": (
        "grant tallystick_writer to tallystick_app",
        ISOLATION,
        "tallystick_app is a member of tallystick_writer, which bypasses",
    ),
    "a member of the owner": (
        "create role owner_of_one; grant create on schema public to owner_of_one;"
        " alter table transfers owner to owner_of_one; grant owner_of_one to tallystick_app",
        ISOLATION,
        "tallystick_app is a member of owner_of_one, which owns tables",
    ),
    "reading files": (
        "grant pg_read_server_files to tallystick_operator",
        ISOLATION,
        "tallystick_operator is a member of pg_read_server_files",
    ),
    "owning a table": (
        "grant create on schema public to tallystick_app; alter table invoices owner to tallystick_app;"
        " revoke create on schema public from tallystick_app",
        ISOLATION,
        "table invoices belongs to role tallystick_app",
    ),
    "security off": (
        "alter table ledger_entries disable row level security",
        ISOLATION,
        "row-level security is off on table ledger_entries",
    ),
    "security not forced": (
        "alter table transfers no force row level security",
        ISOLATION,
        "row-level security is not forced on the owner of table transfers",
    ),
    "policy gone": ("drop policy own_org on invoices", ISOLATION, "table invoices lacks the policy own_org"),
    "policy widened": ("alter policy own_org on invoices using (true)", ISOLATION, "policy own_org on table invoices"),
    "policy for writing widened": (
        "alter policy own_org on invoices with check (true)",
        ISOLATION,
        "policy own_org on table invoices",
    ),
    "policy for one role": (
        "alter policy own_org on invoices to tallystick_operator",
        ISOLATION,
        "policy own_org on table invoices",
    ),
    "another policy": ("create policy theirs on erasures using (true)", ISOLATION, "policy theirs on table erasures"),
    "a new table without walls": (
        "create table notes (org_id text, note text); grant select on notes to tallystick_app",
        ISOLATION,
        "row-level security is off on table notes",
    ),
    "a materialized view": (
        "create materialized view spending as select org_id, sum(cost_pico) from ledger_entries group by org_id;"
        " grant select on spending to tallystick_app",
        ISOLATION,
        "row-level security is off on table spending",
    ),
    "a view past the policies": (
        "create view every_entry as select * from ledger_entries; grant select on every_entry to public",
        ISOLATION,
        "view every_entry reads with its owner's rights",
    ),
    "a function past the policies": (
        "create function all_orgs() returns setof text language sql security definer"
        " set search_path = pg_catalog, public, pg_temp as 'select org_id from org_heads'",
        ISOLATION,
        "role tallystick_app may run all_orgs()",
    ),
    "a function with its caller's path": (
        "alter function forget_entries(text, bigint) reset search_path",
        ISOLATION,
        "function forget_entries(text,bigint) has its owner's rights and its caller's search path",
    ),
    "making objects": (
        "grant create on schema public to public",
        ISOLATION,
        "tallystick_app may create in schema public",
    ),
    "changing a table": (
        "grant update on ledger_entries to tallystick_app",
        HISTORY,
        "role tallystick_app may update table ledger_entries",
    ),
    "changing a column": (
        "grant update (note) on checkpoints to tallystick_operator",
        HISTORY,
        "role tallystick_operator may update table checkpoints",
    ),
    "removing": (
        "grant delete on invoices to tallystick_writer",
        HISTORY,
        "tallystick_writer may delete table invoices",
    ),
    "emptying, as anybody": (
        "grant truncate on transfers to public",
        HISTORY,
        "role tallystick_operator may truncate table transfers",
    ),
    "moving a head": (
        "grant update on org_heads to tallystick_app",
        HISTORY,
        "role tallystick_app may update table org_heads",
    ),
    "changing a wallet": (
        "grant update on grants to tallystick_app",
        HISTORY,
        "role tallystick_app may update table grants",
    ),
    "removing a grant": (
        "grant delete on grants to tallystick_writer",
        HISTORY,
        "role tallystick_writer may delete table grants",
    ),
    "removing what is counted": (
        "grant delete on counters to tallystick_operator",
        HISTORY,
        "role tallystick_operator may delete table counters",
    ),
    "removing finished work": (
        "grant delete on finished_work to tallystick_writer",
        HISTORY,
        "role tallystick_writer may delete table finished_work",
    ),
    "seeing other wallets": (
        "alter table grants disable row level security",
        ISOLATION,
        "row-level security is off on table grants",
    ),
    "a grant's guard gone": (
        "drop trigger stays on grants",
        HISTORY,
        "nothing refuses to truncate rows of table grants",
    ),
    "all by a role of the server": (
        "grant pg_write_all_data to tallystick_writer",
        ISOLATION,
        "tallystick_writer is a member of pg_write_all_data, which writes to every table",
    ),
    "a trigger off": (
        "alter table invoices disable trigger append_only",
        HISTORY,
        "nothing refuses to delete rows of table invoices",
    ),
    "a trigger that a replica skips": (
        "alter table contract_versions enable trigger append_only",
        HISTORY,
        "nothing refuses to update rows of table contract_versions",
    ),
    "a trigger gone": (
        "drop trigger stays on org_heads",
        HISTORY,
        "nothing refuses to truncate rows of table org_heads",
    ),
    "a new table without a guard": (
        "create table anything (number bigint); grant select on anything to tallystick_app",
        HISTORY,
        "nothing refuses to delete rows of table anything",
    ),
}
# Roles outlive the database that they were changed in.
MENDS = """
    alter role tallystick_app nosuperuser nobypassrls; alter role tallystick_operator nocreaterole;
    alter role tallystick_writer noreplication; alter role tallystick_keeper nologin;
    revoke tallystick_writer from tallystick_app; revoke pg_read_server_files from tallystick_operator;
    revoke pg_write_all_data from tallystick_writer
"""


@pytest.fixture
def broken_url(database_url: str) -> Iterator[str]:
    """A database of which anything may be broken."""
    yield database_url
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(MENDS)
        if connection.execute("select from pg_roles where rolname = 'owner_of_one'").rowcount:
            connection.execute("reassign owned by owner_of_one to current_user; drop owned by owner_of_one")
            connection.execute("drop role owner_of_one")


def refusal(url: str) -> Unavailable | None:
    database = Database(url)
    try:
        check_walls(database)
    except Unavailable as error:
        return error
    finally:
        database.close()
    return None


def mend(url: str, error: Unavailable) -> None:
    """Run what the error says."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(error.next_step.partition("then start again: ")[2].encode())


@pytest.mark.parametrize("name", BREAKS)
def test_what_was_broken_is_named_and_what_the_error_says_mends_it(broken_url: str, name: str) -> None:
    statement, code, said = BREAKS[name]
    assert refusal(broken_url) is None
    with psycopg.connect(broken_url, autocommit=True) as connection:
        connection.execute(statement.encode())
    error = refusal(broken_url)
    assert error is not None
    assert error.code == code
    assert said in error.detail
    if name in ("a new table without a guard", "a new table without walls", "a materialized view"):
        return  # nobody can tell what it was meant to be
    mend(broken_url, error)
    left = refusal(broken_url)
    if left is not None:  # a table that went through another's hands has lost its grants
        assert (name, left.code) == ("owning a table", "rights_missing")
        mend(broken_url, left)
        assert refusal(broken_url) is None


def test_what_an_administrator_keeps_for_other_uses_is_no_matter(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create table notes (org_id text, note text)")
        connection.execute("create view every_entry as select * from ledger_entries")
        connection.execute("create materialized view spending as select org_id, cost_pico from ledger_entries")
    assert refusal(database_url) is None


def test_rights_that_are_missing_as_after_a_restore_are_named(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("revoke select on ledger_entries from tallystick_app, tallystick_writer")
    error = refusal(database_url)
    assert error is not None
    assert error.code == "rights_missing"
    mend(database_url, error)
    assert refusal(database_url) is None


def test_rows_that_a_tenant_sees_without_naming_an_org_are_noticed_by_looking(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        fill(connection, "acme")
        # As if the words of the policy were right and their meaning were not.
        connection.execute("alter role tallystick_app set tallystick.org = 'acme'")
        connection.execute(f"alter database {connection.info.dbname} set tallystick.org = 'acme'".encode())
    try:
        error = refusal(database_url)
    finally:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("alter role tallystick_app reset tallystick.org")
    assert error is not None
    assert error.code == ISOLATION
    assert "role tallystick_app sees rows of table ledger_entries without naming an org" in error.detail


def test_nothing_is_served_from_a_database_whose_walls_are_down(database_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=database_url, data_dir=tmp_path)
    with open_runtime(settings):
        pass
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("alter table subscriptions disable row level security")
    with pytest.raises(Unavailable) as caught, open_runtime(settings):
        pass
    assert caught.value.code == ISOLATION
    assert "alter table subscriptions enable row level security" in caught.value.next_step
