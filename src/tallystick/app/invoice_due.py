"""Invoices that are due without anybody asking: closed and issued once their late window is over.

Before that, issued months are looked at again that an incident was recorded for since: what they are credited beyond
what was given is for the invoices that are issued now.
"""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.app.ended_months import ended_months
from tallystick.app.invoice_life import FinalResult, final_result, finalize_month
from tallystick.app.issue_invoices import issue_stored
from tallystick.app.operate import existing_org
from tallystick.app.runtime import Runtime
from tallystick.app.sla_credits import credit_late_incidents
from tallystick.core.errors import TallyError
from tallystick.journal.billing import unissued_rows
from tallystick.usage.event_problems import check_text


def finalize_due_of(runtime: Runtime, orgs: Sequence[str]) -> list[FinalResult]:
    """`finalize_due` of each of these orgs. Nothing is done when one of them is not there.

    Raises:
        BadInput: what cannot be an org's id.
        NotFound: `unknown_org`.
        Unavailable: as `finalize_due`.
    """
    chosen = list(dict.fromkeys(orgs))
    for org_id in chosen:
        existing_org(runtime, org_id)
    return [one for org_id in chosen for one in finalize_due(runtime, org_id)]


def finalize_due(runtime: Runtime, org_id: str | None = None) -> list[FinalResult]:
    """Close and issue every invoice whose late window is over, the oldest month first: what became of each.

    It may be run at any time, by several at once, and again after it was killed: what is done stays done, and nothing
    is done twice. A month that no contract version covers is nobody's, and is passed over.

    Args:
        org_id: only this org; None for all.

    Raises:
        BadInput: what cannot be an org's id.
        Unavailable: `database_unreachable`, `journal_busy`, …; running it again is safe.
    """
    if org_id is not None:
        check_text("org_id", org_id)
    due: dict[str, list[str]] = {}
    for org, period, final_at in list(ended_months(runtime, org_id)):
        if final_at is not None and runtime.now(org) >= final_at:
            due.setdefault(period.label, []).append(org)
    results = [
        FinalResult(org, month, "failed", error=cents)
        for org, month, cents in credit_late_incidents(runtime, org_id)
        if isinstance(cents, TallyError)
    ]
    for label, orgs in sorted(due.items()):
        results += finalize_month(runtime, label, orgs)
    with runtime.database.operator() if org_id is None else runtime.database.org(org_id) as connection:
        left = unissued_rows(connection, org_id)
    return results + [final_result(runtime, issue) for issue in issue_stored(runtime, left)]
