"""The database itself refuses to change what was recorded, for the owner of its tables too."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest

from journal_helpers import query, raw_event
from tallystick.app.ingest import ingest_events
from tallystick.app.runtime import Runtime

APPEND_ONLY = ["rate_versions", "contract_versions", "subscriptions", "usage_events", "ledger_entries", "invoices"]
COLUMN = {"rate_versions": "source", "contract_versions": "source_name", "subscriptions": "plan", "invoices": "digest"}


@pytest.fixture
def filled(runtime: Runtime) -> Runtime:
    """A runtime whose tables all hold a row."""
    ingest_events(runtime, [raw_event()])
    now = datetime(2026, 10, 1, tzinfo=UTC)
    with runtime.database.connection() as connection:
        connection.execute(
            "insert into contract_versions values ('c', '1', 'sha', %s, %s, 'file', 'text', '{}')", [now, now]
        )
        connection.execute("insert into subscriptions values ('acme', 1, 'c', 'pro', 'UTC', %s, %s)", [now, now])
        connection.execute(
            "insert into invoices values ('inv_1', 'acme', '2026-09', %s, %s + interval '1 day', 'c', '1', 'sha',"
            " 'pro', 1, 'digest', 5, '{}', %s)",
            [now, now, now],
        )
    return runtime


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("change", ["update", "delete", "truncate", "delete of nothing", "replica"])
def test_no_row_is_changed_or_removed(filled: Runtime, table: str, change: str) -> None:
    column = COLUMN.get(table, "request_id")
    statements = {
        "update": f"update {table} set {column} = 'other'",
        "delete": f"delete from {table}",
        "truncate": f"truncate {table}",
        "delete of nothing": f"delete from {table} where false",
        "replica": f"set session_replication_role = replica; delete from {table}",
    }
    before = query(filled, f"select * from {table}")
    with (
        pytest.raises(psycopg.errors.RestrictViolation, match="append-only"),
        filled.database.connection() as connection,
    ):
        connection.execute(statements[change])
    assert query(filled, f"select * from {table}") == before != []


@pytest.mark.parametrize("statement", ["delete from org_heads", "truncate org_heads"])
def test_heads_stay_so_that_no_number_is_given_twice(filled: Runtime, statement: str) -> None:
    with (
        pytest.raises(psycopg.errors.RestrictViolation),
        filled.database.connection() as connection,
    ):
        connection.execute(statement)


def test_every_table_of_facts_is_covered(runtime: Runtime) -> None:
    tables = {name for (name,) in query(runtime, "select tablename from pg_tables where schemaname = 'public'")}
    assert tables == {*APPEND_ONLY, "org_heads", "alembic_version"}
