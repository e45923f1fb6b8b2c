"""Reading an org's events in the order in which they were stored."""

from __future__ import annotations

from typing import Any

from psycopg.rows import dict_row

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("listing")


def events_after(connection: Connection, org_id: str, after_seq: int, limit: int) -> list[dict[str, Any]]:
    """At most `limit` facts with seq > `after_seq`, ascending, with their entry; columns as in `listing.sql`."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_SQL["events_after"], {"org": org_id, "after": after_seq, "limit": limit}).fetchall()


def knows_org(connection: Connection, org_id: str) -> bool:
    """Whether the org has an event or a subscription."""
    row = connection.execute(_SQL["knows_org"], {"org": org_id}).fetchone()
    return row is not None and bool(row[0])
