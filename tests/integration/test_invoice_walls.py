"""Tenants are walls on every table of invoices: a tenant's session sees its own rows, and writes none of another."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql

from billing import billed_org, payment
from tallystick.app.invoice_actions import record_payment
from tallystick.app.parties import erase_org_profiles, set_profile
from tallystick.app.runtime import Runtime
from tallystick.app.test_clock import make_test_org
from tallystick.core.errors import Unavailable
from tallystick.journal.self_test import check_walls

TABLES = ["invoice_accounts", "invoice_events", "billing_profiles", "billing_profile_texts", "billing_profile_erasures"]


@pytest.fixture(scope="module")
def two_orgs(module_runtime: Runtime) -> Runtime:
    """Two orgs that were billed; nothing that is tried here changes them for good."""
    runtime = module_runtime
    for life in billed_org(runtime, "globex", "initech"):
        record_payment(runtime, life.invoice_id, payment(f"p1-{life.org_id}", "1"))
        for name in ("One", "Two"):
            set_profile(runtime, life.org_id, {"name": name, "author": "ann", "user_id": name})
        erase_org_profiles(runtime, life.org_id, user_id="One")
    make_test_org(runtime, "sandbox", datetime(2026, 1, 1, tzinfo=UTC), author="ann")
    return runtime


def test_a_tenant_sees_its_own_rows_alone(two_orgs: Runtime) -> None:
    with two_orgs.database.org("globex") as connection:
        for table in TABLES:
            seen = connection.execute(sql.SQL("select distinct org_id from {}").format(sql.Identifier(table)))
            assert seen.fetchall() == [("globex",)], table
        for table in ("test_clocks", "number_series"):
            assert connection.execute(sql.SQL("select from {}").format(sql.Identifier(table))).rowcount == 0


@pytest.mark.parametrize(
    "statement",
    [
        "update invoice_accounts set paid_cents = 0",
        "delete from invoice_events",
        "update number_series set last = 0",
        "insert into test_clocks values ('globex', 1, now(), 'x', now())",
        "insert into number_series values ('X-2026', 0)",
        "insert into billing_profiles values ('initech', 9, sha256('x'), 'x', null, now())",
        "insert into billing_profile_texts select 'initech', version, salt, profile from billing_profile_texts",
        "update billing_profile_texts set profile = '{}'",
        "delete from billing_profile_texts",
        "insert into billing_profile_erasures values ('globex', 2, now())",
        "select erase_billing_profiles('globex', null, now())",
        "select erase_billing_profiles('initech', null, now())",
    ],
)
def test_a_tenants_session_changes_nothing(two_orgs: Runtime, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), two_orgs.database.org("globex") as connection:
        connection.execute(statement.encode())


@pytest.mark.parametrize("table", [*TABLES, "test_clocks", "number_series"])
def test_a_wall_that_is_taken_down_is_found_at_the_next_start(runtime: Runtime, database_url: str, table: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(sql.SQL("alter table {} disable row level security").format(sql.Identifier(table)))
    with pytest.raises(Unavailable) as refused:
        check_walls(runtime.database)
    assert refused.value.code == "tenant_isolation_broken"
    assert table in refused.value.detail


def test_a_policy_that_shows_tenants_the_series_of_numbers_is_found(runtime: Runtime, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("create policy anybody on number_series using (true)")
    with pytest.raises(Unavailable) as refused:
        check_walls(runtime.database)
    assert "drop policy anybody on number_series" in refused.value.next_step
