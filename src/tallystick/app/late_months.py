"""Closed months that facts came late for, found in the ledger and counted: as they were billed, and as they are now."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.app.entries import stream_entries
from tallystick.app.period_source import PeriodInBlocks, open_period
from tallystick.app.pinned import pinned_terms
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Conflict
from tallystick.invoice.adjusted import COUNTED_KINDS
from tallystick.invoice.entry_count import EntryCount
from tallystick.invoice.late_months import LateMonth
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.invoice.terms import Terms
from tallystick.journal.database import Connection
from tallystick.journal.invoices import InvoiceRow, invoice_by_month, list_invoice_rows, ranges_in_blocks
from tallystick.journal.period_facts import count_month
from tallystick.journal.period_late import ClosedMonth, late_labels, late_pin
from tallystick.journal.period_scope import Head, Scope, begin_reading, read_head

_COUNTED = ("usage", "correction", *COUNTED_KINDS)


def billed_through(closed: Sequence[InvoiceRow]) -> int:
    """Up to which entry an org's closed months are billed: every invoice bears all that came late until it was closed.

    `closed` are the org's invoices; 0 when there is none.
    """
    return max((row.through_seq for row in closed), default=0)


def find_late(runtime: Runtime, connection: Connection, head: Head, closed: Sequence[InvoiceRow]) -> list[LateMonth]:
    """Those closed months for which entries came since the last of these invoices, counted twice each.

    Args:
        runtime: the running system.
        connection: the org's, in one snapshot (`begin_reading`).
        head: where the org's sequence stands in that snapshot.
        closed: the org's invoices.

    Raises:
        Conflict: `ledger_incomplete`, `entries_missing`.
        NotFound: `unknown_contract_version`.
        BadInput: `invalid_invoice_document`; `missing_block`, `broken_block`.
    """
    after_seq = billed_through(closed)
    labels = late_months_of(runtime, connection, head, closed, after_seq, head.last_seq)
    by_month = {row.period: row for row in closed}
    found = []
    for label in sorted(labels):
        stored = invoice_by_month(connection, by_month[label].org_id, label)
        if stored is None:
            raise LookupError(f"the invoice of {label}, which was there a moment ago")
        own = parse_invoice(stored.document)
        terms = pinned_terms(connection, own)
        found.append(_count(runtime, connection, head, own, terms, after_seq))
    return found


def has_late(runtime: Runtime, org_id: str) -> bool:
    """Whether anything came late for closed months of this org, and is on no invoice yet.

    Raises:
        Conflict: `entries_missing`; BadInput: `missing_block`, `broken_block`.
        Unavailable: `database_unreachable`.
    """
    with runtime.database.org(org_id) as connection:
        begin_reading(connection)
        head, closed = read_head(connection, org_id), list_invoice_rows(connection, org_id)
        return bool(late_months_of(runtime, connection, head, closed, billed_through(closed), head.last_seq))


def late_months_of(
    runtime: Runtime, connection: Connection, head: Head, closed: Sequence[InvoiceRow], after_seq: int, through_seq: int
) -> set[str]:
    """Which of the closed months have entries after `after_seq`, up to `through_seq`, wherever those are.

    The arguments are those of `find_late`.
    """
    if not closed or after_seq >= through_seq:
        return set()
    org_id = closed[0].org_id
    months = [ClosedMonth(row.period, row.period_start, row.period_end) for row in closed]
    found = late_labels(connection, org_id, months, after_seq, through_seq)
    if head.kept_from_seq > after_seq + 1:  # some of them may have left for blocks
        since, until = min(one.start for one in months), max(one.end for one in months)
        last_seq = min(head.kept_from_seq - 1, through_seq)
        for first, last in ranges_in_blocks(connection, org_id, since, until, after_seq + 1, last_seq):
            for entry in stream_entries(runtime, org_id, first, last):
                if entry.kind in _COUNTED:
                    found.update(one.label for one in months if one.start <= entry.time < one.end)
    return found


def _count(
    runtime: Runtime, connection: Connection, head: Head, own: Invoice, terms: Terms, after_seq: int
) -> LateMonth:
    org_id, period = terms.org_id, terms.period
    scope = Scope(org_id, period.start, period.end, head.last_seq)
    # Where its own invoice had reached no entry of the month, the first one came after it.
    source = open_period(runtime, connection, scope, own.ledger.first_seq or own.ledger.through_seq + 1)
    if isinstance(source, PeriodInBlocks):
        billed = EntryCount(period, after_seq, terms)
        now = EntryCount(period, head.last_seq, terms, after_seq=after_seq)
        for entry in source.entries():
            billed.add(entry)
            now.add(entry)
        wrong = now.problems or [f"entry {first} is missing" for first, _ in source.gaps()]
        pin = now.pin()
        if wrong or pin is None:
            raise _incomplete(org_id, period.label, wrong[0] if wrong else "its late entries are missing")
        return LateMonth(own.invoice_id, terms, billed.count(), now.count(), pin)
    return LateMonth(
        invoice_id=own.invoice_id,
        terms=terms,
        billed=count_month(connection, terms, after_seq),
        now=count_month(connection, terms, head.last_seq),
        ledger=late_pin(connection, scope, after_seq),
    )


def _incomplete(org_id: str, label: str, why: str) -> Conflict:
    return Conflict(
        "ledger_incomplete",
        f"{label} of {org_id} cannot be counted again: {why}",
        next_step="nothing was closed. See what is wrong with `tally verify`, and restore the database from a backup",
        where=org_id,
    )
