"""Checking what is kept of payment providers' events against the payments that are counted."""

from __future__ import annotations

from tallystick.app.verify_report import Findings
from tallystick.journal.database import Connection
from tallystick.journal.payment_events import wrong_outcomes


def check_payment_outcomes(connection: Connection, org_id: str | None, findings: Findings) -> None:
    """Where an event is said to be recorded, the entries that it names are payments of its provider."""
    for provider, event_id, org, seq in wrong_outcomes(connection, org_id):
        what = f"payment_outcomes: the event {event_id} of {provider} is said to be a payment here"
        findings.add("state", f"{what}, and this is none", org, seq)
