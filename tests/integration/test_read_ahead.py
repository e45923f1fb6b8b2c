"""Reading ahead gives every org once, in its order, and reads the entries of the time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from invoicing import event, record
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Unavailable
from tallystick.journal import read_ahead as module
from tallystick.journal.read_ahead import find_ranges, read_ahead, read_ranges

START = datetime(2026, 10, 1, tzinfo=UTC)
END = datetime(2026, 11, 1, tzinfo=UTC)
ORGS = ["org-c", "org-a", "nobody", "org-b"]


@pytest.fixture
def filled(runtime: Runtime) -> Runtime:
    """Before the month, in it, and long after it; one that came late; their rows mixed."""
    times = [START - timedelta(days=9), START - timedelta(hours=2), START, START + timedelta(days=20)]
    times += [END - timedelta(seconds=1), END + timedelta(days=9), START + timedelta(days=3)]
    for place, time in enumerate(times):
        record(runtime, [event(f"r{place}", org_id=org_id, time=time) for org_id in ("org-a", "org-b", "org-c")])
    return runtime


def test_every_org_is_given_once_in_its_order_whether_it_has_entries_or_not(
    filled: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = list(read_ahead(filled.database, ORGS, START, END))
    assert groups == [ORGS]
    monkeypatch.setattr(module, "GROUP_ORGS", 3)
    assert list(read_ahead(filled.database, ORGS, START, END)) == [ORGS[:3], ORGS[3:]]
    assert list(read_ahead(filled.database, [], START, END)) == []


def test_what_is_read_are_the_entries_of_the_time_and_of_a_day_around_it(filled: Runtime) -> None:
    ranges = find_ranges(filled.database, ORGS, START, END)
    assert [tuple(one) for one in ranges] == [("org-c", 2, 6), ("org-a", 2, 6), ("nobody", 1, 1), ("org-b", 2, 6)]
    assert read_ranges(filled.database, ranges) == 3 * 4
    assert read_ranges(filled.database, ranges[2:3]) == 0


def test_a_database_that_is_away_is_said_so(filled: Runtime) -> None:
    groups = read_ahead(filled.database, ORGS, START, END)
    filled.database.close()
    with pytest.raises(Unavailable):
        next(groups)
