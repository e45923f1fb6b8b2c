"""Rows of rollups as they are stored, and what the ledger's entries come to one by one, in the same shape."""

from __future__ import annotations

from typing import Any

from tallystick.app.entries import stream_entries
from tallystick.app.rollup import all_orgs
from tallystick.app.runtime import Runtime
from tallystick.rollup.fold import Fold

TABLES = ("rollup_requests", "rollup_meters", "rollup_operations", "reopened_days")
Rows = dict[str, dict[tuple[Any, ...], tuple[int, ...]]]
_SUMS = {"rollup_requests": 8, "rollup_meters": 3, "rollup_operations": 2, "reopened_days": 6}


def stored(runtime: Runtime) -> Rows:
    """Every row, by table: the names that it is of, and its sums."""
    found: Rows = {}
    with runtime.database.operator() as connection:
        for table in TABLES:
            cursor = connection.execute(f"select * from {table}".encode())
            names = [column.name for column in cursor.description or ()]
            keep = [place for place, name in enumerate(names) if name != "slice"]
            rows = [tuple(row[place] for place in keep) for row in cursor]
            count = _SUMS[table]
            found[table] = {row[:-count]: tuple(map(int, row[-count:])) for row in rows}
            assert len(found[table]) == len(rows)
    return found


def due(runtime: Runtime) -> Rows:
    """What every entry of every org comes to, added up one by one."""
    found: Rows = {table: {} for table in TABLES}
    for org in all_orgs(runtime):
        with runtime.database.operator() as connection:
            ((last,),) = connection.execute("select last_seq from org_heads where org_id = %s", [org]).fetchall()
        fold = Fold()
        for entry in stream_entries(runtime, org, 1, last):
            fold.add(entry)
        found["rollup_requests"] |= {(org, day, *place): tuple(s) for (day, place), s in fold.requests.items()}
        # A meter is told after the day, before the names of its slice.
        found["rollup_meters"] |= {(org, day, m, *place): tuple(s) for (day, place, m), s in fold.meters.items()}
        found["rollup_operations"] |= {(org, day, *place): tuple(s) for (day, place), s in fold.operations.items()}
        found["reopened_days"] |= {(org, *days): tuple(s) for days, s in fold.reopened.items()}
    return found
