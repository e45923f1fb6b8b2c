"""Rollups are what the entries come to, however they are brought up to date, and can be thrown away."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from invoicing import event, record
from journal_helpers import query
from rollup_tools import due, some, stored
from tallystick.app.rollup import rebuild, roll_up
from tallystick.app.runtime import Runtime


def test_what_is_added_up_bit_by_bit_is_what_the_entries_come_to(runtime: Runtime) -> None:
    for start in range(0, 120, 40):
        record(runtime, [*some(40, start=start), *some(7, start=start, org="acme")])
        rolled = roll_up(runtime)
        assert (rolled.entries, rolled.orgs, rolled.busy) == (47, 2, 0)
    assert stored(runtime) == due(runtime)
    assert roll_up(runtime).entries == 0


def test_days_that_are_thrown_away_are_made_again_to_the_same_rows(runtime: Runtime) -> None:
    record(runtime, some(90))
    roll_up(runtime)
    before = stored(runtime)
    with runtime.database.writer() as connection:
        connection.execute(
            "delete from rollup_requests; update rollup_meters set quantity = 0; delete from reopened_days"
        )
    rebuild(runtime)
    assert stored(runtime) == before


def test_without_its_cursor_everything_is_added_up_anew(runtime: Runtime) -> None:
    record(runtime, some(30))
    roll_up(runtime)
    before = stored(runtime)
    with runtime.database.writer() as connection:
        for table in ("rollup_requests", "rollup_meters", "rollup_operations", "reopened_days", "rollup_states"):
            connection.execute(f"delete from {table}".encode())
    roll_up(runtime)
    assert stored(runtime) == before


def test_a_day_takes_what_is_six_hours_late_and_is_reopened_by_what_comes_later(runtime: Runtime) -> None:
    day = datetime(2026, 10, 31, tzinfo=UTC)
    for name, hours in (("in-time", 12), ("late", 24 + 5), ("too-late", 24 + 6), ("later", 24 + 40)):
        at = replace(runtime, clock=partial(datetime.__add__, day, timedelta(hours=hours)))
        record(at, [event(name, time=day + timedelta(hours=3))])
    roll_up(runtime)
    assert query(runtime, "select sum(requests) from rollup_requests") == [(4,)]
    reopened = query(
        runtime, "select recorded_on::text, entries, first_seq, last_seq, requests from reopened_days order by 1"
    )
    assert reopened == [("2026-11-01", 1, 3, 3, 1), ("2026-11-02", 1, 4, 4, 1)]
