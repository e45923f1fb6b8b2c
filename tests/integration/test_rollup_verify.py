"""`tally verify` names every row of a rollup that is not what the entries come to; runs that meet harm nothing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

import tallystick.app.rollup as rollup
from accounts import end, give, hold, open_shop
from conftest import NOW
from invoicing import record
from journal_helpers import query
from rollup_tools import due, some, stored
from tallystick.app.rollup import Rolled, rebuild, roll_up
from tallystick.app.rollup_verify import check_rollups
from tallystick.app.runtime import Runtime
from tallystick.app.verify_report import Findings
from tallystick.core.errors import NotFound


def found(runtime: Runtime, org_id: str | None = None) -> list[str]:
    findings = Findings()
    check_rollups(runtime, org_id, findings)
    return [f"{one.org_id} {one.detail}" for one in findings.kept]


def test_sound_days_are_found_sound_however_far_they_are_added_up(runtime: Runtime) -> None:
    assert found(runtime) == []
    record(runtime, [*some(60), *some(10, org="acme")])
    roll_up(runtime)
    record(runtime, some(10, start=60))
    assert found(runtime) == []


@pytest.mark.parametrize(
    "change",
    [
        "update rollup_requests set cost_pico = cost_pico + 1 where latency_requests > 0",
        "update rollup_requests set model = 'dearer' where slice = (select min(slice) from rollup_requests)",
        "delete from rollup_requests where slice = (select min(slice) from rollup_requests)",
        "update rollup_meters set quantity = quantity - 1 where meter = 'tokens_in'",
        "delete from rollup_meters where meter = 'tokens_out'",
        "insert into rollup_operations values ('globex', '2026-10-01', SLICE, 'grant', '', '', '', '', 1, 1)",
        "delete from reopened_days",
        "update reopened_days set last_seq = last_seq + 1",
        "update rollup_states set rolled_through_seq = rolled_through_seq - 1",
        "update rollup_states set rolled_through_seq = rolled_through_seq + 100",
        "delete from rollup_states",
    ],
)
def test_a_row_that_was_changed_is_named_and_made_again(runtime: Runtime, change: str) -> None:
    record(runtime, some(60))
    roll_up(runtime)
    before = stored(runtime)
    with runtime.database.writer() as connection:
        assert connection.execute(change.replace("SLICE", "substr(sha256('x'), 1, 16)").encode()).rowcount
    assert found(runtime)
    assert found(runtime, "globex")
    assert found(runtime, "acme") == []
    if "rollup_states" not in change:
        rebuild(runtime)
        assert found(runtime) == []
        assert stored(runtime) == before


def test_operations_of_accounts_are_added_up_by_day_and_reason(runtime: Runtime) -> None:
    open_shop(runtime, acme="wallet")
    give(runtime)
    end(runtime, hold(runtime)["hold"]["hold_id"])
    hold(runtime, "a2", action="no-such")
    roll_up(runtime)
    assert stored(runtime) == due(runtime)
    kinds = dict(query(runtime, "select kind, reason from rollup_operations"))
    assert {"grant", "hold", "settlement", "denial"} <= kinds.keys()
    assert found(runtime) == []


def test_runs_that_meet_add_each_entry_once(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "ENTRIES_AT_ONCE", 7)
    stop = threading.Event()

    def keep_on() -> int:
        done = 0
        while not stop.is_set():
            done += roll_up(runtime).entries
            stop.wait(0.02)  # the others need the writer's connections, too
        return done

    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(keep_on) for _ in range(2)]
        rebuilds = pool.submit(lambda: [rebuild(runtime) for _ in range(2)])
        try:
            for start in range(0, 100, 20):
                record(runtime, [*some(20, start=start), *some(5, start=start, org="acme")])
            rebuilds.result()
        finally:
            stop.set()
        for run in runs:
            run.result()
    roll_up(runtime)
    assert stored(runtime) == due(runtime)


def test_a_run_that_dies_before_its_commit_has_added_nothing(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    record(runtime, some(30))

    def die(step: str) -> None:
        raise KeyboardInterrupt(step)

    with monkeypatch.context() as patched:
        patched.setattr(rollup, "reached", die)
        with pytest.raises(KeyboardInterrupt):
            roll_up(runtime)
        with pytest.raises(KeyboardInterrupt):
            rebuild(runtime)
    assert query(runtime, "select count(*) from rollup_requests") == [(0,)]
    assert roll_up(runtime) == Rolled(30, 1, 0)
    assert stored(runtime) == due(runtime)


def test_only_the_days_that_are_asked_for_are_made_again(runtime: Runtime) -> None:
    record(runtime, some(80))
    roll_up(runtime)
    before = stored(runtime)
    with runtime.database.writer() as connection:
        connection.execute("update rollup_requests set requests = 77")
    day = NOW.date() - timedelta(days=2)
    rebuild(runtime, first=day, last=day)
    now = stored(runtime)["rollup_requests"]
    right = before["rollup_requests"]
    assert all((now[key] == right[key]) is (key[1] == day) for key in now if right[key][0] != 77)
    rebuild(runtime, first=day)
    rebuild(runtime, last=day)
    assert stored(runtime) == before


def test_an_org_that_is_not_there_cannot_be_made_again(runtime: Runtime) -> None:
    with pytest.raises(NotFound):
        rebuild(replace(runtime), org_id="nobody")
