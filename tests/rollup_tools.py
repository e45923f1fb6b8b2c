"""Rows of rollups as they are stored, and what the ledger's entries come to one by one, in the same shape."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from conftest import NOW
from invoicing import event
from tallystick.app.entries import stream_entries
from tallystick.app.rollup import all_orgs
from tallystick.app.runtime import Runtime
from tallystick.rollup.fold import Fold
from tallystick.usage.event import UsageEvent

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


def some(count: int, *, start: int = 0, org: str = "globex") -> list[UsageEvent]:
    """Events of all sorts: days, features, models (one without a price), outcomes, payers, and many meters."""
    many = {f"tokens_{kind}": 3 for kind in ("in", "out")} | {
        "cache_read_tokens": 5, "cache_write_tokens": 0, "reasoning_tokens": 7, "tool_calls": 1, "web_searches": 2,
        "images_generated": 1, "egress_bytes": 12, "audio_input_tokens": 4,
    }  # fmt: skip
    return [
        event(
            f"r{n}",
            org,
            time=NOW - timedelta(hours=5 * (n % 40)),
            feature=("assistant", "search")[n % 2],
            model=("gpt-4o-mini", "newest", "gpt-4o")[n % 3],
            environment="production" if n % 5 else "development",
            outcome=("success", "failure", "empty")[n % 7 % 3],
            usage_status=("final", "partial", "estimated")[n % 4 % 3],
            payer="customer" if n % 11 == 0 else "seller",
            action="review" if n % 6 == 0 else None,
            latency_ms=n if n % 2 else None,
            meters=many if n % 8 == 0 else {"tokens_in": n, "tokens_out": n % 3},
        )
        for n in range(start, start + count)
    ]
