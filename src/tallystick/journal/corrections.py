"""Corrections: an entry that had no price gets one, as a further entry that refers to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from tallystick.journal.copy_rows import SIGNATURE, correction_row_tail, entry_row_head
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.writer import advance_heads, copy, lock_heads
from tallystick.rates.model import Cost
from tallystick.usage.event import UsageEvent

_SQL = load_queries("corrections")


def orgs_with_unpriced(connection: Connection) -> list[str]:
    """Orgs with an unpriced entry that no correction refers to."""
    return [org for (org,) in connection.execute(_SQL["orgs"])]


def unpriced_facts(connection: Connection, org_id: str, *, after_seq: int, limit: int) -> list[tuple[int, UsageEvent]]:
    """The facts, by sequence, of the org's next unpriced entries that no correction refers to."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_SQL["unpriced"], {"org": org_id, "after": after_seq, "limit": limit})
        return [_fact(row) for row in cursor]


def _fact(row: dict[str, Any]) -> tuple[int, UsageEvent]:
    seq = row.pop("seq")
    meters = dict(zip(row.pop("meter_names"), row.pop("meter_quantities"), strict=True))
    return seq, UsageEvent(meters=meters, **row)


def lock_org(connection: Connection, org_id: str) -> int:
    """Be the only writer of the org until the transaction ends; its last sequence number. Call it first."""
    return lock_heads(connection, [org_id])[org_id]


def add_corrections(
    connection: Connection,
    org_id: str,
    last_seq: int,
    corrections: Sequence[tuple[int, UsageEvent, Cost]],
    recorded_at: datetime,
) -> None:
    """Append a correction for each (seq it refers to, event, cost), numbered on from `last_seq`; the org is locked."""
    rows = [SIGNATURE]
    for number, (seq, event, cost) in enumerate(corrections, last_seq + 1):
        tail = correction_row_tail(event, cost, recorded_at, seq)
        rows += (entry_row_head(number), tail)
    if corrections:
        copy(connection, "copy_entries", rows)
        advance_heads(connection, {org_id: last_seq + len(corrections)})
