"""Reading rollups: how far they are, and what they say."""

from __future__ import annotations

from datetime import date, datetime
from typing import NamedTuple

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("rollup_read")


class Backlog(NamedTuple):
    """What is not added up: entries, orgs, when the oldest of them was recorded; and when anything was added up."""

    entries: int
    orgs: int
    oldest_at: datetime | None
    rolled_at: datetime | None


def backlog(connection: Connection, org_id: str | None = None) -> Backlog:
    """What is not added up of all orgs, or of one."""
    ((entries, orgs, oldest_at, rolled_at),) = connection.execute(_SQL["backlog"], {"org": org_id}).fetchall()
    return Backlog(int(entries), orgs, oldest_at, rolled_at)


def missing_days(connection: Connection, over_before: datetime, limit: int) -> list[tuple[str, date]]:
    """UTC days that ended before that and of which an org has entries that are not added up, the oldest first."""
    found = connection.execute(_SQL["missing_days"], {"over_before": over_before, "limit": limit})
    return [(org_id, day) for org_id, day in found]


def rolled_entries(connection: Connection, org_id: str | None = None) -> int:
    """How many entries are added up, of all orgs or of one."""
    ((entries,),) = connection.execute(_SQL["rolled_entries"], {"org": org_id}).fetchall()
    return int(entries)
