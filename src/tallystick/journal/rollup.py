"""Adding up entries by org and day in the database, a number of orgs at a time.

No head is locked for it: in a snapshot in which an org's head stands at n, all its entries up to n are visible. Whoever
holds the org's row of `rollup_states` is the only one who adds to its days.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, LiteralString, NamedTuple

from psycopg import sql
from psycopg.rows import tuple_row

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.entry import Entry
from tallystick.rollup.fold import Fold

_SQL = load_queries("rollup")
TABLES: tuple[LiteralString, ...] = ("rollup_requests", "rollup_meters", "rollup_operations", "reopened_days")
"""The tables of sums."""

_KEYS: dict[str, LiteralString] = {"rollup_meters": "day, slice, meter", "reopened_days": "day, recorded_on"}

ALL_TIME = ("-infinity", "infinity")


class Behind(NamedTuple):
    """An org that has entries which are not added up: those after `rolled_through_seq`, up to `last_seq`."""

    org_id: str
    rolled_through_seq: int
    last_seq: int


class Task(NamedTuple):
    """Entries of an org to be added up: after_seq < seq <= through_seq; kept_seq is the first in the database."""

    org_id: str
    after_seq: int
    through_seq: int
    kept_seq: int


def orgs_behind(connection: Connection, *, org_id: str | None = None, limit: int) -> list[Behind]:
    """Orgs that are behind, or this one if it is, those that wait longest first."""
    return [Behind(*row) for row in connection.execute(_SQL["behind"], {"org": org_id, "limit": limit})]


def begin_rolling(connection: Connection) -> None:
    """Make the transaction one that adds entries up."""
    connection.execute(_SQL["settings"])


def claim_orgs(connection: Connection, orgs: Sequence[str], now: datetime, *, wait: bool = False) -> dict[str, int]:
    """Be the one who adds to these orgs' days: up to where each is added up, without those that somebody else is at.

    Args:
        now: the present instant, for orgs that have no row yet.
        wait: wait for whoever is at it; for one org.
    """
    connection.execute(_SQL["begin_states"], {"orgs": list(orgs), "now": now})
    claim = _SQL["claim_waiting" if wait else "claim"]
    return dict(connection.execute(claim, {"orgs": list(orgs)}).fetchall())


def read_heads(connection: Connection, orgs: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Of each org its last entry, and the first that is still in the database."""
    return {org: (last, kept) for org, last, kept in connection.execute(_SQL["heads"], {"orgs": list(orgs)})}


def add_entries(connection: Connection, tasks: Sequence[Task], since: Any, until: Any) -> None:
    """Add what the tasks' entries in the database come to, of those with time in [since, until)."""
    given = _given(tasks, since, until)
    connection.execute(_SQL["facts"], given)
    connection.execute(_SQL["operations"], given)


def orphaned_corrections(connection: Connection, tasks: Sequence[Task], since: Any, until: Any) -> list[Entry]:
    """Corrections of the tasks that `add_entries` leaves out: their request has left the database."""
    with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        return [Entry(*row) for row in cursor.execute(_SQL["orphans"], _given(tasks, since, until))]


def add_fold(connection: Connection, org_id: str, fold: Fold) -> None:
    """Add sums that were made elsewhere."""
    tables: tuple[tuple[str, Iterable[tuple[Any, ...]]], ...] = (
        ("add_requests", ((day, *place, *sums) for (day, place), sums in sorted(fold.requests.items()))),
        ("add_meters", ((day, *place, meter, *sums) for (day, place, meter), sums in sorted(fold.meters.items()))),
        ("add_operations", ((day, *place, *sums) for (day, place), sums in sorted(fold.operations.items()))),
        ("add_reopened", ((*days, *sums) for days, sums in sorted(fold.reopened.items()))),
    )
    for query, rows in tables:
        columns = list(zip(*rows, strict=True))
        if columns:
            given = {f"c{place}": list(values) for place, values in enumerate(columns)}
            connection.execute(_SQL[query], {"org": org_id, **given})


def clear_days(connection: Connection, org_id: str, first: date | None, last: date | None) -> None:
    """Forget the org's days from `first` to `last`, both included; None for from the beginning, and to the end."""
    connection.execute(_SQL["clear"], {"org": org_id, "first": first or "-infinity", "last": last or "infinity"})


def advance(connection: Connection, tasks: Sequence[Task], now: datetime) -> None:
    """Note that the tasks' orgs are added up as far as the tasks go."""
    given = {"orgs": [task.org_id for task in tasks], "through": [task.through_seq for task in tasks], "now": now}
    connection.execute(_SQL["advance"], given)


def rolled_orgs(connection: Connection, org_id: str | None) -> list[tuple[str, int]]:
    """Orgs whose entries are added up, all or this one, and how far."""
    return [(org, through) for org, through in connection.execute(_SQL["rolled_orgs"], {"org": org_id})]


def rows_without_state(connection: Connection, org_id: str | None) -> list[str]:
    """Orgs that have sums and no note of how far they go."""
    return [org for (org,) in connection.execute(_SQL["rows_without_state"], {"org": org_id})]


def make_own_table(connection: Connection, table: LiteralString) -> None:
    """A table of the session's own that stands in the place of one of `TABLES`, until the transaction ends."""
    name = sql.Identifier(table)
    text = sql.SQL("create temp table {} (like public.{} including indexes) on commit drop")
    connection.execute(text.format(name, name))


def differing_rows(connection: Connection, table: LiteralString, org_id: str) -> list[tuple[date, Any, Any]]:
    """Where the table and the session's own one differ in an org: the day, the kept row and the due one, as JSON."""
    template = sql.SQL(_SQL["differing"].decode())
    text = template.format(table=sql.Identifier(table), key=sql.SQL(_KEYS.get(table, "day, slice")))
    return [(day, kept, due) for day, kept, due in connection.execute(text, {"org": org_id})]


def _given(tasks: Sequence[Task], since: Any, until: Any) -> dict[str, Any]:
    orgs, after, through, kept = (list(column) for column in zip(*tasks, strict=True))
    return {"orgs": orgs, "after": after, "through": through, "kept": kept, "since": since, "until": until}
