"""Org heads: locked to write for their orgs, and moved on with transfers and balances once that is done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from tallystick.journal.copy_rows import COLUMNS, END, SIGNATURE, instant_of, microseconds
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.accounts import ORG_ACCOUNTS, PROVIDER_PAYABLE, PROVIDER_USAGE_COST, USD
from tallystick.ledger.entry import instant_json

_SQL = load_queries("writer")
COPY_ENTRIES = _SQL["copy_entries"].replace(b"{columns}", ", ".join(COLUMNS).encode())


class Head(msgspec.Struct, gc=False):
    """Where an org stands while its head is locked, and what this transaction adds to it."""

    seq: int
    first_seq: int
    time_max_us: int
    time_max_json: bytes
    amount_pico: int = 0
    recorded_at: datetime | None = None
    """Of the last entry that is added."""
    known_since_us: int = 0
    """Entries of before may have left the database: an event of before that is not stored may be one of them."""


def lock_heads(connection: Connection, orgs: list[str]) -> dict[str, Head]:
    """Lock the orgs' heads (made when missing) until the transaction ends: where each stands."""
    if not orgs:
        return {}
    found = _locked(connection, orgs)
    if len(found) < len(orgs):
        # Locks already held are kept; taking the missing ones now could close a circle with another group,
        # so give them up and start again with every head in place.
        connection.rollback()
        known = {org for org, *_ in found}
        missing = {"orgs": [org for org in orgs if org not in known], "asset": USD, "accounts": list(ORG_ACCOUNTS)}
        connection.execute(_SQL["add_missing_heads"], missing)
        connection.commit()
        found = _locked(connection, orgs)
    return {
        org: Head(seq, seq + 1, microseconds(time_max), instant_json(time_max), 0, None, microseconds(forgotten_until))
        for org, seq, time_max, forgotten_until in found
    }


def _locked(connection: Connection, orgs: list[str]) -> list[tuple[str, int, datetime, datetime]]:
    return connection.execute(_SQL["lock_heads"], {"orgs": orgs}, binary=True).fetchall()


def post(connection: Connection, heads: dict[str, Head]) -> None:
    """Post what entries have added to their orgs, which are locked: transfers, balances, and the heads themselves."""
    moved = list(heads.values())
    parameters = {
        "orgs": list(heads),
        "first_seqs": [head.first_seq for head in moved],
        "last_seqs": [head.seq for head in moved],
        "time_max": [instant_of(head.time_max_us) for head in moved],
        "amounts": [str(head.amount_pico) for head in moved],
        "debit": PROVIDER_USAGE_COST,
        "credit": PROVIDER_PAYABLE,
        "asset": USD,
        "recorded_at": [head.recorded_at for head in moved],
    }
    connection.execute(_SQL["post"], parameters)


def copy_rows(connection: Connection, rows: Sequence[bytes]) -> None:
    """Send whole rows, as `copy_rows.entry_row` makes them."""
    with connection.cursor() as cursor, cursor.copy(COPY_ENTRIES) as stream:
        stream.write(b"".join((SIGNATURE, *rows, END)))
