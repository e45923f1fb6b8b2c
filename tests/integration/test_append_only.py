"""The database itself refuses to change what was recorded: to each role that works with it, and to its owner too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from recorded_rows import APPEND_ONLY, BY_ORG, SHARED, fill

ROLES = ["tallystick_app", "tallystick_writer", "tallystick_operator", "the owner", "the owner as a replica"]
CHANGES = {
    "update": "update {table} set {first} = {first}",
    "update of nothing": "update {table} set {first} = {first} where false",
    "delete": "delete from {table}",
    "delete of nothing": "delete from {table} where false",
    "truncate": "truncate {table} cascade",
    "upsert": "insert into {table} overriding system value table {table} on conflict ({key})"
    " do update set {first} = excluded.{first}",
    "merge": "merge into {table} using (select) as nothing on true when matched then delete",
}
KEY = {
    "rate_versions": "ordinal",
    "contract_versions": "contract, version",
    "blocks": "block",
    "signing_keys": "key_id",
    "checkpoints": "size",
    "invoices": "invoice_id",
    "subscriptions": "org_id, ordinal",
    "transfers": "org_id, seq, debit_account, credit_account, asset",
    "block_orgs": "org_id, last_seq",
    "claimed_ids": "org_id, kind, request_id",
    "api_keys": "key_id",
    "api_key_endings": "key_id, ends_at, reason",
    "api_key_persons": "key_id",
    "register": "n",
    "billing_profiles": "org_id, version",
    "billing_profile_texts": "org_id, version",
    "billing_profile_erasures": "org_id, version",
    "test_clocks": "org_id, ordinal",
    "promo_codes": "code, version",
    "payment_events": "provider, event_id",
    "payment_outcomes": "provider, event_id, n",
    "incidents": "incident",
    "sla_looks": "org_id, invoice_id, incidents_through",
    "dispute_evidence": "org_id, dispute_seq, sha256",
    "alert_events": "alert_id, ordinal",
    "alert_silences": "silence_id, ordinal",
    "alert_preferences": "org_id, version",
    "webhook_secrets": "endpoint_id, ordinal",
    "webhook_events": "event_id",
    "webhook_attempts": "delivery_id, attempt",
    "administrative_acts": "n",
}
FIRST = {"administrative_acts": "act"}
"""Where the first column of the key is one that nobody may name in a change to begin with."""


@pytest.fixture(scope="module")
def filled_url(server_url: str) -> Iterator[str]:
    """A database with a row in every table. What is tried on it is refused, so that one serves all."""
    url = make_conninfo(server_url, dbname="append_only")
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("create database append_only template template")
        with psycopg.connect(url) as filling:
            fill(filling, "acme")
        yield url
        connection.execute("drop database append_only with (force)")


def session(url: str, role: str) -> psycopg.Connection[Any]:
    """As the role, with every row in sight."""
    connection = psycopg.connect(url)
    connection.execute("set tallystick.org = 'acme'")
    if role == "the owner as a replica":
        connection.execute("set session_replication_role = replica")
    elif role != "the owner":
        connection.execute(f"set role {role}".encode())
    return connection


def rows(url: str, table: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(f"select * from {table} order by 1".encode()).fetchall()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_nobody_changes_or_removes_what_was_recorded(filled_url: str, table: str, role: str) -> None:
    before = rows(filled_url, table)
    # An owner is refused by the trigger; the others have no right to begin with.
    refusal = psycopg.errors.RestrictViolation if "owner" in role else psycopg.errors.InsufficientPrivilege
    key = KEY.get(table, "org_id, seq")
    first = FIRST.get(table, key.split(", ", maxsplit=1)[0])
    with session(filled_url, role) as connection:
        for change in CHANGES.values():
            statement = change.format(table=table, key=key, first=first)
            with pytest.raises(refusal), connection.transaction():
                connection.execute(statement.encode())
    assert rows(filled_url, table) == before != []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("org_heads", "last_seq"),
        ("account_balances", "debit_pico"),
        ("org_states", "counted_through_seq"),
        ("grants", "available_pico"),
        ("invoice_accounts", "paid_cents"),
        ("number_series", "last"),
        ("disputes", "differences"),
        ("webhook_endpoints", "failures"),
        ("webhook_deliveries", "attempts"),
    ],
)
def test_heads_and_accounts_stay_and_only_the_writer_moves_them(
    filled_url: str, table: str, column: str, role: str
) -> None:
    with session(filled_url, role) as connection:
        for statement in (f"delete from {table}", f"truncate {table} cascade", f"delete from {table} where false"):
            with (
                pytest.raises((psycopg.errors.RestrictViolation, psycopg.errors.InsufficientPrivilege)),
                connection.transaction(),
            ):
                connection.execute(statement.encode())
        move = f"update {table} set {column} = {column} + 1".encode()
        if role in ("tallystick_app", "tallystick_operator"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(move)
        else:
            with connection.transaction(force_rollback=True):
                assert connection.execute(move).rowcount == 1


PASSING = {
    "open_holds": ("delete", "insert into open_holds values ('acme', 2, now())", "update open_holds set seq = 3"),
    "open_alerts": ("delete", "update open_alerts set changes = 2", "truncate open_alerts"),
    "finished_work": ("update", "update finished_work set seq = seq + 1", "delete from finished_work"),
    "counters": ("delete", "update counters set used = used + 1", "truncate counters"),
    "rollup_states": ("delete", "update rollup_states set rolled_through_seq = 0", "truncate rollup_states"),
    "rollup_requests": ("delete", "update rollup_requests set requests = 2", "truncate rollup_requests"),
    "rollup_meters": ("delete", "update rollup_meters set requests = 2", "truncate rollup_meters"),
    "rollup_operations": ("delete", "update rollup_operations set operations = 2", "truncate rollup_operations"),
    "reopened_days": ("delete", "update reopened_days set entries = 2", "truncate reopened_days"),
}
"""Rows that only remember what entries come to: what the writer may do with them, and what it may not."""


@pytest.mark.parametrize("role", ROLES[:3])
@pytest.mark.parametrize("table", PASSING)
def test_what_only_remembers_is_moved_by_the_writer_alone(filled_url: str, table: str, role: str) -> None:
    what, allowed, refused = PASSING[table]
    changes = [allowed, f"delete from {table}"] if what == "delete" else [allowed]
    with session(filled_url, role) as connection:
        for change in changes:
            if role == "tallystick_writer":
                with connection.transaction(force_rollback=True):
                    assert connection.execute(change.encode()).rowcount == 1
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    connection.execute(change.encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute(refused.encode())


def test_nothing_that_is_available_of_a_wallet_or_a_grant_falls_below_zero(filled_url: str) -> None:
    with session(filled_url, "tallystick_writer") as connection:
        for change in (
            "insert into account_balances values ('acme', 'wallet_available', 'CREDIT', 1, 0)",
            "insert into account_balances values ('acme', 'wallet_held', 'CREDIT', 1, 0)",
            "update grants set available_pico = -1",
            "update grants set available_pico = amount_pico + 1",
        ):
            with pytest.raises(psycopg.errors.CheckViolation), connection.transaction():
                connection.execute(change.encode())


def test_every_table_is_either_append_only_or_one_of_those_that_move(filled_url: str) -> None:
    with psycopg.connect(filled_url) as connection:
        found = connection.execute("select tablename from pg_tables where schemaname = 'public'")
        assert {name for (name,) in found} == {*BY_ORG, *SHARED, "alembic_version"}
