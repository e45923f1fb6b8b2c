"""What was recorded in a time, read one org after the other and one entry at a time; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.period_scope import Span
from tallystick.ledger.entry import Entry

_SQL = load_queries("history")
_FETCH_ROWS = 2000


class OperationRow(NamedTuple):
    """An operation as it stands in the ledger."""

    seq: int
    kind: str
    time: datetime
    refers_to_seq: int | None
    body: str


def orgs_after(connection: Connection, after: str, limit: int) -> list[str]:
    """At most `limit` orgs with entries, those that come after that one."""
    return [org_id for (org_id,) in connection.execute(_SQL["orgs"], {"after": after, "limit": limit})]


def has_budgets(connection: Connection, org_id: str) -> bool:
    """Whether an entry in the database sets a budget of the org, or takes one away."""
    ((found,),) = connection.execute(_SQL["has_budgets"], {"org": org_id}).fetchall()
    return bool(found)


def stream_operation_entries(connection: Connection, org_id: str, before_seq: int) -> Iterator[Entry]:
    """The org's operations before that place, whole, in ascending sequence; `connection` as for `stream_operations`."""
    with connection.cursor("operation_entries") as cursor:
        cursor.itersize = _FETCH_ROWS
        cursor.execute(_SQL["operation_entries"], {"org": org_id, "before_seq": before_seq}, binary=True)
        yield from map(Entry._make, cursor)


def stream_operations(connection: Connection, span: Span, kinds: Sequence[str]) -> Iterator[OperationRow]:
    """The org's operations of these kinds from the span's first entry on, before its end, in ascending sequence.

    Args:
        connection: one transaction, open for as long as they are read.
    """
    with connection.cursor("history") as cursor:
        cursor.itersize = _FETCH_ROWS
        cursor.execute(_SQL["operations"], span.parameters() | {"kinds": list(kinds)}, binary=True)
        yield from map(OperationRow._make, cursor)
