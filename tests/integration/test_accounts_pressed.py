"""Accounts under what nobody means to do to them: they stay exact, and a check finds them sound."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from account_operations import authorize, do, event, grant, in_one_group, refund, release, settle, subscribe, wrongs
from conftest import NOW
from journal_helpers import publish_price, query
from tallystick.app.contracts import apply_contract
from tallystick.app.erase import erase_person
from tallystick.app.limits import show_limits
from tallystick.app.overrides import add_override
from tallystick.app.reprice import reprice
from tallystick.app.runtime import Runtime
from tallystick.app.verify import verify_ledger
from tallystick.contract.decision import Budget, Override
from tallystick.core.errors import Conflict
from tallystick.ledger.operations import CREDIT, Denied, Held, Operation, Recorded, SetBudget, SetOverride, Settled

PRESSED = """
contract: pressed
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  tailor_document: {title: Tailor, price: {credits: 5}, repeat: {key: document_id, within: 1h, credits: 1}}
  agent: {title: Agent, price: {cost_plus: "0.30"}, max_credits: 200}
plans:
  wallet:
    title: Wallet
    kind: credits
    base: "0"
    top_up: true
    limits:
      - {meters: [tokens_in], max: 10_000_000, per: day, kind: hard}
  shadow: {extends: wallet, enforcement: shadow, overage: true}
  metered:
    title: Metered
    base: "0"
    prices: {tokens_in: {unit: "2"}}
