"""The figures of billing that Prometheus reads: what is owed, disputed, told to others, and watched."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from tallystick.app.last_backup import last_backup_at
from tallystick.app.runtime import Runtime
from tallystick.journal.billing_metrics import billing_figures
from tallystick.journal.database import Connection


def billing_metrics(runtime: Runtime, connection: Connection) -> Iterator[Metric]:
    """Those that come from the database, without test orgs."""
    found = billing_figures(connection, runtime.clock())
    unpaid = GaugeMetricFamily("tallystick_invoices_unpaid", "Issued invoices that are to be paid.", labels=["state"])
    owed = GaugeMetricFamily("tallystick_receivable_usd", "What is left to be paid of them, in USD.", labels=["state"])
    for state in ("open", "overdue"):
        count, cents = found.unpaid.get(state, (0, 0))
        unpaid.add_metric([state], count)
        owed.add_metric([state], cents / 100)
    yield from (unpaid, owed)
    yield _gauge(
        "tallystick_invoice_credits_usd", "Credits that later invoices use up, in USD.", found.credits_left_cents / 100
    )
    disputes = GaugeMetricFamily("tallystick_disputes", "Disputes that are to be decided.", labels=["state"])
    for state in ("open", "under_review"):
        disputes.add_metric([state], found.disputes.get(state, 0))
    yield disputes
    yield _gauge("tallystick_disputes_overdue", "Disputes to which an answer is late.", found.disputes_overdue)
    yield _gauge(
        "tallystick_payments_unmatched", "Payments that nobody has said the invoice of.", found.payments_unmatched
    )
    yield _gauge("tallystick_payments_pending", "Callbacks that are kept and not done yet.", found.payments_pending)
    firing = GaugeMetricFamily("tallystick_alerts_firing", "Alerts that fire.", labels=["rule", "severity"])
    for (rule, severity), count in found.alerts.items():
        firing.add_metric([rule, severity], count)
    yield firing
    yield _gauge("tallystick_webhook_deliveries_waiting", "Events on their way to endpoints.", found.deliveries_waiting)
    yield _gauge(
        "tallystick_webhook_lag_seconds", "How old the oldest event is that is due.", found.delivery_lag_seconds
    )
    yield _gauge("tallystick_webhook_endpoints_disabled", "Endpoints that are switched off.", found.endpoints_disabled)


def backup_metrics(runtime: Runtime) -> Iterator[Metric]:
    """When this data directory was last backed up; nothing where it never was."""
    at = last_backup_at(runtime.settings)
    if at is not None:
        yield _gauge("tallystick_last_backup_timestamp_seconds", "The moment of the last backup.", at.timestamp())


def _gauge(name: str, said: str, value: float) -> Metric:
    return GaugeMetricFamily(name, said, value=value)
