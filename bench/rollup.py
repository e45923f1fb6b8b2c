"""Adding up an hour of 1,000,000 events of 50 orgs, as the hourly run does it; then the same made again from nothing.

The baseline is the least that any adding up must do: sum each org's quantities by meter in one SQL statement, without
days, features, models, costs or anything that is kept.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import msgspec

from bench.report import Row
from bench.traffic import raw_events
from tallystick.app.rollup import rebuild, roll_up
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.usage.event import UsageEvent

EVENTS = int(os.environ.get("BENCH_ROLLUP_EVENTS", "1000000"))
WANTED_SECONDS = 10
_BATCH = 4000
_SUM = """
select org_id, meter, sum(quantity) from ledger_entries
cross join lateral unnest(meter_names, meter_quantities) as used (meter, quantity)
group by org_id, meter
"""


def run() -> list[Row]:
    """Seconds of the hourly run and of a rebuild, beside the bare sum."""
    with tempfile.TemporaryDirectory(prefix="tally-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with open_runtime(Settings(data_dir=folder / "data")) as runtime:
            _fill(runtime)
            bare = _bare_sum(runtime)
            start = time.perf_counter()
            done = roll_up(runtime)
            rolled = time.perf_counter() - start
            assert done.entries == EVENTS, done
            with runtime.database.operator() as connection:
                ((rows, requests),) = connection.execute(
                    "select count(*), sum(requests) from rollup_requests"
                ).fetchall()
            assert requests == EVENTS, requests
            start = time.perf_counter()
            rebuild(runtime)
            rebuilt = time.perf_counter() - start
    aim = WANTED_SECONDS * EVENTS / 1_000_000
    return [
        Row(
            f"a rollup of {EVENTS:,} events of 50 orgs, {rows:,} rows",
            f"{rolled:.1f} s",
            f"bare SQL sum by org and meter: {bare:.1f} s",
            f"{aim:g} s",
            rolled <= aim,
        ),
        Row("the same made again from nothing", f"{rebuilt:.1f} s", "", ""),
    ]


def _fill(runtime: Runtime) -> None:
    events = msgspec.convert(list(raw_events("rollup", EVENTS)), list[UsageEvent])
    for start in range(0, EVENTS, _BATCH):
        runtime.append(events[start : start + _BATCH])


def _bare_sum(runtime: Runtime) -> float:
    start = time.perf_counter()
    with runtime.database.operator() as connection:
        connection.execute(_SUM).fetchall()
    return time.perf_counter() - start
