"""What limits and budgets are compared with is what the ledger holds: exactly, whichever way it came in."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from account_operations import authorize, budget, do, event, in_one_group, looked, release, settle, subscribe
from conftest import NOW
from journal_helpers import query
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime
from tallystick.contract.decision import LimitLooked
from tallystick.contract.windows import window_at
from tallystick.journal import operations_count, operations_counted, steps
from tallystick.ledger.operations import CREDIT, Denied, Held, Operation, Recorded
from tallystick.usage.event import UsageEvent

LIMITED = """
contract: limited
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  write: {title: Write, price: {credits: 5}}
plans:
  metered:
    title: Metered
    base: "0"
    prices: {tokens_in: {unit: "2", per: 1_000_000}, tokens_out: {cost_plus: "0.30"}}
    limits:
      - {meters: [tokens_in, tokens_out], max: 10_000, per: day, kind: hard}
      - {meters: [tool_calls], max: 10, per: minute, kind: hard}
      - {meters: [tokens_in], max: 1_000_000, per: month, kind: soft}
  other:
    title: Other
    base: "0"
    limits:
      - {meters: [tokens_in], max: 900, per: hour, kind: hard}
  wallet:
    title: Wallet
    kind: credits
    base: "0"
    included_credits: 1000
environments:
  development: {charge: false}
