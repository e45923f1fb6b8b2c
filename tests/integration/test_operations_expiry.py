"""What ends or comes in by itself: holds, lots of credits, and the credits that plans include."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from account_operations import (
    account_of,
    authorize,
    do,
    event,
    grant,
    in_one_group,
    release,
    settle,
    subscribe,
    wrongs,
)
from conftest import NOW
from journal_helpers import query
from tallystick.app.account_loop import AccountLoop
from tallystick.app.hold_expiry import expire_due
from tallystick.app.included_credits import give_included
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Conflict
from tallystick.ledger.operations import CREDIT, Denied, Held

LIFE = timedelta(minutes=15)


def at(runtime: Runtime, now: datetime) -> None:
    runtime.clock = lambda: now


def kinds(runtime: Runtime, org: str = "acme") -> list[str]:
    rows = query(runtime, "select kind from ledger_entries where org_id = %s order by seq", org)
    return [kind for (kind,) in rows]


def test_a_hold_that_nobody_resolves_ends_before_the_next_decision_and_blocks_nobody(runtime: Runtime) -> None:
    subscribe(runtime, "acme", plan="discovery")
    for _ in range(60):
        do(runtime, authorize())
    assert isinstance(do(runtime, authorize()).result, Denied)
    at(runtime, NOW + LIFE)
    hold = do(runtime, authorize())
    assert isinstance(hold.result, Held)
    assert hold.result.before.available_pico == 300 * CREDIT
    assert kinds(runtime).count("expiry") == 60
    assert account_of(runtime)["open"] == [(hold.seq,)]
    assert wrongs(runtime) == []


def test_a_hold_that_has_ended_can_be_neither_settled_nor_released(runtime: Runtime) -> None:
    subscribe(runtime, "acme")
    hold = do(runtime, authorize())
    at(runtime, NOW + LIFE - timedelta(seconds=1))
    other = do(runtime, authorize())
    at(runtime, NOW + LIFE)
    for operation in (settle(hold, event()), release(hold), settle(hold, event())):
        with pytest.raises(Conflict) as refused:
            do(runtime, operation)
        assert refused.value.code == "hold_expired"
    assert do(runtime, settle(other, event())).kind == "settlement"
    assert query(runtime, "select refers_to_seq from ledger_entries where kind = 'expiry'") == [(hold.seq,)]
    assert wrongs(runtime) == []


def test_the_job_ends_what_is_over_once_whoever_does_it_and_however_often(runtime: Runtime) -> None:
    subscribe(runtime, *(f"org-{number}" for number in range(5)))
    for number in range(5):
        do(runtime, authorize(f"org-{number}"))
        do(runtime, grant(f"org-{number}", 7, expires_at=NOW + timedelta(minutes=5)))
    assert expire_due(runtime) == 0
    at(runtime, NOW + LIFE)
    assert expire_due(runtime) == 10
    assert expire_due(runtime) == 0
    assert query(runtime, "select count(*) from open_holds") == [(0,)]
    assert account_of(runtime, "org-3")["balances"]["wallet_available"] == 2500 * CREDIT
    assert account_of(runtime, "org-3")["balances"]["expired"] == 7 * CREDIT
    assert wrongs(runtime) == []


def test_however_many_holds_are_over_none_of_them_denies_anybody(runtime: Runtime) -> None:
    subscribe(runtime, "acme")
    futures = [runtime.operations.submit(authorize()) for _ in range(500)]
    assert all(isinstance(future.result(30).result, Held) for future in futures)
    assert isinstance(do(runtime, authorize()).result, Denied)
    at(runtime, NOW + LIFE)
    hold = do(runtime, authorize())
    assert isinstance(hold.result, Held)
    assert hold.result.before.held_pico == 0
    assert kinds(runtime).count("expiry") == 500
    assert wrongs(runtime) == []


def test_what_a_hold_gives_back_to_a_lot_that_has_ended_can_be_used_for_the_grace(runtime: Runtime) -> None:
    subscribe(runtime, "acme", plan="discovery")
    do(runtime, grant(credits=5, source="goodwill", expires_at=NOW + timedelta(minutes=1)))
    hold = do(runtime, authorize())
    at(runtime, NOW + timedelta(minutes=2))
    do(runtime, release(hold))
    assert kinds(runtime)[-2:] == ["release", "grant"]
    grants = query(runtime, "select source, expires_at from grants where org_id = 'acme' and available_pico > 0")
    assert ("refund", NOW + timedelta(days=7, minutes=2)) in grants
    assert wrongs(runtime) == []


def test_included_credits_come_in_once_a_month_and_are_gone_at_its_end_in_the_orgs_zone(runtime: Runtime) -> None:
    subscribe(runtime, "acme", zone="America/New_York")
    in_one_group(runtime, authorize(), authorize())
    do(runtime, authorize())
    at(runtime, datetime(2026, 12, 1, 4, 59, tzinfo=UTC))
    before = do(runtime, authorize())
    assert isinstance(before.result, Held)
    at(runtime, datetime(2026, 12, 1, 5, 0, tzinfo=UTC))
    after = do(runtime, authorize())
    assert isinstance(after.result, Held)
    assert after.result.before.available_pico == 2500 * CREDIT
    given = query(
        runtime, "select request_id from ledger_entries where kind = 'grant' and org_id = 'acme' order by seq"
    )
    assert given == [("included:2026-11",), ("included:2026-12",)]
    ended = query(runtime, "select expires_at from grants order by seq")
    assert ended == [(datetime(2026, 12, 1, 5, tzinfo=UTC),), (datetime(2027, 1, 1, 5, tzinfo=UTC),)]
    assert wrongs(runtime) == []


def test_included_credits_are_found_again_when_nothing_but_the_ledger_remembers_them(
    runtime: Runtime, database_url: str
) -> None:
    subscribe(runtime, "acme")
    do(runtime, authorize())
    with psycopg.connect(database_url) as connection:
        connection.execute("update org_states set progress = '{}'")
    do(runtime, authorize())
    assert kinds(runtime).count("grant") == 1


def test_the_loop_gives_included_credits_to_orgs_that_nobody_asks_for(runtime: Runtime) -> None:
    subscribe(runtime, "a", "b", plan="credits")
    subscribe(runtime, "c", plan="pro")
    assert give_included(runtime) == 2
    assert give_included(runtime) == 0
    assert account_of(runtime, "b")["balances"]["wallet_available"] == 2500 * CREDIT
    assert "c" not in [org for (org,) in query(runtime, "select org_id from grants")]


def test_an_org_that_changes_its_plan_within_a_month_keeps_what_it_was_given(runtime: Runtime) -> None:
    subscribe(runtime, "acme", plan="discovery")
    do(runtime, authorize())
    set_subscription(runtime, "acme", contract="reference", plan="credits", time_zone="UTC", effective_from=NOW)
    at(runtime, NOW + timedelta(seconds=1))
    held = do(runtime, authorize())
    assert isinstance(held.result, Held)
    assert held.result.before.available_pico == 295 * CREDIT


def test_the_loop_beside_a_server_ends_what_is_over(runtime: Runtime) -> None:
    subscribe(runtime, "acme")
    do(runtime, authorize())
    at(runtime, NOW + LIFE)
    runtime.settings = runtime.settings.model_copy(update={"account_seconds": 1})
    with AccountLoop(runtime):
        deadline = time.monotonic() + 20
        while query(runtime, "select count(*) from open_holds") != [(0,)]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert wrongs(runtime) == []
