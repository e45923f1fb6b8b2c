"""Invoices that are due without anybody asking: closed and issued once their late window is over."""

from __future__ import annotations

from tallystick.app.ended_months import ended_months
from tallystick.app.invoice_life import FinalResult, finalize_month, issue_invoice
from tallystick.app.runtime import Runtime
from tallystick.journal.billing import list_issued
from tallystick.journal.invoices import list_invoice_rows


def finalize_due(runtime: Runtime, org_id: str | None = None) -> list[FinalResult]:
    """Close and issue every invoice whose late window is over, the oldest month first: what became of each.

    It may be run at any time, by several at once, and again after it was killed: what is done stays done, and nothing
    is done twice. A month that no contract version covers is nobody's, and is passed over.

    Args:
        org_id: only this org; None for all.

    Raises:
        Unavailable: `database_unreachable`, `journal_busy`, …; running it again is safe.
    """
    results = []
    for org, period, final_at in list(ended_months(runtime, org_id)):
        if final_at is not None and runtime.now(org) >= final_at:
            results += finalize_month(runtime, period.label, [org])
    for org, invoice_id, label in _unissued(runtime, org_id):
        results.append(FinalResult(org, label, "issued", issue_invoice(runtime, invoice_id)))
    return results


def _unissued(runtime: Runtime, org_id: str | None) -> list[tuple[str, str, str]]:
    """Stored invoices that have no number, the oldest first."""
    with runtime.database.operator() if org_id is None else runtime.database.org(org_id) as connection:
        issued = {one.account.invoice_id for one in list_issued(connection, org_id)}
        rows = list_invoice_rows(connection, org_id)
    left = [row for row in rows if row.invoice_id not in issued]
    return [(row.org_id, row.invoice_id, row.period) for row in sorted(left, key=lambda row: (row.period, row.org_id))]
