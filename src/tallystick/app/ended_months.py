"""Months that are over and that nobody has closed yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from tallystick.app.billing_terms import choose_terms, load_stored_contract, plans_of
from tallystick.app.close_month import contract_versions
from tallystick.app.late_months import has_late
from tallystick.app.pinned import stored_version
from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError, Unavailable
from tallystick.core.periods import Period, month_period
from tallystick.journal.invoices import InvoiceRow, list_invoice_rows
from tallystick.journal.subscriptions import Subscription, list_subscriptions

MONTHS_BACK_MAX = 24
"""How far back a month is looked for that nobody has invoiced; what is older is for a person to close."""


def ended_months(runtime: Runtime, org_id: str | None = None) -> Iterator[tuple[str, Period, datetime | None]]:
    """Months that are over on the org's clocks, in which it was on a plan, and which are not closed: oldest first.

    Where an org is on no plan any more and something came late for a closed month, so is the last month that is over.

    Yields:
        The org, the month, and from when on it is final; None where no contract says, since none is in force then.
    """
    with runtime.database.operator() if org_id is None else runtime.database.org(org_id) as connection:
        rows = list_invoice_rows(connection, org_id)
        closed = {(row.org_id, row.period) for row in rows}
        last_of: dict[str, InvoiceRow] = {}
        for row in sorted(rows, key=lambda row: row.period_end):
            last_of[row.org_id] = row
        by_org: dict[str, list[Subscription]] = {}
        for one in list_subscriptions(connection, org_id):
            by_org.setdefault(one.org_id, []).append(one)
    versions = contract_versions(runtime)
    for org, held in sorted(by_org.items()):
        zone, now = held[0].time_zone, runtime.now(org)
        for period in _months(min(one.effective_from for one in held), now, zone):
            if (org, period.label) not in closed and plans_of(held, period):
                try:
                    terms = choose_terms(org, period.label, held, versions)
                except TallyError as error:
                    if isinstance(error, Unavailable):
                        raise
                    yield org, period, None
                else:
                    window = terms.sections[-1].contract.invoicing.late_window
                    yield org, period, period.end + window
        due = _adjusting(runtime, last_of.get(org), held, now)
        if due is not None:
            yield org, *due


def _adjusting(
    runtime: Runtime, last: InvoiceRow | None, held: Sequence[Subscription], now: datetime
) -> tuple[Period, datetime] | None:
    """The last month that is over, when the org was on no plan in it and something came late for a closed one."""
    if last is None or last.period_end >= now:
        return None
    *_, period = _months(last.period_start, now, held[0].time_zone)
    if period.label == last.period or plans_of(held, period) or not has_late(runtime, last.org_id):
        return None
    with runtime.database.operator() as connection:
        contract = load_stored_contract(stored_version(connection, last.contract, last.contract_version))
    return period, period.end + contract.invoicing.late_window


def _months(since: datetime, now: datetime, zone: str) -> Iterator[Period]:
    """The months that are over at `now`, from the one that `since` falls in, on the clocks of the zone."""
    tz = ZoneInfo(zone)
    here = now.astimezone(tz)
    last = here.year * 12 + here.month - 1
    begun = since.astimezone(tz)
    first = max(begun.year * 12 + begun.month - 1, last - MONTHS_BACK_MAX)
    for place in range(first, last):
        period = month_period(f"{place // 12:04}-{place % 12 + 1:02}", zone)
        if period.end <= now:
            yield period


def next_final(months: Iterable[tuple[str, Period, datetime | None]], at: datetime) -> datetime | None:
    """When the next of these months is final, after an instant."""
    return min((final_at for _, _, final_at in months if final_at is not None and final_at > at), default=None)
