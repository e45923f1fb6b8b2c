"""What came late for closed months: which of them, and what pins it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.types.numeric import Int8

from tallystick.core.instants import format_instant
from tallystick.invoice.adjusted import COUNTED_KINDS
from tallystick.invoice.model import AdjustmentPin
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.period_pin import hash_entries
from tallystick.journal.period_scope import Scope, Span, find_span

_SQL = load_queries("period")


class ClosedMonth(NamedTuple):
    """A month that has an invoice: the half-open time [start, end)."""

    label: str
    start: datetime
    end: datetime


def late_labels(
    connection: Connection, org_id: str, months: Sequence[ClosedMonth], after_seq: int, through_seq: int
) -> set[str]:
    """Which of the months have entries that came after `after_seq` and may change what they come to.

    Only entries that are in the database are looked at.
    """
    if not months or after_seq >= through_seq:
        return set()
    parameters = {
        "org": org_id,
        "start": min(one.start for one in months),
        "end": max(one.end for one in months),
        "after_seq": Int8(after_seq),
        "through_seq": Int8(through_seq),
        "labels": [one.label for one in months],
        "starts": [one.start for one in months],
        "ends": [one.end for one in months],
        "kinds": list(COUNTED_KINDS),
    }
    return {label for (label,) in connection.execute(_SQL["late_months"], parameters, prepare=True)}


def late_pin(connection: Connection, scope: Scope, after_seq: int) -> AdjustmentPin:
    """What pins the month's entries after `after_seq`; there are some, and they are in the database."""
    whole = find_span(connection, scope)
    span = Span(scope, max(whole.first_seq, after_seq + 1), max(whole.bound_seq, after_seq + 1))
    ((entries, events, first, last),) = connection.execute(_SQL["late_arrival"], span.parameters()).fetchall()
    return AdjustmentPin(
        first_seq=whole.first_seq,
        billed_through_seq=after_seq,
        through_seq=scope.through_seq,
        entries=entries,
        events=events,
        first_arrived=format_instant(first),
        last_arrived=format_instant(last),
        entries_sha256=hash_entries(connection, span),
    )
