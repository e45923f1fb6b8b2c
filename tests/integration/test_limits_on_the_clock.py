"""Limits begin anew at midnight on the org's own clocks: on any day, at month ends, and when clocks change."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tallystick.app.contracts import apply_contract
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.contract.decision import Decision
from tallystick.ledger.operations import Authorize, Denied, Held, Operation
from tallystick.usage.event import UsageEvent

CONTRACT = """
contract: clocks
version: "1"
effective_from: 2026-09-01T00:00:00Z
plans:
  day: {limits: [{meters: [tool_calls], max: 100, per: day, kind: hard}]}
  wide: {limits: [{meters: [tool_calls], max: 150, per: day, kind: hard}]}
  month: {limits: [{meters: [tool_calls], max: 100, per: month, kind: hard}]}
environments: {development: {charge: false}}
"""
MOMENT = timedelta(microseconds=1)
_numbers = itertools.count(1)


class MovingClock:
    """A clock that stands where the test puts it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 9, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def moving(database_url: str, tmp_path: Path, clock: MovingClock) -> Iterator[Runtime]:
    with open_runtime(Settings(database_url=database_url, data_dir=tmp_path), clock) as opened:
        apply_contract(opened, CONTRACT, "clocks.yaml")
        yield opened


def local(zone: str, text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def subscribe(runtime: Runtime, plan: str, zone: str, since: datetime) -> None:
    set_subscription(runtime, "acme", contract="clocks", plan=plan, time_zone=zone, effective_from=since)


def use(runtime: Runtime, count: int, time: datetime, environment: str = "production") -> None:
    usage = UsageEvent(
        org_id="acme",
        request_id=f"e{next(_numbers)}",
        time=time,
        user_id="u1",
        session_id="s1",
        feature="chat",
        environment=environment,
        model="tool",
        meters={"tool_calls": count},
    )
    assert [receipt.status for receipt in runtime.append([usage])] == ["accepted"]


def ask(runtime: Runtime, count: int = 1) -> Decision:
    """The decision on so many tool calls."""
    request = Authorize(feature="chat", environment="production", meters={"tool_calls": count})
    number = next(_numbers)
    operation = Operation(
        org_id="acme",
        kind="hold",
        request_id=f"a{number}",
        request=request,
        salt=number.to_bytes(16, "big"),
        user_id="u1",
        session_id="s1",
    )
    result = runtime.operations.submit(operation).result(20).result
    assert isinstance(result, Held | Denied)
    return result.decision


# The first instant of a window, and the first of the one after it.
DAYS = [
    ("Europe/Paris", "2026-10-14", "2026-10-15"),
    ("Europe/Paris", "2026-10-25", "2026-10-26"),  # 25 hours
    ("Europe/Paris", "2027-03-28", "2027-03-29"),  # 23 hours
    ("America/New_York", "2026-11-01", "2026-11-02"),
    ("America/New_York", "2027-03-14", "2027-03-15"),
    ("America/New_York", "2026-12-31", "2027-01-01"),
    ("Australia/Lord_Howe", "2026-10-04", "2026-10-05"),  # 23½ hours
    ("Australia/Lord_Howe", "2027-04-04", "2027-04-05"),  # 24½ hours
    ("Australia/Lord_Howe", "2026-11-30", "2026-12-01"),
]
MONTHS = [
    ("Europe/Paris", "2026-10-01", "2026-11-01"),  # 31 days and an hour
    ("America/New_York", "2027-03-01", "2027-04-01"),
    ("Australia/Lord_Howe", "2027-02-01", "2027-03-01"),
]


@pytest.mark.parametrize(
    ("plan", "zone", "first", "after"), [*(("day", *day) for day in DAYS), *(("month", *month) for month in MONTHS)]
)
def test_what_was_used_stands_until_the_last_moment_and_is_gone_at_midnight(
    moving: Runtime, clock: MovingClock, plan: str, zone: str, first: str, after: str
) -> None:
    start, end = local(zone, first), local(zone, after)
    clock.now = start
    subscribe(moving, plan, zone, start)
    use(moving, 99, start)
    use(moving, 1000, start - MOMENT)  # of the window before, and late
    use(moving, 1000, start, environment="development")  # metered, and not counted
    refused = ask(moving, 2)
    assert (refused.code, refused.limits[0].used) == ("hard_limit_reached", 99)
    assert refused.next_step.until == refused.limits[0].resets_at == end
    assert ask(moving, 1).allow

    clock.now = end - MOMENT
    use(moving, 1, end - MOMENT)
    assert ask(moving).code == "hard_limit_reached"

    clock.now = end
    use(moving, 1000, end - MOMENT)
    anew = ask(moving, 100)
    assert (anew.allow, anew.limits[0].used, anew.limits[0].requested) == (True, 0, 100)
    assert anew.limits[0].resets_at > end


def test_limits_follow_the_plan_of_the_moment_and_count_what_was_used_before(
    moving: Runtime, clock: MovingClock
) -> None:
    clock.now = datetime(2026, 10, 14, 12, tzinfo=UTC)
    subscribe(moving, "day", "UTC", clock.now)
    use(moving, 120, clock.now)
    assert ask(moving).code == "hard_limit_reached"
    clock.now += timedelta(minutes=1)
    subscribe(moving, "wide", "UTC", clock.now)
    assert ask(moving, 31).code == "hard_limit_reached"
    assert ask(moving, 30).allow
