"""Closed invoices: finding, listing, showing and explaining them, and the requests behind a line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from tallystick.app.entries import stream_entries
from tallystick.app.late_months import billed_through
from tallystick.app.period_source import open_period
from tallystick.app.pinned import adjusted_terms, pinned_terms
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.periods import month_period
from tallystick.invoice.adjusted import COUNTED_KINDS
from tallystick.invoice.explain import Explanation, explain
from tallystick.invoice.facts import StoredFact
from tallystick.invoice.model import Invoice, InvoiceLine, parse_invoice
from tallystick.invoice.terms import Terms
from tallystick.journal.billing import list_issued
from tallystick.journal.database import Connection
from tallystick.journal.invoices import (
    InvoiceRow,
    LateRequest,
    StoredInvoice,
    invoice_by_id,
    invoice_by_month,
    late_ranges,
    late_requests,
    list_invoice_rows,
)
from tallystick.journal.period_scope import Scope, begin_reading

__all__ = [
    "CoveredMonth",
    "InvoiceRow",
    "LateRequest",
    "ShownInvoice",
    "explain_invoice",
    "find_invoice",
    "list_invoices",
    "months_of",
    "requests_behind",
    "scope_of",
    "show_invoice",
    "unknown_invoice",
]

_MONTH = re.compile(r"\d{4}-\d{2}")
LATE_SHOWN_MAX = 20
REQUESTS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class ShownInvoice:
    """A closed invoice as it stands now: itself, and what arrived for its month after it was closed."""

    row: InvoiceRow
    invoice: Invoice
    late_events: int
    unbilled_events: int
    late: tuple[LateRequest, ...]

    def late_sentence(self) -> str | None:
        """What to say of late requests; None when there are none."""
        if not self.late_events:
            return None
        what = "1 request" if self.late_events == 1 else f"{self.late_events:,} requests"
        verb = "is" if self.late_events == 1 else "are"
        if not self.unbilled_events:
            where = "on a later invoice"
        elif self.unbilled_events == self.late_events:
            where = (
                "not billed yet: they will be on the next invoice"
                if self.late_events > 1
                else ("not billed yet: it will be on the next invoice")
            )
        else:
            where = (
                f"not on this invoice: {self.unbilled_events:,} will be on the next one, the others are on later ones"
            )
        return f"{what} of this month arrived after the close and {verb} {where}."


def find_invoice(runtime: Runtime, reference: str) -> StoredInvoice:
    """The closed invoice of that id, of that number ("INV-2026-000001"), or of ORG/MONTH ("globex/2026-10").

    Raises:
        NotFound: `unknown_invoice`.
        BadInput: `invalid_month`.
    """
    org_id, slash, label = reference.rpartition("/")
    by_month = bool(slash and org_id and _MONTH.fullmatch(label))
    if by_month:
        month_period(label)
    if by_month:
        with runtime.database.org(org_id) as connection:
            found = invoice_by_month(connection, org_id, label)
    else:
        with runtime.database.operator() as connection:
            found = invoice_by_id(connection, reference)
            if found is None and (numbered := list_issued(connection, number=reference)):
                found = invoice_by_id(connection, numbered[0].account.invoice_id)
    if found is not None:
        return found
    if by_month:
        raise NotFound(
            "unknown_invoice",
            f"{label} of {org_id} is not closed",
            next_step=f"close it with `tally invoice close {label} --org {org_id}`, "
            f"or look ahead with `tally invoice preview {org_id} {label}`",
            where=reference,
        )
    raise unknown_invoice(reference)


def unknown_invoice(reference: str) -> NotFound:
    """The refusal of what is no invoice, or none that the caller may know of."""
    return NotFound(
        "unknown_invoice",
        f"there is no invoice {reference!r}",
        next_step="see the ids with `tally invoice list`, or name it as ORG/MONTH, such as globex/2026-10",
        where="invoice",
    )


def list_invoices(runtime: Runtime, *, org_id: str | None = None, month: str | None = None) -> list[InvoiceRow]:
    """Closed months, newest first, of one org or of all, of one month or of all.

    Raises:
        BadInput: `invalid_month`.
    """
    if month is not None:
        month_period(month)
    with runtime.database.operator() if org_id is None else runtime.database.org(org_id) as connection:
        return list_invoice_rows(connection, org_id, month)


def show_invoice(runtime: Runtime, reference: str) -> ShownInvoice:
    """The closed invoice, with how many requests of its month came too late for it and the first of them.

    Raises:
        NotFound: `unknown_invoice`.
    """
    stored = find_invoice(runtime, reference)
    org_id = stored.row.org_id
    with runtime.database.org(org_id) as connection:
        begin_reading(connection)
        later = [row for row in list_invoice_rows(connection, org_id) if row.through_seq > stored.row.through_seq]
        billed = billed_through(later) or stored.row.through_seq
        count, unbilled, late = late_requests(connection, stored.row, billed, LATE_SHOWN_MAX)
        ranges = late_ranges(connection, stored.row)
    before = [
        LateRequest(entry.seq, entry.request_id, entry.time, entry.recorded_at)
        for first, last in ranges
        for entry in stream_entries(runtime, org_id, first, last)
        if entry.kind in ("usage", *COUNTED_KINDS) and stored.row.period_start <= entry.time < stored.row.period_end
    ]
    found = [replace(one, billed_on=_billed_on(one.seq, later)) for one in [*before, *late][:LATE_SHOWN_MAX]]
    unbilled += sum(one.seq > billed for one in before)
    return ShownInvoice(stored.row, parse_invoice(stored.document), len(before) + count, unbilled, tuple(found))


def _billed_on(seq: int, later: Sequence[InvoiceRow]) -> str | None:
    """The invoice that bears what came at that place; None when there is none yet."""
    bearing = min((row for row in later if row.through_seq >= seq), key=lambda row: row.through_seq, default=None)
    return None if bearing is None else bearing.invoice_id


def explain_invoice(runtime: Runtime, reference: str) -> tuple[Invoice, Explanation]:
    """The closed invoice and how each of its lines came about.

    Raises:
        NotFound: `unknown_invoice`.
    """
    invoice = parse_invoice(find_invoice(runtime, reference).document)
    return invoice, explain(invoice)


def requests_behind(runtime: Runtime, reference: str, number: int, *, limit: int | None = None) -> Iterator[StoredFact]:
    """The requests behind one line, in the order of the ledger, read as they are asked for.

    A base fee and a true-up have none.

    Raises:
        NotFound: `unknown_invoice`.
        BadInput: `unknown_line`, or `invalid_limit`.
    """
    if limit is not None and not 1 <= limit <= REQUESTS_MAX:
        raise BadInput(
            "invalid_limit",
            f"{limit} is not a number of requests from 1 to {REQUESTS_MAX:,}",
            next_step="ask for fewer, or export all of them: tally invoice export ID --format csv",
            where="limit",
        )
    stored = find_invoice(runtime, reference)
    invoice = parse_invoice(stored.document)
    line = invoice.line(number)
    meters = [use.meter for use in line.metered]
    if not meters:
        return iter(())
    with runtime.database.org(stored.row.org_id) as connection:
        (month,) = [one for one in months_of(connection, stored.row, invoice) if one.covers(line)]
    terms, section = month.terms, line.section - 1
    environments = terms.sections[section].contract.environments
    uncharged = [name for name, one in environments.items() if not one.charge]
    whole = {one.section for one in terms.slices} == {section}
    found = _stream_behind(runtime, month, meters, uncharged, limit if whole else None)
    return islice((fact for fact in found if whole or terms.section_of(fact.entry.time) == section), limit)


def _stream_behind(
    runtime: Runtime, month: CoveredMonth, meters: list[str], uncharged: list[str], limit: int | None
) -> Iterator[StoredFact]:
    with runtime.database.org(month.scope.org_id) as connection:
        begin_reading(connection)
        source = open_period(runtime, connection, month.scope, month.first_seq)
        yield from source.facts(meters, uncharged, limit, month.after_seq)


class CoveredMonth(NamedTuple):
    """A month that an invoice charges for: its own, or one that it adjusts.

    Attributes:
        adjustment: the number of the adjustment; 0 for the invoice's own month.
        terms: the plans that price it.
        scope, first_seq: where its entries are.
        after_seq: only what came, or was corrected, after this entry is charged here.
    """

    adjustment: int
    terms: Terms
    scope: Scope
    first_seq: int
    after_seq: int

    def covers(self, line: InvoiceLine) -> bool:
        """Whether the line charges for this month."""
        return self.adjustment == (line.adjusts.adjustment if line.adjusts is not None else 0)


def months_of(connection: Connection, row: InvoiceRow, invoice: Invoice) -> list[CoveredMonth]:
    """The months that the invoice charges for, its own first.

    Raises:
        NotFound: `unknown_contract_version`.
    """
    found = [CoveredMonth(0, pinned_terms(connection, invoice), scope_of(row), invoice.ledger.first_seq, 0)]
    for one in invoice.adjustments:
        terms = adjusted_terms(connection, invoice, one)
        scope = Scope(row.org_id, terms.period.start, terms.period.end, row.through_seq)
        found.append(CoveredMonth(one.number, terms, scope, one.ledger.first_seq, one.ledger.billed_through_seq))
    return found


def scope_of(row: InvoiceRow) -> Scope:
    """Exactly the facts that the invoice covers."""
    return Scope(row.org_id, row.period_start, row.period_end, row.through_seq)
