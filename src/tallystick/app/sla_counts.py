"""How many requests of a month were slow: summed by the database, or read from blocks where entries have left it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from tallystick.app.entries import Ledger, stream_entries
from tallystick.billing.incidents import Incident
from tallystick.billing.sla import Promise, SlowCount, counted_times
from tallystick.billing.spans import Span
from tallystick.invoice.model import Invoice
from tallystick.journal.database import Connection
from tallystick.journal.period_scope import read_head
from tallystick.journal.sla import count_slow, thresholds_of
from tallystick.ledger.entry import Entry

Counts = dict[int, dict[int, SlowCount]]
"""By the number of the invoice's section, and by threshold in milliseconds."""


def slow_counts(
    ledger: Ledger, connection: Connection, invoice: Invoice, promises: Sequence[Promise], incidents: Sequence[Incident]
) -> Counts:
    """The requests that the invoice covers, by plan and threshold; none that came after it was made.

    Args:
        connection: the org's, in one snapshot (`begin_reading`).
        incidents: those that hold; requests during maintenance do not count.

    Raises:
        Conflict: `entries_missing`.
        BadInput: `missing_block`, `broken_block`.
        Unavailable: `database_unreachable`.
    """
    asked = [(one, counted_times(one, incidents)) for one in promises if thresholds_of(one)]
    begins = min((times[0][0] for _, times in asked if times), default=None)
    if begins is None:
        return {one.section: dict.fromkeys(thresholds_of(one), SlowCount(0, 0)) for one, _ in asked}
    org_id, through_seq = invoice.org_id, invoice.ledger.through_seq
    if not read_head(connection, org_id).has_left(begins):
        return {one.section: count_slow(connection, org_id, through_seq, one, times) for one, times in asked}
    first_seq = invoice.ledger.first_seq
    return _counted(stream_entries(ledger, org_id, first_seq, through_seq) if first_seq else (), asked)


def _counted(entries: Iterable[Entry], asked: Sequence[tuple[Promise, Sequence[Span]]]) -> Counts:
    totals = {one.section: 0 for one, _ in asked}
    slow = {one.section: dict.fromkeys(thresholds_of(one), 0) for one, _ in asked}
    for entry in entries:
        if entry.kind != "usage" or entry.outcome != "success" or entry.latency_ms is None:
            continue
        for promise, times in asked:
            if entry.environment in promise.uncharged or not _is_in(entry, times):
                continue
            if promise.sla.features and entry.feature not in promise.sla.features:
                continue
            totals[promise.section] += 1
            for over_ms in slow[promise.section]:
                slow[promise.section][over_ms] += entry.latency_ms > over_ms
    return {
        section: {over_ms: SlowCount(totals[section], count) for over_ms, count in found.items()}
        for section, found in slow.items()
    }


def _is_in(entry: Entry, times: Sequence[Span]) -> bool:
    place = bisect_right(times, entry.time, key=lambda span: span[0]) - 1
    return place >= 0 and entry.time < times[place][1]
