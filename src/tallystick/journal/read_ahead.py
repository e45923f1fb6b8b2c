"""Bring what is read next into memory, in the order in which it lies on the disk.

Entries lie in the order in which they came: an org's each on a page of its own, beside those of other orgs. Whoever
reads one org after the other asks the disk for single pages; asked for many orgs at once, it reads long runs of them.
This changes how long the reading takes, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg import sql

from tallystick.journal.database import Database
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("read_ahead")

GROUP_ENTRIES = 100_000
"""How many entries are read ahead at a time: on as many pages of 8 kB at most, and on fewer in a busy time."""
GROUP_ORGS = 200
"""How many orgs at most: each is a condition of the query."""
_ZONES = timedelta(days=1)  # no clock is further from UTC

_RANGE = sql.SQL("(org_id = {} and seq >= {} and seq < {})")


class EntryRange(NamedTuple):
    """About where an org's entries of a time lie: those from `first_seq` up to but not including `until_seq`."""

    org_id: str
    first_seq: int
    until_seq: int


def read_ahead(database: Database, orgs: Sequence[str], start: datetime, end: datetime) -> Iterator[list[str]]:
    """The orgs in groups, in their order: each is given once most of its entries of [start, end) are in memory.

    While a group is worked on, the next may be asked for. An org with as many entries as a whole group is given by
    itself, and not read ahead.

    Args:
        database: the journal's.
        orgs: whose entries.
        start: the beginning of the time; a day around it is read, too, since months begin at other instants elsewhere.
        end: its end.

    Raises:
        Unavailable: as `Database.operator()`.
    """
    for at in range(0, len(orgs), GROUP_ORGS):
        for group in group_ranges(find_ranges(database, orgs[at : at + GROUP_ORGS], start, end)):
            if len(group) > 1:
                read_ranges(database, group)
            yield [one.org_id for one in group]


def group_ranges(ranges: Sequence[EntryRange], entries_max: int = GROUP_ENTRIES) -> Iterator[list[EntryRange]]:
    """The ranges in their order, as many together as have `entries_max` entries at most; at least one."""
    group: list[EntryRange] = []
    entries = 0
    for one in ranges:
        count = one.until_seq - one.first_seq
        if group and entries + count > entries_max:
            yield group
            group, entries = [], 0
        group.append(one)
        entries += count
    if group:
        yield group


def find_ranges(database: Database, orgs: Sequence[str], start: datetime, end: datetime) -> list[EntryRange]:
    """Where each org's entries of [start, end), and of a day around it, lie that came at most 6 hours late."""
    given = {"orgs": list(orgs), "start": start - _ZONES, "end": end + _ZONES}
    with database.operator() as connection:
        return [EntryRange(*row) for row in connection.execute(_SQL["ranges"], given)]


def read_ranges(database: Database, ranges: Sequence[EntryRange]) -> int:
    """Read these entries, in the order in which they lie; how many there are."""
    wanted = [_RANGE.format(*one) for one in ranges if one.first_seq < one.until_seq]
    if not wanted:
        return 0
    with database.operator() as connection:
        connection.execute(_SQL["settings"])
        query = connection.execute(sql.SQL(_SQL["read"].decode() + " ") + sql.SQL(" or ").join(wanted))
        ((count,),) = query.fetchall()
    return int(count)
