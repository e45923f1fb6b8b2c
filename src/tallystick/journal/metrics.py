"""Figures over all orgs, for those who watch."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("metrics")


class LedgerFigures(NamedTuple):
    """What the ledger comes to now; amounts in pico-USD, pico-credits and cents."""

    orgs: int
    entries: int
    unpriced: int
    cost_pico: int
    open_holds: int
    overdue_holds: int
    blocks: int
    invoices: int
    invoiced_cents: int
    credits_pico: Mapping[str, int]
    last_recorded_at: datetime | None
    last_lag_seconds: float | None
    unsealed: int
    oldest_unsealed_at: datetime | None


class RolledFigures(NamedTuple):
    """What rollups come to: requests, failures, what customers' keys paid, operations by kind and reason, charges."""

    requests: int
    failures: int
    customer_cost_pico: int
    operations: tuple[tuple[str, str, int], ...]
    charged_pico: int


def ledger_figures(connection: Connection, now: datetime) -> LedgerFigures:
    """What the ledger comes to; `now` decides which holds are overdue."""
    ((*sums,),) = connection.execute(_SQL["ledger"], {"now": now}).fetchall()
    credits_pico = {account: int(amount) for account, amount in connection.execute(_SQL["credits"])}
    newest = connection.execute(_SQL["newest"]).fetchone()
    ((unsealed, oldest),) = connection.execute(_SQL["unsealed"]).fetchall()
    return LedgerFigures(
        **dict(zip(LedgerFigures._fields, map(int, sums), strict=False)),
        credits_pico=credits_pico,
        last_recorded_at=None if newest is None else newest[0],
        last_lag_seconds=None if newest is None else float(newest[1]),
        unsealed=int(unsealed),
        oldest_unsealed_at=oldest,
    )


def rolled_mark(connection: Connection) -> str | None:
    """Something that is another whenever anything has been added up."""
    ((mark,),) = connection.execute(_SQL["mark"]).fetchall()
    return None if mark is None else str(mark)


def rolled_figures(connection: Connection) -> RolledFigures:
    """What rollups come to."""
    ((requests, failures, customer),) = connection.execute(_SQL["rolled"]).fetchall()
    found = connection.execute(_SQL["operations"]).fetchall()
    charged = sum(int(credit) for kind, _, _, credit in found if kind == "settlement")
    operations = tuple((kind, reason, int(count)) for kind, reason, count, _ in found)
    return RolledFigures(int(requests), int(failures), int(customer), operations, charged)


def billing_health(connection: Connection, late: datetime) -> tuple[int, int]:
    """How many holds should have ended by `late`, and how many requests have no price: up to a thousand of each."""
    ((overdue, unpriced),) = connection.execute(_SQL["billing_health"], {"late": late}).fetchall()
    return int(overdue), int(unpriced)
