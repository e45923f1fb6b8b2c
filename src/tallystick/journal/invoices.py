"""Closed months as the database holds them, and who is to be billed for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tallystick.core.periods import Period
from tallystick.invoice.adjusted import COUNTED_KINDS
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.period_scope import Scope, find_span, read_head

_SQL = load_queries("invoices")


@dataclass(frozen=True, slots=True)
class InvoiceRow:
    """One closed month without its document. `total_cents` is what is due, in USD cents."""

    invoice_id: str
    org_id: str
    period: str
    period_start: datetime
    period_end: datetime
    contract: str
    contract_version: str
    contract_sha256: str
    plan: str
    through_seq: int
    digest: str
    total_cents: int
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class StoredInvoice:
    """One closed month with its document, the canonical JSON as it was stored."""

    row: InvoiceRow
    document: str


@dataclass(frozen=True, slots=True)
class LateRequest:
    """A request of a closed month that arrived after it was closed, or an operation that was committed after it.

    `billed_on` is the later invoice that bears it; None when there is none yet.
    """

    seq: int
    request_id: str
    time: datetime
    recorded_at: datetime
    billed_on: str | None = None


def invoice_by_id(connection: Connection, invoice_id: str) -> StoredInvoice | None:
    """The invoice of that id."""
    return _stored(connection.execute(_SQL["invoice_by_id"], {"invoice_id": invoice_id}).fetchone())


def invoice_by_month(connection: Connection, org_id: str, label: str) -> StoredInvoice | None:
    """The org's invoice for that month."""
    found = connection.execute(_SQL["invoice_by_month"], {"org": org_id, "period": label}, prepare=True)
    return _stored(found.fetchone())


def list_invoice_rows(connection: Connection, org_id: str | None = None, label: str | None = None) -> list[InvoiceRow]:
    """Closed months, newest first, of one org or of all, of one month or of all."""
    if label is None and org_id is not None:
        rows = connection.execute(_SQL["invoices_of_org"], {"org": org_id}, prepare=True)
    else:
        rows = connection.execute(_SQL["list_invoices"], {"org": org_id, "period": label})
    return [InvoiceRow(*row) for row in rows]


def lock_closing(connection: Connection, org_id: str) -> None:
    """Keep others from closing a month of this org until the transaction ends."""
    connection.execute(_SQL["lock_closing"], {"org": org_id}, prepare=True)


def insert_invoice(connection: Connection, invoice: StoredInvoice) -> None:
    """Append a closed month; closing is locked for the org."""
    row = invoice.row
    names = ("invoice_id", "period", "contract", "contract_version", "contract_sha256", "plan", "through_seq")
    values = {name: getattr(row, name) for name in (*names, "digest", "total_cents", "closed_at")}
    bounds = {"org": row.org_id, "start": row.period_start, "end": row.period_end}
    connection.execute(_SQL["insert_invoice"], {**values, **bounds, "document": invoice.document}, prepare=True)


def late_requests(
    connection: Connection, row: InvoiceRow, billed_through_seq: int, limit: int
) -> tuple[int, int, list[LateRequest]]:
    """How many requests of the month arrived after it was closed and are in the database; the first of them.

    The second number is how many of them came after `billed_through_seq`. They come as they arrived. The connection is
    the org's, in one snapshot.
    """
    last_seq = read_head(connection, row.org_id).last_seq
    span = find_span(connection, Scope(row.org_id, row.period_start, row.period_end, last_seq))
    bounds = {"through_seq": row.through_seq, "last_seq": last_seq, "limit": limit, "kinds": list(COUNTED_KINDS)}
    bounds["billed_through_seq"] = billed_through_seq
    found = connection.execute(_SQL["late_requests"], span.parameters() | bounds).fetchall()
    count, unbilled = found[0][:2] if found else (0, 0)
    return count, unbilled, [LateRequest(*late) for _, _, *late in found]


def late_ranges(connection: Connection, row: InvoiceRow) -> list[tuple[int, int]]:
    """Where in blocks there may be more of them, which have left the database: (first, last) sequence numbers."""
    head = read_head(connection, row.org_id)
    if not head.has_left(row.period_start):
        return []
    since, until = row.period_start, row.period_end
    return ranges_in_blocks(connection, row.org_id, since, until, row.through_seq + 1, head.kept_from_seq - 1)


def ranges_in_blocks(
    connection: Connection, org_id: str, since: datetime, until: datetime, first_seq: int, last_seq: int
) -> list[tuple[int, int]]:
    """Where in blocks the org's entries of that time may be, from `first_seq` to `last_seq`: (first, last) numbers."""
    bounds = {"org": org_id, "start": since, "end": until, "first_seq": first_seq, "last_seq": last_seq}
    return [(first, last) for first, last in connection.execute(_SQL["ranges_in_blocks"], bounds)]


def unsubscribed_orgs(connection: Connection, period: Period) -> list[str]:
    """Orgs that used something in the period and have no subscription at all."""
    return [org for (org,) in connection.execute(_SQL["unsubscribed_orgs"], {"start": period.start, "end": period.end})]


def orgs_that_used(connection: Connection, periods: Mapping[str, Period]) -> list[str]:
    """Which of these orgs used something, each in its own period."""
    starts, ends = ([getattr(period, bound) for period in periods.values()] for bound in ("start", "end"))
    rows = connection.execute(_SQL["orgs_that_used"], {"orgs": list(periods), "starts": starts, "ends": ends})
    return [org for (org,) in rows]


def orgs_with_late(connection: Connection, periods: Mapping[str, Period]) -> list[str]:
    """Which of these orgs have entries that came for a closed month after their last invoice.

    Of each org, the months that ended before its period are looked at. An org of which entries have left the database
    since its last invoice is given as well: what came late may be among them.
    """
    rows = connection.execute(
        _SQL["orgs_with_late"],
        {
            "orgs": list(periods),
            "starts": [period.start for period in periods.values()],
            "kinds": list(COUNTED_KINDS),
        },
    )
    return [org for (org,) in rows]


def _stored(row: tuple[object, ...] | None) -> StoredInvoice | None:
    if row is None:
        return None
    *columns, document = row
    return StoredInvoice(InvoiceRow(*columns), str(document))  # type: ignore[arg-type]
