"""Which entries belong to one org's period, and where in its sequence they lie.

There is no index by time: it would scatter every insert. Entries come roughly in the order of their time, and each
carries `time_max`, the latest time of its org so far, which never falls. So bisection over the primary key finds where
a period begins, and where the ledger was 6 hours past its end; what belongs to the period and came later than that is
in the small index of late entries. Together that is exact, in whatever order entries arrive.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from psycopg.types.numeric import Int8

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("period")


class Scope(NamedTuple):
    """Which entries: those of one org whose time is in [start, end) and whose sequence is at most `through_seq`."""

    org_id: str
    start: datetime
    end: datetime
    through_seq: int


class Span(NamedTuple):
    """Where a scope's entries lie.

    Attributes:
        scope: which entries.
        first_seq: the first entry at which the ledger had reached the period; all before it are older.
            `through_seq + 1` when there is none.
        bound_seq: the first at which the ledger was 6 hours past the period. Entries of the period from here on are
            in the index of late ones. `through_seq + 1` when there is none.
    """

    scope: Scope
    first_seq: int
    bound_seq: int

    def parameters(self) -> dict[str, Any]:
        """As the queries name them."""
        org_id, start, end, through_seq = self.scope
        seqs = {"first_seq": self.first_seq, "bound_seq": self.bound_seq, "through_seq": through_seq}
        bounds = {name: Int8(seq) for name, seq in seqs.items()}  # of one type, however small: prepared once
        return {"org": org_id, "start": start, "end": end, **bounds}


class Head(NamedTuple):
    """Where an org's sequence stands.

    Attributes:
        last_seq: the last number given; 0 when there is none.
        kept_from_seq: the first entry that is still in the database.
        forgotten_until: where earlier ones have left it for sealed blocks, all of those are older than this.
    """

    last_seq: int
    kept_from_seq: int
    forgotten_until: datetime

    def has_left(self, instant: datetime) -> bool:
        """Whether entries of that instant or later may have left the database."""
        return self.kept_from_seq > 1 and self.forgotten_until > instant


def begin_reading(connection: Connection) -> None:
    """Make the connection's transaction, which has not begun yet, one snapshot, fit for many entries."""
    connection.execute("set transaction isolation level repeatable read, read only")
    connection.execute(_SQL["settings"])


def read_head(connection: Connection, org_id: str) -> Head:
    """The org's head; all zeros when it has none.

    In one snapshot with what is read afterwards nothing at or below `last_seq` is missing, and nothing that arrives
    meanwhile is seen: numbers are given under the head's lock, which is held until the commit.
    """
    row = connection.execute(_SQL["head"], {"org": org_id}, prepare=True).fetchone()
    return Head(0, 1, datetime.min.replace(tzinfo=UTC)) if row is None else Head(*row)


def find_span(connection: Connection, scope: Scope) -> Span:
    """Where the scope's entries lie, by bisection."""
    parameters = scope._asdict() | {"org": scope.org_id, "through_seq": Int8(scope.through_seq)}
    ((first_seq, bound_seq),) = connection.execute(_SQL["span"], parameters, prepare=True).fetchall()
    return Span(scope, first_seq, bound_seq)
