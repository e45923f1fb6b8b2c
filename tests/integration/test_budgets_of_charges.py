"""Budgets of charges follow our cost where prices do: what corrections change counts, and counted anew the same."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil
from typing import Any

import pytest

from account_operations import authorize, budget, do, event, in_one_group, looked, settle, subscribe
from conftest import NOW
from journal_helpers import publish_price, query, tamper
from tallystick.app.reprice import reprice
from tallystick.app.runtime import Runtime
from tallystick.contract.windows import window_at
from tallystick.journal.recount import recount
from tallystick.ledger.operations import Held, Recorded

ZONE = "America/New_York"
SHARED = """
contract: shared
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
plans:
  metered:
    title: Metered
    base: "0"
    prices:
      tokens_in: {cost_plus: "0.30"}
      tokens_out: {cost_plus: "0.45"}
      tool_calls: {unit: "0.000000000002", per: 1}
environments:
  development: {charge: false}
"""
SHARES = {"tokens_in": Fraction(13, 10), "tokens_out": Fraction(29, 20)}


def ask(user: str = "u1") -> Any:
    return authorize(user=user, action=None, meters={"tokens_in": 1})


@pytest.fixture
def shared(runtime: Runtime) -> Runtime:
    subscribe(runtime, "acme", plan="metered", contract=SHARED, zone=ZONE)
    return runtime


def test_a_price_that_becomes_known_counts_with_its_share(shared: Runtime) -> None:
    do(shared, budget("spend", of="charge", scope="user", per="month", max_pico=100))
    shared.append([event(time=NOW, model="newest", meters={"tokens_in": 10}, user_id="u1")])
    assert looked(do(shared, ask()))["spend"].used == 0
    publish_price(shared)
    reprice(shared)
    assert looked(do(shared, ask()))["spend"].used == 91  # 10 tokens at 7, and 30 %
    assert looked(do(shared, ask("u2")))["spend"].used == 0
    denied = do(shared, authorize(action=None, meters={"tokens_in": 2}, worst_cost_pico=14))
    assert denied.result.decision.code == "budget_exceeded"  # type: ignore[union-attr]
    assert list(recount(shared.database, None)) == []


def test_what_is_not_charged_is_not_by_a_correction_either(shared: Runtime) -> None:
    do(shared, budget("spend", of="charge", scope="org", per="day"))
    free: list[dict[str, Any]] = [{"environment": "development"}, {"payer": "customer"}, {"meters": {"tool_calls": 1}}]
    shared.append(
        [event(time=NOW, **{"model": "newest", "meters": {"tokens_in": 10}, **one}) for one in free]
        + [event(time=NOW - timedelta(days=1), model="newest", meters={"tokens_in": 10})]
    )
    publish_price(shared)
    reprice(shared)
    assert looked(do(shared, ask()))["spend"].used == 2
    assert list(recount(shared.database, None)) == []


@pytest.mark.parametrize("seed", range(6))
def test_counted_as_it_came_counted_anew_and_counted_by_hand_is_the_same(shared: Runtime, seed: int) -> None:
    draw = random.Random(seed)
    now = NOW
    for scope in ("org", "user", "feature"):
        do(shared, budget(scope, of="charge", scope=scope, per=draw.choice(("day", "month")), kind="soft"))
    open_holds: list[Recorded] = []
    known = False
    for _ in range(60):
        what, user = draw.random(), draw.choice(("u1", "u2"))
        usage = event(
            time=now - timedelta(minutes=draw.randrange(0, 1500)),
            user_id=user,
            feature=draw.choice(("documents", "chat")),
            **draw.choice(
                (
                    {"model": "newest", "meters": {"tokens_in": draw.randrange(40)}},
                    {"model": "newest", "meters": {"tokens_in": draw.randrange(40), "tool_calls": 0}},
                    {"model": "newest", "meters": {"tool_calls": 3, "tokens_out": 4}},
                    {"model": "gpt-4o", "meters": {"tokens_in": draw.randrange(40), "tokens_out": draw.randrange(9)}},
                )
            ),
            environment=draw.choice(("production", "production", "development")),
            payer=draw.choice(("seller", "seller", "customer")),
        )
        if what < 0.45:
            shared.append([usage])
        elif what < 0.6 and open_holds:
            do(shared, settle(open_holds.pop(), usage))
        elif what < 0.65:
            now += timedelta(minutes=draw.choice((1, 5, 300)))
            shared.clock = lambda now=now: now  # type: ignore[misc]
            open_holds.clear()
        elif what < 0.75:
            if not known:
                publish_price(shared)
                known = True
            reprice(shared)
        else:
            answer = do(shared, ask(user))
            assert isinstance(answer.result, Held)
            open_holds.append(answer)
            for name, one in looked(answer).items():
                assert one.used == by_hand(shared, answer, name, one.per, now, user), (name, now)
    assert list(recount(shared.database, None)) == []
    last = do(shared, ask())
    tamper(shared.database.url, "delete from counters where window_start > '-infinity'")
    tamper(shared.database.url, "update org_states set progress = '{}', counted_through_seq = 0")
    (anew,) = in_one_group(shared, ask())
    fresh = looked(anew)
    assert {name: one.used for name, one in fresh.items()} == {name: one.used for name, one in looked(last).items()}


def by_hand(runtime: Runtime, answer: Recorded, name: str, per: Any, now: datetime, user: str) -> int:
    """What the ledger held of it before that answer, entry by entry."""
    window = window_at(per, ZONE, now)
    rows = query(
        runtime,
        "select seq, kind, meter_names, meter_quantities, environment, payer, user_id, feature, cost_pico,"
        " refers_to_seq from ledger_entries"
        " where seq < %s and time >= %s and time < %s and kind in ('usage', 'correction') order by seq",
        answer.seq,
        window.starts_at,
        window.ends_at,
    )
    usage = {row[0]: row for row in rows if row[1] == "usage"}
    total = 0
    for row in rows:
        of = usage[row[9]] if row[1] == "correction" else row
        meters = {meter: quantity for meter, quantity in zip(of[2], of[3], strict=True) if quantity}
        if of[4] == "development" or (name == "user" and of[6] != user) or (name == "feature" and of[7] != "documents"):
            continue
        if row[1] == "usage":
            total += 2 * meters.get("tool_calls", 0)
        share = max((SHARES[meter] for meter in meters if meter in SHARES), default=None)
        if share is not None and row[5] is None:
            total += ceil((row[8] or 0) * share)
    return total