"""
CENT = 10**10
NEWER = (
    ('version: "1"', 'version: "2"'),
    ("2026-01-01T00:00:00Z", "2026-11-02T12:00:05Z"),
    ("credits: 5", "credits: 9"),
    ('"0.30"', '"3"'),
    ('usd: "0.01"', 'usd: "0.02"'),
)


def faults(runtime: Runtime) -> list[str]:
    return [f"{one.check}: {one.sentence()}" for one in verify_ledger(runtime).findings.kept] + wrongs(runtime)


def budget(name: str, **more: Any) -> Operation:
    said = {"scope": "user", "subject": None, "of": "cost", "per": "day", "kind": "hard", "max_pico": 10**12, **more}
    request = SetBudget(name=name, budget=Budget(name=name, **said), author="ann")
    return Operation(org_id="acme", kind="budget", request_id=os.urandom(8).hex(), request=request, salt=os.urandom(16))


def quoted(held: Recorded) -> float:
    assert isinstance(held.result, Held), held.result
    return held.result.decision.quote.credits_pico / CREDIT


def charged(settlement: Recorded) -> float:
    assert isinstance(settlement.result, Settled)
    lots = (*settlement.result.charged, *settlement.result.overage)
    return (sum(lot.amount_pico for lot in lots) + settlement.result.receivable_pico) / CREDIT


@pytest.fixture
def org(runtime: Runtime) -> Runtime:
    subscribe(runtime, "acme", plan="wallet", contract=PRESSED, zone="Pacific/Kiritimati")
    runtime.clock = lambda: NOW
    return runtime


def test_a_wallet_of_many_lots_burns_and_gives_back_all_of_them(org: Runtime) -> None:
    in_one_group(org, *[grant(credits=1, priority=number % 7) for number in range(300)])
    hold = do(org, authorize(action="agent", worst_cost_pico=0))
    settlement = do(org, settle(hold, event(time=NOW, meters={"tokens_in": 400_000})))
    assert charged(settlement) == 130
    for credits in (1, 100, None):
        do(org, refund(settlement, credits))
    assert faults(org) == []
    assert query(org, "select count(*) from grants where available_pico = amount_pico") == [(300,)]


def test_names_are_what_they_are_and_an_erased_one_frees_what_it_held(org: Runtime) -> None:
    do(org, grant(credits=500))
    do(org, budget("cost"))
    do(org, budget("charge", of="charge", max_pico=10**13))
    users = ["üß", "a:b", "day:cost:user:x", "'; drop", "日本", "%_", "a\\nb", "org", "-infinity", "null"]
    asked = {"action": "agent", "meters": {"tokens_in": 100}, "worst_cost_pico": 5 * CENT}
    holds = [do(org, authorize(user=user, **asked)) for user in users]
    for user in users[:5]:
        erase_person(org, "acme", user)
    assert faults(org) == []
    for place, hold in enumerate(holds):
        assert quoted(hold) == 7
        do(org, settle(hold, event(user_id=users[place], time=NOW)) if place % 2 else release(hold))
    assert query(org, "select counter from counters where window_start = '-infinity' and used <> 0") == []
    for user in users[1:]:
        erase_person(org, "acme", user)
    do(org, authorize(user=users[-1], **asked))
    assert faults(org) == []


def test_clocks_of_several_processes_may_differ_over_the_end_of_a_month(org: Runtime) -> None:
    month = datetime(2026, 11, 30, 10, 0, tzinfo=UTC)  # it begins then on Kiritimati, hours before anywhere else
    org.clock = lambda: month - timedelta(minutes=1)
    do(org, grant(credits=300))
    do(org, grant(credits=30, expires_at=month + timedelta(seconds=2)))
    do(org, grant(credits=30, expires_at=month + timedelta(minutes=15)))
    do(org, budget("b", scope="org", per="month"))
    holds: dict[int, Recorded] = {}
    for number, seconds in enumerate((-1, 1, -2, 0, 900, 2, 899, 901, 3600, -3, 4000)):
        at = month + timedelta(seconds=seconds)
        org.clock = lambda at=at: at  # type: ignore[misc]
        asked = authorize(work_key=f"d{number % 2}", meters={"tokens_in": 5}, worst_cost_pico=CENT)
        holds[number] = do(org, asked)
        if number in (1, 7):  # seven is settled at the very instant at which the fourth ends
            do(org, settle(holds[number - 1], event(time=at), event(time=at - timedelta(seconds=7))))
        org.append([event(time=at)])
        if number in (4, 9):
            assert faults(org) == []
    assert faults(org) == []


def test_what_was_promised_is_charged_whatever_terms_hold_by_then(org: Runtime) -> None:
    do(org, grant(credits=300))
    first, second, third = (do(org, authorize(work_key="k")) for _ in range(3))
    agent = do(org, authorize(action="agent", worst_cost_pico=CENT))
    lifted = Override(seq=0, author="a", reason="r", expires_at=NOW + timedelta(seconds=5), limits={0: -1})
    override = SetOverride(override=lifted, approved_by="b")
    do(org, Operation(org_id="acme", kind="override", request_id="o", request=override, salt=bytes(16)))
    much = {"meters": {"tokens_in": 10_000_001}, "action": "agent", "worst_cost_pico": CENT}
    lots = do(org, authorize(**much))
    assert isinstance(lots.result, Held)
    newer = PRESSED
    for old, new in NEWER:
        newer = newer.replace(old, new)
    apply_contract(org, newer, "newer.yaml")
    org.clock = lambda: NOW + timedelta(seconds=5)
    assert isinstance(do(org, authorize(**much)).result, Denied)
    settlement = do(org, settle(first, event(time=NOW)))
    assert isinstance(settlement.result, Settled)
    assert (charged(settlement), settlement.result.charge_pico) == (5, 5 * CENT)
    assert charged(do(org, settle(agent, event(time=NOW, meters={"tokens_in": 4000})))) == 2
    assert charged(do(org, settle(second, event(time=NOW)))) == 1  # the same work again, meanwhile
    do(org, release(third))
    do(org, release(lots))
    assert [quoted(do(org, authorize(work_key=key))) for key in ("k", "other")] == [1, 9]
    do(org, refund(settlement, 2))
    do(org, refund(settlement))
    assert faults(org) == []


def test_an_exception_bends_the_limit_that_was_meant_wherever_a_new_version_has_it(org: Runtime) -> None:
    do(org, grant(credits=500))
    add_override(
        org,
        "acme",
        {
            "request_id": "o1",
            "limits": {"tokens_in per day": None},
            "author": "ann",
            "approved_by": "bob",
            "reason": "a pilot",
            "expires_at": "2026-12-01T00:00:00Z",
        },
    )
    newer = PRESSED.replace(
        "    limits:\n", "    limits:\n      - {meters: [tool_calls], max: 5, per: day, kind: hard}\n"
    )
    for old, new in NEWER[:2]:
        newer = newer.replace(old, new)
    apply_contract(org, newer, "newer.yaml")
    org.clock = lambda: NOW + timedelta(seconds=5)
    asked = {"action": "agent", "worst_cost_pico": CENT}
    assert isinstance(do(org, authorize(meters={"tokens_in": 10_000_001}, **asked)).result, Held)
    assert isinstance(do(org, authorize(meters={"tool_calls": 6}, **asked)).result, Denied)
    shown = show_limits(org, "acme")["limits"]
    assert [(one["name"], one["max"]) for one in shown] == [("tool_calls per day", 5), ("tokens_in per day", None)]
    assert faults(org) == []


@pytest.mark.parametrize(("seconds", "credits"), [(3599, 1), (3600, 5), (3601, 5)])
def test_the_time_in_which_work_is_a_repeat_ends_before_its_last_instant(
    org: Runtime, seconds: int, credits: int
) -> None:
    do(org, grant(credits=50))
    do(org, settle(do(org, authorize(work_key="k")), event(time=NOW)))
    org.clock = lambda: NOW + timedelta(seconds=seconds)
    again = do(org, authorize(work_key="k"))
    assert quoted(again) == credits
    org.clock = lambda: NOW + timedelta(seconds=seconds + 60)
    assert charged(do(org, settle(again))) == credits  # as it was quoted
    assert faults(org) == []


def test_a_wallet_that_covers_a_part_is_not_touched_in_shadow_mode(runtime: Runtime) -> None:
    subscribe(runtime, "acme", plan="shadow", contract=PRESSED)
    do(runtime, grant(credits=7))
    asked = [authorize(work_key=f"w{number}", meters={"tokens_in": 9_000_000}) for number in range(3)]
    more = [authorize(action="nothing"), authorize(action="agent", model="x", worst_cost_pico=None)]
    holds = in_one_group(runtime, *asked, *more)
    settled = [do(runtime, settle(hold, event(time=NOW, meters={"tokens_in": 10**6}))) for hold in holds]
    assert [charged(one) for one in settled] == [5, 0, 0, 0, 0]
    assert faults(runtime) == []


def test_a_guard_counts_amounts_that_no_machine_word_holds(runtime: Runtime) -> None:
    subscribe(runtime, "acme", plan="metered", contract=PRESSED)
    do(runtime, budget("c", of="charge", scope="org", max_pico=2**63 - 1))
    runtime.append([event(time=NOW, meters={"tokens_in": 10**12}) for _ in range(30)])
    denied = do(runtime, authorize(action=None, meters={"tokens_in": 1}))
    assert isinstance(denied.result, Denied)
    assert denied.result.decision.limits[0].used == 30 * 10**12 * 2 * 10**12
    for _ in range(2):
        do(runtime, grant(credits=10**18))
    assert faults(runtime) == []


def test_what_work_has_cost_is_told_again_whoever_paid_and_whatever_becomes_known_later(org: Runtime) -> None:
    do(org, grant(credits=500))
    do(org, budget("cost", max_pico=10**13))
    plain = event("acme", "plain", time=NOW, meters={"tokens_in": 4000}, action="agent")
    hold = do(org, authorize(action="agent", worst_cost_pico=0))
    org.append([plain])
    used = (
        plain,
        event(time=NOW, meters={"tokens_in": 4000}, payer="customer"),
        event("acme", "new", time=NOW, provider="openai", model="newest", meters={"tokens_in": 10**9}),
    )
    settlement = do(org, settle(hold, *used))
    assert isinstance(settlement.result, Settled)
    assert (settlement.result.cost_pico, settlement.result.priced) == (CENT, False)
    assert charged(settlement) == 2
    assert faults(org) == []
    publish_price(org)
    assert reprice(org).corrected == 1
    do(org, authorize(action="agent", worst_cost_pico=0))
    assert faults(org) == []
    with pytest.raises(Conflict):
        do(org, refund(settlement, 3))
    do(org, refund(settlement))
    assert faults(org) == []


def test_a_budget_counts_at_once_what_was_spent_before_it(org: Runtime) -> None:
    do(org, grant(credits=500))
    open_hold = do(org, authorize(action="agent", user="u2", worst_cost_pico=3 * CENT))
    assert isinstance(open_hold.result, Held)
    org.append([event(time=NOW, meters={"tokens_in": 4000})])
    guarded = [
        budget("user", max_pico=CENT + CENT // 2),
        authorize(action="agent", meters={"tokens_in": 1}, worst_cost_pico=CENT),
        authorize(action="agent", user="u2", meters={"tokens_in": 1}, worst_cost_pico=1),
        budget("user", max_pico=2 * CENT),
        authorize(action="agent", meters={"tokens_in": 1}, worst_cost_pico=CENT),
        authorize(action="agent", meters={"tokens_in": 1}, worst_cost_pico=1),
    ]
    answers = in_one_group(org, *guarded)
    assert [type(answer.result).__name__ for answer in answers] == [
        "Noted", "Denied", "Denied", "Noted", "Held", "Denied",
    ]  # fmt: skip
    assert faults(org) == []
