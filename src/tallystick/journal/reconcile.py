"""Reading what a provider's export is compared with, from the database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from psycopg.types.json import set_json_loads

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.period_entries import stream_corrections
from tallystick.journal.period_scope import Scope, find_span
from tallystick.ledger.adjustment import ADJUSTMENT
from tallystick.ledger.entry import Entry
from tallystick.ledger.operation_body import read_body
from tallystick.reconcile.ledger_days import NEAR, Group, LedgerDays, Rate

_SQL = load_queries("reconcile")
_PERIOD = load_queries("period")


class _Row(NamedTuple):
    """A row of the query `sums`, whose comment says what each kind holds."""

    kind: str
    day: date
    provider: str | None
    model: str
    payer: str
    environment: str
    failed: bool
    name: str
    rate_version: str | None
    price_pico: int | None
    per: int | None
    amount: Decimal
    cost: Decimal | None
    estimated: int
    partial: int
    unpriced: int
    silent: int
    early: int
    late: int


def read_ledger_days(connection: Connection, scope: Scope, days: LedgerDays) -> None:
    """Add what the org has of whole UTC days, none of which may have left the database.

    Args:
        connection: one transaction; `begin_reading` makes it a fast one.
        scope: the org and the days.
        days: what to add it to.
    """
    span = find_span(connection, scope)
    rows = connection.execute(_SQL["sums"], span.parameters() | {"near": NEAR}, binary=True)
    for one in rows:
        _take(_Row(*one), scope.org_id, days)
    estimated = list(_entries(connection, _SQL["estimated"], span.parameters()))
    if estimated:
        wanted = {entry.seq for entry in estimated}
        corrections = {
            one.refers_to_seq: one for one in stream_corrections(connection, span) if one.refers_to_seq in wanted
        }
        for entry in estimated:
            days.add_estimate(entry, corrections.get(entry.seq), is_counted=True)
    for entry in _entries(connection, _PERIOD["adjustments"], span.parameters()):
        days.add_adjustment(entry, read_body(ADJUSTMENT, entry.body or "")[0])


def last_adjustment(connection: Connection, org_id: str) -> int:
    """The place of the org's last adjustment; 0 when there is none."""
    row = connection.execute(_SQL["last_adjustment"], {"org": org_id}).fetchone()
    return 0 if row is None else int(row[0])


def _entries(connection: Connection, query: bytes, parameters: dict[str, Any]) -> Iterator[Entry]:
    with connection.cursor() as cursor:
        set_json_loads(msgspec.json.decode, cursor)
        cursor.execute(query, parameters, binary=True)
        yield from map(Entry._make, cursor)


def _take(row: _Row, org_id: str, days: LedgerDays) -> None:
    payer = row.payer
    sums = days.of(Group(org_id, row.day, row.provider, row.model, payer, row.environment, row.failed))  # type: ignore[arg-type]
    amount = int(row.amount)
    match row.kind:
        case "request":
            sums.requests += amount
            sums.tiers[row.name] += amount
            sums.estimated += row.estimated
            sums.partial += row.partial
            sums.unpriced += row.unpriced
            sums.silent_failures += row.silent
            sums.early += row.early
            sums.late += row.late
        case "quantity":
            sums.quantities[row.name] += amount
        case _:
            sums.rates[row.name, Rate(row.rate_version or "", row.price_pico, row.per)] += amount
            sums.costs[row.name] += int(row.cost or 0)
