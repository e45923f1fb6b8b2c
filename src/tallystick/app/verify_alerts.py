"""Checking what fires: each alert as its last event says, and none without events."""

from __future__ import annotations

from tallystick.app.verify_report import Findings
from tallystick.journal.alerts import unlike_events
from tallystick.journal.database import Connection


def check_alerts(connection: Connection, org_id: str | None, findings: Findings) -> None:
    """Compare what fires with the events of alerts, of all or of one org."""
    for alert_id, is_missing in unlike_events(connection, org_id):
        what = "is missing, and its events say that it fires" if is_missing else "is not as its events say"
        findings.add("state", f"open_alerts: the alert {alert_id} {what}", org_id)
