"""The sums of a month for an invoice that nobody gets: not pinned, and wherever its entries are."""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.app.entries import stream_entries
from tallystick.app.history import first_seq_since
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Conflict
from tallystick.invoice.adjusted import add_operation
from tallystick.invoice.terms import Terms
from tallystick.invoice.usage import PeriodFacts, empty_sums
from tallystick.invoice.wallet import WalletMonth
from tallystick.journal.period_facts import ledger_pin, sum_period
from tallystick.journal.period_scope import begin_reading, read_head
from tallystick.ledger.entry import Entry, entry_event, entry_lines
from tallystick.ledger.merkle import Frontier
from tallystick.ledger.operation_body import read_body
from tallystick.rates.model import Cost


def unpinned_sums(runtime: Runtime, terms: Terms) -> PeriodFacts:
    """What the month comes to, from the database's sums; from the entries one by one where some are in blocks.

    Raises:
        Conflict: `ledger_incomplete`, `entries_missing`.
        BadInput: `missing_block`, `broken_block`.
        Unavailable: `database_unreachable`.
    """
    try:
        return sum_period(runtime.database, terms, pinned=False)
    except Conflict as error:
        if error.code != "period_archived":
            raise
    return _sums_of_entries(runtime, terms)


def _sums_of_entries(runtime: Runtime, terms: Terms) -> PeriodFacts:
    corrections = {
        entry.refers_to_seq: entry for entry in _month(runtime, terms) if entry.kind == "correction"
    }  # a correction comes after its entry; there are few, as models without a price are
    sums, wallet, events, last_seq = empty_sums(len(terms.sections)), WalletMonth(), 0, 0
    for entry in _month(runtime, terms):
        section = terms.section_of(entry.time)
        last_seq = entry.seq
        event = entry_event(entry)
        if event is not None:
            sums[section].add_request(event, _cost(corrections.get(entry.seq, entry)))
            events += 1
        elif entry.body is not None:
            add_operation(sums[section], wallet, entry.kind, entry.body, section, read=read_body)
    return PeriodFacts(sums, ledger_pin(1, last_seq, events, "", Frontier()), wallet)


def _month(runtime: Runtime, terms: Terms) -> Iterator[Entry]:
    """The month's entries, wherever they are."""
    org_id, period = terms.org_id, terms.period
    with runtime.database.org(org_id) as connection:
        begin_reading(connection)
        head = read_head(connection, org_id)
        first_seq = first_seq_since(connection, org_id, head, period.start)
    for entry in stream_entries(runtime, org_id, first_seq, head.last_seq):
        if entry.time in period:
            yield entry


def _cost(entry: Entry) -> Cost:
    """The cost that the entry states."""
    return Cost(
        provider=entry.provider,
        model=entry.model or "",
        total_pico=entry.cost_pico,
        status=entry.status,  # type: ignore[arg-type]
        lines=entry_lines(entry),
        rate_version=entry.rate_version,
        reason=entry.reason,
    )