"""
ZONE = "America/New_York"


def ask(org: str = "acme", user: str = "u1", **more: Any) -> Operation:
    """A request without an action."""
    return authorize(org, user=user, action=None, **{"meters": {"tokens_in": 1}, **more})


def use(tokens_in: int = 0, *, at: datetime = NOW, org: str = "acme", **more: Any) -> UsageEvent:
    meters = {"tokens_in": tokens_in} if tokens_in else {}
    return event(org, time=at, **{"meters": meters, **more})


@pytest.fixture
def metered(runtime: Runtime) -> Runtime:
    subscribe(runtime, "acme", plan="metered", contract=LIMITED, zone=ZONE)
    return runtime


def test_plain_events_count_at_the_next_decision(metered: Runtime) -> None:
    assert looked(do(metered, ask()))["tokens_in+tokens_out per day"].used == 0
    metered.append([use(4000), use(3000)])
    seen = looked(do(metered, ask(meters={"tokens_in": 10})))
    assert seen["tokens_in+tokens_out per day"].used == 7000
    assert seen["tokens_in per month"].used == 7000
    metered.append([use(2990)])
    denied = do(metered, ask(meters={"tokens_in": 100}))
    assert isinstance(denied.result, Denied)
    assert denied.result.decision.code == "hard_limit_reached"


def test_events_count_in_the_window_that_they_belong_to_on_the_orgs_clocks(metered: Runtime) -> None:
    midnight = datetime(2026, 11, 2, 5, 0, tzinfo=UTC)  # in New York
    metered.append([use(100, at=midnight - timedelta(seconds=1)), use(20, at=midnight)])
    seen = looked(do(metered, ask()))
    assert seen["tokens_in+tokens_out per day"].used == 20
    assert seen["tokens_in per month"].used == 120
    metered.append([use(3, at=midnight - timedelta(hours=1)), use(4, at=midnight + timedelta(hours=1))])  # late ones
    seen = looked(do(metered, ask()))
    assert seen["tokens_in+tokens_out per day"].used == 24
    assert seen["tokens_in per month"].used == 127
    metered.append([use(5, at=datetime(2026, 11, 1, 3, 59, tzinfo=UTC))])  # October, there
    assert looked(do(metered, ask()))["tokens_in per month"].used == 127


def test_a_new_window_begins_with_what_is_recorded_for_it_already(metered: Runtime) -> None:
    do(metered, ask())
    tomorrow = datetime(2026, 11, 3, 5, 0, tzinfo=UTC)
    metered.append([use(9, at=NOW), use(77, at=tomorrow + timedelta(minutes=1))])
    assert looked(do(metered, ask()))["tokens_in+tokens_out per day"].used == 9
    metered.clock = lambda: tomorrow
    assert looked(do(metered, ask()))["tokens_in+tokens_out per day"].used == 77
    assert looked(do(metered, ask()))["tokens_in per month"].used == 86
    metered.clock = lambda: NOW  # another process's clock is behind
    assert looked(do(metered, ask()))["tokens_in+tokens_out per day"].used == 9


def test_what_is_not_charged_is_not_counted_towards_limits(metered: Runtime) -> None:
    metered.append([use(50, environment="development"), use(6)])
    assert looked(do(metered, ask()))["tokens_in+tokens_out per day"].used == 6
    hold = do(metered, ask(environment="development", meters={"tokens_in": 5000}))
    assert isinstance(hold.result, Held)
    assert looked(do(metered, ask()))["tokens_in+tokens_out per day"].held == 1


def test_open_holds_reserve_what_they_may_take_so_that_many_at_once_cannot_overshoot(metered: Runtime) -> None:
    answers = in_one_group(metered, *[ask(meters={"tokens_in": 3000}) for _ in range(5)])
    assert [type(answer.result) for answer in answers] == [Held, Held, Held, Denied, Denied]
    more = [do(metered, ask(meters={"tokens_in": 3000})) for _ in range(2)]
    assert [type(answer.result) for answer in more] == [Denied, Denied]
    do(metered, settle(answers[0], use(2500)))
    do(metered, release(answers[1]))
    seen = looked(do(metered, ask(meters={"tokens_in": 4500})))["tokens_in+tokens_out per day"]
    assert (seen.used, seen.held, seen.exceeded) == (2500, 3000, False)


def test_a_settlement_counts_at_once_also_within_its_group(metered: Runtime) -> None:
    holds = in_one_group(metered, ask(meters={"tokens_in": 6000}), ask(meters={"tokens_in": 4000}))
    *_, last = in_one_group(
        metered, settle(holds[0], use(5000)), settle(holds[1], use(4000)), ask(meters={"tokens_in": 1001})
    )
    assert looked(last)["tokens_in+tokens_out per day"].used == 9000
    assert isinstance(last.result, Denied)


def test_settlements_between_decisions_are_not_lost_where_plain_events_came_before_them(metered: Runtime) -> None:
    hold = do(metered, ask())
    metered.append([use(10)])
    do(metered, settle(hold, use(200)))
    metered.append([use(3000)])
    assert looked(do(metered, ask()))["tokens_in+tokens_out per day"].used == 3210


def test_limits_follow_the_plan_of_the_moment(metered: Runtime) -> None:
    do(metered, ask())
    metered.append([use(800, at=NOW - timedelta(minutes=30)), use(90, at=NOW)])
    assert looked(do(metered, ask()))["tokens_in+tokens_out per day"].used == 890
    subscribe_now(metered, "other")
    denied = do(metered, ask(meters={"tokens_in": 1000}))
    assert isinstance(denied.result, Denied)
    assert looked(denied)["tokens_in per hour"].used == 90
    metered.append([use(5)])
    subscribe_now(metered, "metered")
    assert looked(do(metered, ask()))["tokens_in+tokens_out per day"].used == 895


def subscribe_now(runtime: Runtime, plan: str) -> None:
    now = runtime.clock() + timedelta(seconds=1)
    runtime.clock = lambda: now
    set_subscription(runtime, "acme", contract="limited", plan=plan, time_zone=ZONE, effective_from=now)


def test_a_long_backlog_is_added_up_by_the_database(metered: Runtime) -> None:
    do(metered, ask())
    draw = random.Random(7)
    for _ in range(5):
        metered.append(
            [use(draw.randrange(1, 5), at=NOW - timedelta(minutes=draw.randrange(600))) for _ in range(2000)]
        )
    (expected,) = query(
        metered,
        "select sum(meter_quantities[1]) from ledger_entries where kind = 'usage' and time >= '2026-11-02T05:00:00Z'",
    )
    seen = looked(do(metered, ask()))["tokens_in+tokens_out per day"]
    assert seen.used == expected[0]


def test_what_is_far_behind_is_counted_in_steps_between_which_others_write(
    metered: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations_counted, "COUNTED_AT_ONCE", 200)
    monkeypatch.setattr(operations_count, "COUNTED_AT_ONCE", 200)
    metered.append([use(1, at=NOW - timedelta(hours=number % 30)) for number in range(900)])
    passed: list[str] = []

    def hook(step: str) -> None:
        if step == "count.committed" and len(passed) < 3:
            passed.append(step)
            metered.append([use(1000)])

    steps.install(hook)
    try:
        seen = looked(do(metered, ask()))
    finally:
        steps.install(None)
    assert len(passed) == 3
    for name in ("tokens_in per month", "tokens_in+tokens_out per day"):
        window = window_at(name.split()[-1], ZONE, NOW)  # type: ignore[arg-type]
        (expected,) = query(
            metered,
            "select sum(meter_quantities[1]) from ledger_entries where kind = 'usage' and time >= %s",
            window.starts_at,
        )
        assert seen[name].used == expected[0]
    metered.append([use(1) for _ in range(500)])
    assert looked(do(metered, ask()))["tokens_in per month"].used == seen["tokens_in per month"].used + 500


def test_a_budget_of_our_cost_counts_every_environment_and_who_spends(metered: Runtime) -> None:
    cost: dict[str, Any] = {"meters": {"tokens_in": 1_000_000}, "environment": "development"}
    metered.append([event(time=NOW, user_id="u1", **cost)])
    (one,) = query(metered, "select cost_pico from ledger_entries where kind = 'usage'")
    do(metered, budget("each", scope="user", max_pico=3 * one[0]))
    do(metered, budget("all", max_pico=100 * one[0]))
    metered.append([event(time=NOW, user_id="u2", **cost), event(time=NOW, user_id="u1", payer="customer", **cost)])
    mine, yours = looked(do(metered, ask(user="u1"))), looked(do(metered, ask(user="u2")))
    assert [mine["each"].used, yours["each"].used] == [one[0], one[0]]
    assert [mine["all"].used, yours["all"].used] == [2 * one[0], 2 * one[0]]
    denied = do(metered, ask(user="u1", worst_cost_pico=2 * one[0] + 1))
    assert isinstance(denied.result, Denied)
    assert denied.result.decision.code == "budget_exceeded"
    held = do(metered, ask(user="u1", worst_cost_pico=2 * one[0]))
    assert isinstance(held.result, Held)
    assert looked(do(metered, ask(user="u1")))["each"].held == 2 * one[0]
    assert looked(do(metered, ask(user="u2")))["each"].held == 0
    do(metered, settle(held, event(time=NOW, user_id="u1", **cost)))
    seen = looked(do(metered, ask(user="u1")))["each"]
    assert (seen.used, seen.held) == (2 * one[0], 0)


def test_a_budget_that_is_set_counts_what_open_holds_have_reserved_before(metered: Runtime) -> None:
    held = do(metered, ask(user="u1", worst_cost_pico=400))
    first, second = in_one_group(metered, budget("each", scope="user"), ask(user="u1"))
    assert isinstance(first, Recorded)
    assert looked(second)["each"].held == 400
    do(metered, release(held))
    assert looked(do(metered, ask(user="u1")))["each"].held == 0


def test_a_budget_of_charges_counts_credits_and_priced_usage(runtime: Runtime) -> None:
    subscribe(runtime, "acme", plan="wallet", contract=LIMITED, zone=ZONE)
    do(runtime, budget("spend", of="charge", scope="feature", per="month"))
    hold = do(runtime, authorize(action="write"))
    assert looked(hold)["spend"].used == 0
    do(runtime, settle(hold, use(1)))
    assert looked(do(runtime, authorize(action="write")))["spend"].used == 5 * 10**10
    subscribe(runtime, "acme", plan="metered", contract=LIMITED, zone=ZONE)
    metered = do(runtime, ask(feature="documents"))
    assert looked(metered)["spend"].used == 5 * 10**10 + 2 * 10**6
    metered_use = event(time=NOW, meters={"tokens_in": 10, "tokens_out": 7})
    runtime.append([metered_use])
    (cost,) = query(runtime, "select cost_pico from ledger_entries where request_id = %s", metered_use.request_id)
    share = -(-cost[0] * 13 // 10)
    assert looked(do(runtime, ask(feature="documents")))["spend"].used == 5 * 10**10 + 2 * 10**6 * 11 + share


def test_in_any_order_of_events_decisions_settlements_and_times_counters_are_what_the_ledger_holds(
    metered: Runtime,
) -> None:
    draw = random.Random(11)
    do(metered, budget("mine", scope="user", of="cost", per="month"))
    open_holds: list[Recorded] = []
    now = NOW
    for _ in range(120):
        what = draw.random()
        when = now - timedelta(minutes=draw.randrange(0, 3000))
        user = draw.choice(("u1", "u2"))
        used = use(draw.randrange(1, 9), at=when, user_id=user, environment=draw.choice(("production", "development")))
        if what < 0.4:
            metered.append([used])
        elif what < 0.6 and open_holds:
            do(metered, settle(open_holds.pop(), used))
        elif what < 0.65 and open_holds:
            do(metered, release(open_holds.pop()))
        elif what < 0.7:
            now += timedelta(minutes=draw.choice((1, 5, 700)))
            metered.clock = lambda now=now: now  # type: ignore[misc]
            open_holds.clear()
        else:
            answer = do(metered, ask(user=user, meters={"tool_calls": 1, "tokens_in": 1}))
            if isinstance(answer.result, Held):
                open_holds.append(answer)
            for one in looked(answer).values():
                assert one.used == _counted(metered, one, answer, now, user), (one, now)


def _counted(runtime: Runtime, one: LimitLooked, answer: Recorded, now: datetime, user: str) -> int:
    """What the ledger held of it before that answer, counted event by event."""
    window = window_at(one.per, ZONE, now)  # type: ignore[arg-type]
    rows = query(
        runtime,
        "select meter_names, meter_quantities, environment, user_id, cost_pico from ledger_entries"
        " where kind = 'usage' and seq < %s and time >= %s and time < %s",
        answer.seq,
        window.starts_at,
        window.ends_at,
    )
    if one.what == "budget":
        return sum(cost or 0 for *_, spender, cost in rows if spender == user)
    meters = one.name.split(" per ")[0].split("+")
    return sum(
        quantity
        for names, quantities, environment, *_ in rows
        if environment != "development"
        for name, quantity in zip(names, quantities, strict=True)
        if name in meters
    )


def test_counters_survive_the_loss_of_their_table(metered: Runtime, database_url: str) -> None:
    metered.append([use(123)])
    before = looked(do(metered, ask()))["tokens_in+tokens_out per day"]
    with psycopg.connect(database_url) as connection:
        connection.execute("delete from counters where window_start > '-infinity'")
        connection.execute("update org_states set progress = '{}', counted_through_seq = 0")
    after = looked(do(metered, ask()))["tokens_in+tokens_out per day"]
    assert after.used == before.used == 123
    assert msgspec.structs.replace(after, held=0) == msgspec.structs.replace(before, held=0)


def test_credits_are_what_the_wallet_says_whatever_limits_say(runtime: Runtime) -> None:
    subscribe(runtime, "acme", plan="wallet", contract=LIMITED)
    hold = do(runtime, authorize(action="write"))
    assert isinstance(hold.result, Held)
    assert hold.result.after.available_pico == 995 * CREDIT
