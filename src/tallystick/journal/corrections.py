"""Corrections: an entry that had no price gets one, as a further entry that refers to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tallystick.journal.copy_rows import entry_row, instant_of
from tallystick.journal.database import Connection
from tallystick.journal.heads import Head, copy_rows, lock_heads, post
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.entry import ENTRY_COLUMNS, Entry, entry_leaf
from tallystick.rates.steps import CostRow

_SQL = load_queries("corrections")
_UNPRICED = _SQL["unpriced"].replace(b"{columns}", ", ".join(ENTRY_COLUMNS).encode())


def orgs_with_unpriced(connection: Connection) -> list[str]:
    """Orgs with an unpriced entry that no correction refers to."""
    return [org for (org,) in connection.execute(_SQL["orgs"])]


def unpriced_entries(connection: Connection, org_id: str, *, after_seq: int, limit: int) -> list[Entry]:
    """The org's next unpriced usage entries that no correction refers to, by sequence."""
    found = connection.execute(_UNPRICED, {"org": org_id, "after": after_seq, "limit": limit}, binary=True)
    return [Entry(*row) for row in found]


def lock_org(connection: Connection, org_id: str) -> Head:
    """Be the only writer of the org until the transaction ends: where it stands. Call it first."""
    return lock_heads(connection, [org_id])[org_id]


def add_corrections(
    connection: Connection, head: Head, corrections: Sequence[tuple[Entry, CostRow]], recorded_at: datetime
) -> None:
    """Append a correction for each (entry, its cost) of one org, which is locked; move its balances and its head."""
    rows = []
    for entry, cost in corrections:
        head.seq += 1
        rows.append(entry_row(_correction(entry, cost, head, recorded_at)))
        head.amount_pico += (cost.total_pico or 0) if entry.payer is None else 0
    if rows:
        copy_rows(connection, rows)
        head.recorded_at = recorded_at
        post(connection, {corrections[0][0].org_id: head})


def _correction(entry: Entry, cost: CostRow, head: Head, recorded_at: datetime) -> Entry:
    correction = Entry._make([None] * len(ENTRY_COLUMNS))._replace(
        org_id=entry.org_id,
        seq=head.seq,
        kind="correction",
        request_id=entry.request_id,
        time=entry.time,
        time_max=instant_of(head.time_max_us),
        recorded_at=recorded_at,
        payer=entry.payer,
        rate_version=cost.rate_version,
        status=cost.status,
        cost_pico=cost.total_pico,
        line_meters=cost.meters,
        line_quantities=cost.quantities,
        line_price_pico=cost.price_pico,
        line_per=cost.per,
        line_amount_pico=cost.amount_pico,
        line_models=cost.models,
        refers_to_seq=entry.seq,
        reason=cost.reason,
    )
    return correction._replace(leaf=entry_leaf(correction))
