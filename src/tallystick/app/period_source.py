"""The entries of a closed invoice, wherever they are: in the database, or in part in sealed blocks by now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from tallystick.app.entries import stream_entries
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Conflict
from tallystick.invoice.adjusted import adjusted_fact
from tallystick.invoice.facts import Corrections, StoredFact
from tallystick.journal.database import Connection
from tallystick.journal.period_entries import (
    period_meters,
    sequence_gaps,
    stream_corrections,
    stream_facts,
    stream_span,
)
from tallystick.journal.period_pin import sealed_tree, tree_at
from tallystick.journal.period_scope import Scope, find_span, read_head
from tallystick.ledger.adjustment import ADJUSTMENT
from tallystick.ledger.entry import Entry
from tallystick.ledger.merkle import Frontier
from tallystick.usage.meters import meter_order

Gap = tuple[int, int]


class PeriodInDatabase:
    """All of the period's entries are in the database."""

    def __init__(self, connection: Connection, scope: Scope) -> None:
        self._connection, self._scope = connection, scope
        self._span = find_span(connection, scope)

    def entries(self) -> Iterator[Entry]:
        """Every entry of the period, and others that lie between them, in ascending sequence."""
        return stream_span(self._connection, self._span)

    def corrections(self) -> Iterator[Entry]:
        """The period's corrections, in the order of the entries that they refer to."""
        return stream_corrections(self._connection, self._span)

    def facts(
        self, meters: Sequence[str] | None, uncharged: Sequence[str], limit: int | None, after_seq: int = 0
    ) -> Iterator[StoredFact]:
        """See `journal.period_entries.stream_facts`."""
        return stream_facts(
            self._connection, self._scope, meters=meters, uncharged=uncharged, limit=limit, after_seq=after_seq
        )

    def meters(self) -> list[str]:
        """See `journal.period_entries.period_meters`."""
        return period_meters(self._connection, self._scope)

    def place(self) -> tuple[int, Frontier]:
        """The first entry at which the ledger had reached the period, and the org's tree; once entries were read."""
        org_id, _, _, through_seq = self._scope
        sealed_until = self._span.first_seq - 1
        return self._span.first_seq, tree_at(self._connection, org_id, through_seq, sealed_until=sealed_until)

    def gaps(self) -> list[Gap]:
        """Holes in the org's sequence, as (first, last); once entries were read."""
        org_id, _, _, through_seq = self._scope
        sealed = sealed_tree(self._connection, org_id, self._span.first_seq - 1)
        return sequence_gaps(self._connection, org_id, sealed.size + 1, through_seq)


class PeriodInBlocks:
    """Entries of the period may have left the database: everything is read from blocks and what is left of it.

    The database can no longer be asked where the period begins. The reading starts before the first entry that the
    invoice names, where the org's tree was sealed, and finds out.
    """

    def __init__(self, runtime: Runtime, connection: Connection, scope: Scope, first_seq: int) -> None:
        self._runtime, self._scope = runtime, scope
        before = (first_seq or scope.through_seq) - 2
        self._sealed = sealed_tree(connection, scope.org_id, max(before, 0))
        self._tree = self._sealed.copy()
        self._first_seq = scope.through_seq + 1
        self._gaps: list[Gap] = []

    def entries(self) -> Iterator[Entry]:
        """As that of `PeriodInDatabase`."""
        self._tree, self._first_seq = self._sealed.copy(), self._scope.through_seq + 1
        leaves: list[bytes] = []
        for entry in self._read():
            leaves.append(entry.leaf)
            if len(leaves) == _LEAVES_AT_ONCE:
                self._tree.extend(leaves)
                leaves.clear()
            if entry.time_max >= self._scope.start:
                self._first_seq = min(self._first_seq, entry.seq)
                yield entry
        self._tree.extend(leaves)

    def corrections(self) -> Iterator[Entry]:
        """As that of `PeriodInDatabase`."""
        found = (entry for entry in self._read() if entry.kind == "correction" and self._is_inside(entry))
        return iter(sorted(found, key=lambda entry: entry.refers_to_seq or 0))

    def facts(
        self, meters: Sequence[str] | None, uncharged: Sequence[str], limit: int | None, after_seq: int = 0
    ) -> Iterator[StoredFact]:
        """As that of `PeriodInDatabase`."""
        corrections = Corrections(self.corrections())
        inside = (entry for entry in self._read() if self._is_inside(entry))
        adjusted: list[StoredFact] = []
        given = 0
        for entry in inside:
            if given == limit:
                return
            if entry.kind == ADJUSTMENT and entry.seq > after_seq:
                adjusted.append(adjusted_fact(entry))
            elif entry.kind == "usage":
                fact = StoredFact(entry, corrections.of(entry.seq))
                if fact.priced.seq > after_seq and (meters is None or fact.uses(meters, uncharged)):
                    yield fact
                    given += 1
        shown = (fact for fact in adjusted if meters is None or fact.uses(meters, uncharged))
        yield from islice(shown, None if limit is None else limit - given)

    def meters(self) -> list[str]:
        """As that of `PeriodInDatabase`."""
        found: set[str] = set()
        for entry in self._read():
            if self._is_inside(entry):
                shown = adjusted_fact(entry).entry if entry.kind == ADJUSTMENT else entry
                found.update(shown.meter_names or (), shown.line_meters)
        return sorted(found, key=meter_order)

    def place(self) -> tuple[int, Frontier]:
        """As that of `PeriodInDatabase`."""
        return self._first_seq, self._tree

    def gaps(self) -> list[Gap]:
        """As that of `PeriodInDatabase`; nothing is read past the first one."""
        return self._gaps

    def _read(self) -> Iterator[Entry]:
        org_id, _, _, through_seq = self._scope
        next_seq = self._sealed.size + 1
        self._gaps = []
        try:
            for entry in stream_entries(self._runtime, org_id, next_seq, through_seq):
                yield entry
                next_seq = entry.seq + 1
        except Conflict as error:
            if error.code != "entries_missing":
                raise
            self._gaps.append((next_seq, next_seq))

    def _is_inside(self, entry: Entry) -> bool:
        return self._scope.start <= entry.time < self._scope.end


_LEAVES_AT_ONCE = 8192

PeriodSource = PeriodInDatabase | PeriodInBlocks


def open_period(runtime: Runtime, connection: Connection, scope: Scope, first_seq: int) -> PeriodSource:
    """The entries of a closed invoice.

    Args:
        runtime: the running system.
        connection: the org's, in one snapshot (`begin_reading`), open for as long as entries are read.
        scope: which entries.
        first_seq: where they begin, as the invoice says; 0 when it names none.
    """
    if read_head(connection, scope.org_id).has_left(scope.start):
        return PeriodInBlocks(runtime, connection, scope, first_seq)
    return PeriodInDatabase(connection, scope)
