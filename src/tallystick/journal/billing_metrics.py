"""Figures of billing over all orgs but test ones: what is owed, disputed, told to others, and watched."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("billing_metrics")


class BillingFigures(NamedTuple):
    """What billing comes to now.

    Attributes:
        unpaid: by `open` and `overdue`: how many invoices are to be paid, and what is left of them in cents.
        credits_left_cents: what is left of the credits that invoices use up.
        disputes: by state: how many are to be decided.
        disputes_overdue: how many of them were to be answered by now.
        payments_unmatched: payments that were told without saying what for.
        payments_pending: events of providers that nothing was done about yet.
        alerts: by rule and severity: how many fire.
        deliveries_waiting, delivery_lag_seconds: what webhooks have to deliver; how old the oldest due one is.
        endpoints_disabled: webhooks that are switched off.
    """

    unpaid: dict[str, tuple[int, int]]
    credits_left_cents: int
    disputes: dict[str, int]
    disputes_overdue: int
    payments_unmatched: int
    payments_pending: int
    alerts: dict[tuple[str, str], int]
    deliveries_waiting: int
    delivery_lag_seconds: float
    endpoints_disabled: int


def billing_figures(connection: Connection, now: datetime) -> BillingFigures:
    """What billing comes to; `now` decides what is overdue."""
    values = {"now": now}
    unpaid = connection.execute(_SQL["unpaid"], values).fetchall()
    ((left,),) = connection.execute(_SQL["credits_left"], values).fetchall()
    disputes = connection.execute(_SQL["disputes"], values).fetchall()
    ((unmatched,),) = connection.execute(_SQL["unmatched"]).fetchall()
    ((pending,),) = connection.execute(_SQL["pending"]).fetchall()
    alerts = connection.execute(_SQL["alerts"]).fetchall()
    ((waiting, lag, disabled),) = connection.execute(_SQL["webhooks"], values).fetchall()
    return BillingFigures(
        unpaid={state: (int(count), int(cents)) for state, count, cents in unpaid},
        credits_left_cents=int(left),
        disputes={state: int(count) for state, count, _ in disputes},
        disputes_overdue=sum(int(overdue) for _, _, overdue in disputes),
        payments_unmatched=int(unmatched),
        payments_pending=int(pending),
        alerts={(rule, severity): int(count) for rule, severity, count in alerts},
        deliveries_waiting=int(waiting),
        delivery_lag_seconds=float(lag),
        endpoints_disabled=int(disabled),
    )
