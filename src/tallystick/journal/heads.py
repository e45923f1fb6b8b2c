"""Org heads: locked to write for their orgs, and moved on with transfers and balances once that is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from weakref import WeakSet

import msgspec
from psycopg.pq import TransactionStatus

from tallystick.journal.copy_rows import COLUMNS, END, SIGNATURE, instant_of
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.round_trips import ask, instants, numbers, texts
from tallystick.ledger.accounts import ORG_ACCOUNTS, PROVIDER_PAYABLE, PROVIDER_USAGE_COST, USD
from tallystick.ledger.entry import instant_json

_SQL = load_queries("writer")
COPY_ENTRIES = _SQL["copy_entries"].replace(b"{columns}", ", ".join(COLUMNS).encode())
_NAMES = ((b"{debit}", PROVIDER_USAGE_COST), (b"{credit}", PROVIDER_PAYABLE), (b"{asset}", USD))


def _with_names(query: bytes) -> bytes:
    for place, name in _NAMES:
        query = query.replace(place, name.encode())
    return query


_PREPARED = (_SQL["lock_heads"], _with_names(_SQL["post"]))
_prepared: WeakSet[Connection] = WeakSet()  # the sessions in which they are


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
    """Lock the orgs' heads (made when missing) until the transaction ends; it is begun here unless it was before."""
    if not orgs:
        return {}
    found = _locked(connection, orgs)
    if len(found) < len(orgs):
        # Locks already held are kept; taking the missing ones now could close a circle with another group,
        # so give them up and start again with every head in place.
        connection.rollback()
        known = {org for org, *_ in found}
        add_heads(connection, [org for org in orgs if org not in known])
        found = _locked(connection, orgs)
    return heads_of(found)


def heads_of(rows: Iterable[tuple[str, int, int, int]]) -> dict[str, Head]:
    """Heads by org, from what `tally_lock_heads` finds."""
    return {
        org: Head(seq, seq + 1, time_max_us, instant_json(instant_of(time_max_us)), 0, None, forgotten_until_us)
        for org, seq, time_max_us, forgotten_until_us in rows
    }


def add_heads(connection: Connection, orgs: list[str]) -> None:
    """Make heads of orgs that have none, and commit."""
    missing = {"orgs": orgs, "asset": USD, "accounts": list(ORG_ACCOUNTS)}
    connection.execute(_SQL["add_missing_heads"], missing)
    connection.commit()


def _locked(connection: Connection, orgs: list[str]) -> list[tuple[str, int, int, int]]:
    begin = b"begin; " if connection.info.transaction_status == TransactionStatus.IDLE else b""
    prepare_heads(connection)
    found = ask(connection, b"%bexecute tally_lock_heads (%b)" % (begin, texts(orgs)))[-1]
    rows: list[Any] = [[found.get_value(row, column) for column in range(4)] for row in range(found.ntuples)]
    return [(org.decode(), int(seq), int(time_max), int(forgotten)) for org, seq, time_max, forgotten in rows]


def prepare_heads(connection: Connection) -> None:
    """Have the session know the statements of this module."""
    if connection not in _prepared:
        ask(connection, b"; ".join(_PREPARED))
        _prepared.add(connection)


def post_script(heads: dict[str, Head]) -> bytes:
    """What posts what entries have added to their orgs, which are locked: transfers, balances, the heads themselves."""
    moved = heads.values()
    return b"execute tally_post (%b)" % b", ".join(
        (
            texts(heads),
            numbers([head.first_seq for head in moved]),
            numbers([head.seq for head in moved]),
            instants([head.time_max_json for head in moved]),
            numbers([head.amount_pico for head in moved]),
            instants([instant_json(head.recorded_at) for head in moved if head.recorded_at]),
        )
    )


def post(connection: Connection, heads: dict[str, Head]) -> None:
    """Run `post_script`, in the transaction in which they were locked."""
    ask(connection, post_script(heads))


def copy_rows(connection: Connection, rows: Sequence[bytes]) -> None:
    """Send whole rows, as `copy_rows.entry_row` makes them."""
    with connection.cursor() as cursor, cursor.copy(COPY_ENTRIES) as stream:
        stream.write(b"".join((SIGNATURE, *rows, END)))
