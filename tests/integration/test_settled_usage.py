"""Usage is the work of one hold: its cost is charged by one settlement, whoever names it, and however often."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

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
    told,
    wrongs,
)
from conftest import NOW
from journal_helpers import count, publish_price, query, tamper
from tallystick.app.contracts import apply_contract
from tallystick.app.hold_expiry import expire_due
from tallystick.app.orgs import set_subscription
from tallystick.app.reprice import reprice
from tallystick.app.retention import run_retention
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.seal import seal_once
from tallystick.app.verify import verify_ledger
from tallystick.core.errors import Conflict, TallyError
from tallystick.core.instants import format_instant
from tallystick.ledger.operations import CREDIT, Operation, Recorded, Settled
from tallystick.usage.event import UsageEvent

CONTRACT = """
contract: agents
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  agent: {title: Agent, price: {cost_plus: "0.30"}, max_credits: 200}
plans:
  wallet: {title: Wallet, kind: credits, base: "0", top_up: true}
environments:
  development: {charge: false}
"""
CENT = 10**10


@pytest.fixture
def org(runtime: Runtime) -> Runtime:
    subscribe(runtime, "acme", plan="wallet", contract=CONTRACT)
    runtime.clock = lambda: NOW
    do(runtime, grant(credits=5000))
    return runtime


@pytest.fixture
def others(org: Runtime) -> Iterator[list[Runtime]]:
    """Three processes' worth of writers on one database."""
    with ExitStack() as stack:
        yield [org, *(stack.enter_context(open_runtime(org.settings, org.clock)) for _ in range(2))]


def hold(runtime: Runtime, **more: Any) -> Recorded:
    return do(runtime, authorize(action="agent", **more))


def call(request_id: str, **more: Any) -> UsageEvent:
    """A call that costs us a cent; 1.3 credits with the share, charged as 2."""
    return event(request_id=request_id, **{"time": NOW, "meters": {"tokens_in": 4000}, **more})


def cost(settlement: Recorded) -> tuple[int, bool, int]:
    """What it says that its work cost us, whether all had a price, and the credits charged."""
    assert isinstance(settlement.result, Settled)
    credits = sum(lot.amount_pico for lot in settlement.result.charged) // CREDIT
    return settlement.result.cost_pico, settlement.result.priced, credits


def refused(runtime: Runtime, operation: Operation, code: str, *names: str) -> None:
    """It is refused for that, naming these, and nothing moves."""
    before, entries = account_of(runtime), count(runtime, "ledger_entries")
    with pytest.raises(TallyError) as found:
        do(runtime, operation)
    assert found.value.code == code, found.value
    assert [name for name in names if name not in found.value.detail] == [], found.value.detail
    assert (account_of(runtime), count(runtime, "ledger_entries")) == (before, entries)


def faults(runtime: Runtime) -> list[str]:
    return [one.sentence() for one in verify_ledger(runtime).findings.kept] + wrongs(runtime)


def test_usage_that_was_sent_before_is_charged_by_the_first_settlement_that_names_it(org: Runtime) -> None:
    first, second = hold(org), hold(org)
    used = call("e")
    org.append([used])
    done = do(org, settle(first, used))
    assert cost(done) == (CENT, True, 2)
    assert [receipt.status for receipt in done.usage] == ["duplicate"]
    refused(org, settle(second, used), "usage_settled_already", "'e'", f"s{done.seq}")
    refused(org, settle(second, call("other"), used), "usage_settled_already", "'e'")
    assert cost(do(org, settle(second, call("other")))) == (CENT, True, 2)
    assert faults(org) == []


def test_usage_that_a_settlement_brought_is_no_other_settlement_s(org: Runtime) -> None:
    first, second = hold(org), hold(org)
    used = [call("e1"), call("e2")]
    done = do(org, settle(first, *used))
    refused(org, settle(second, used[1]), "usage_settled_already", "'e2'", f"s{done.seq}")
    org.append([call("between")])
    hold(org)
    refused(org, settle(second, used[0]), "usage_settled_already", "'e1'", f"s{done.seq}")
    assert cost(do(org, settle(second, call("between")))) == (CENT, True, 2)
    assert faults(org) == []


def test_usage_right_before_a_settlement_that_does_not_name_it_is_free_for_another(org: Runtime) -> None:
    first, second, third = hold(org), hold(org), hold(org)
    org.append([call("e")])
    do(org, settle(first, call("mine")))
    done = do(org, settle(second, call("e")))
    assert cost(done) == (CENT, True, 2)
    refused(org, settle(third, call("e")), "usage_settled_already", f"s{done.seq}")
    refused(org, settle(third, call("mine")), "usage_settled_already")
    assert faults(org) == []


@pytest.mark.parametrize("sent_before", [True, False])
def test_of_two_settlements_in_one_group_the_first_has_it(org: Runtime, sent_before: bool) -> None:
    first, second, third = hold(org), hold(org), hold(org)
    used = call("e")
    if sent_before:
        org.append([used])
    operations = [settle(first, used, call("x")), settle(second, used), settle(third, call("y"))]
    done, other, more = in_one_group(org, *operations)
    assert cost(done) == (2 * CENT, True, 3)
    assert (type(other), other.code) == (Conflict, "usage_settled_already")
    assert cost(more) == (CENT, True, 2)
    assert [told(one) for one in in_one_group(org, operations[0], operations[2])] == [told(done), told(more)]
    refused(org, operations[1], "usage_settled_already", f"s{done.seq}")
    assert faults(org) == []


def test_of_a_settlement_that_is_refused_the_usage_is_free(org: Runtime) -> None:
    first, second = hold(org), hold(org)
    above, done = in_one_group(org, settle(first, call("e"), charge_pico=999 * CREDIT), settle(second, call("e")))
    assert above.code == "settle_above_hold"
    assert cost(done) == (CENT, True, 2)
    assert [receipt.status for receipt in done.usage] == ["accepted"]
    assert faults(org) == []


def at_once(runtimes: list[Runtime], operations: list[Operation]) -> list[Recorded | TallyError]:
    """Each process is asked for an operation, all at the same moment: their answers."""
    start = threading.Barrier(len(runtimes))

    def send(runtime: Runtime, operation: Operation) -> Recorded | TallyError:
        start.wait()
        try:
            return do(runtime, operation)
        except TallyError as error:
            return error

    with ThreadPoolExecutor(len(runtimes)) as threads:
        return list(threads.map(send, runtimes, operations))


@pytest.mark.parametrize("sent_before", [True, False])
def test_of_settlements_from_several_processes_at_once_one_has_it(others: list[Runtime], sent_before: bool) -> None:
    runtime = others[0]
    for turn in range(4):
        used = call(f"e{turn}")
        holds = [hold(runtime) for _ in others]
        if sent_before:
            runtime.append([used])
        answers = at_once(others, [settle(one, used) for one in holds])
        done = [one for one in answers if isinstance(one, Recorded)]
        assert [cost(one) for one in done] == [(CENT, True, 2)]
        codes = [one.code for one in answers if isinstance(one, TallyError)]
        assert codes == ["usage_settled_already"] * (len(others) - 1)
    assert faults(runtime) == []


def test_the_same_settlement_has_the_same_answer_whatever_came_between(org: Runtime) -> None:
    first, second = hold(org), hold(org)
    before = call("before")
    org.append([before])
    operation = settle(first, before, call("mine"))
    done = do(org, operation)
    assert [receipt.status for receipt in done.usage] == ["duplicate", "accepted"]
    assert told(do(org, operation)) == told(done)
    refused(org, settle(second, before), "usage_settled_already")
    do(org, settle(second, call("last")))
    assert told(do(org, operation)) == told(done)
    again, other = in_one_group(org, operation, settle(hold(org), before))
    assert (told(again), other.code) == (told(done), "usage_settled_already")
    assert [receipt.status for receipt in again.usage] == ["duplicate", "accepted"]
    assert faults(org) == []


def test_usage_of_before_the_hold_is_none_of_its_work(org: Runtime) -> None:
    used = call("e")
    org.append([used])
    made = hold(org)
    refused(org, settle(made, used), "usage_before_hold", "'e'", f"h{made.seq}")
    assert cost(do(org, settle(made, call("mine")))) == (CENT, True, 2)
    assert faults(org) == []


def test_what_an_expired_hold_used_is_not_charged_by_the_next_one(org: Runtime) -> None:
    made = hold(org)
    org.append([call("e")])
    org.clock = lambda: NOW + timedelta(hours=1)
    again = hold(org)
    refused(org, settle(made, call("e")), "hold_expired")
    refused(org, settle(again, call("e")), "usage_before_hold")


def test_usage_counts_with_what_it_was_corrected_to_before(org: Runtime) -> None:
    first, second, late = hold(org), hold(org), hold(org)
    unknown = {"model": "newest", "meters": {"tokens_in": CENT // 7 + 1}}
    org.append([call("e1", **unknown), call("e2", **unknown), call("own", **unknown, payer="customer")])
    early = do(org, settle(late, call("e2", **unknown), call("priced")))
    assert cost(early) == (CENT, False, 2)
    publish_price(org)
    assert reprice(org).corrected == 3
    operation = settle(first, call("e1", **unknown), call("own", **unknown, payer="customer"))
    done = do(org, operation)
    assert cost(done) == (7 * (CENT // 7 + 1), True, 2)
    assert told(do(org, operation)) == told(done)
    assert [receipt.cost_status for receipt in done.usage] == ["unpriced", "unpriced"]
    refused(org, settle(second, call("e1", **unknown)), "usage_settled_already", f"s{done.seq}")
    refused(org, settle(second, call("e2", **unknown)), "usage_settled_already", f"s{early.seq}")
    assert cost(early) == (CENT, False, 2)
    assert faults(org) == []


def test_usage_in_an_environment_that_is_never_billed_is_not_charged_by_its_cost(org: Runtime) -> None:
    unknown = {"model": "newest", "meters": {"tokens_in": 1}}
    made, tried, sent = hold(org), hold(org, environment="development"), hold(org)
    staged = [call("d1", environment="development"), call("d2", environment="development", **unknown)]
    done = do(org, settle(made, *staged, call("p1")))
    assert cost(done) == (CENT, True, 2)
    org.append([call("d3", environment="development")])
    assert cost(do(org, settle(sent, call("d3", environment="development")))) == (0, True, 0)
    # What a hold that is not billed used is costed all the same, wherever it was.
    assert cost(do(org, settle(tried, call("d4", environment="development"), call("p2")))) == (2 * CENT, True, 0)
    assert faults(org) == []


def test_usage_whose_hold_was_released_is_free_for_a_hold_that_was_open_then(org: Runtime) -> None:
    first, second = hold(org), hold(org)
    org.append([call("e")])
    do(org, release(first))
    assert cost(do(org, settle(second, call("e")))) == (CENT, True, 2)
    assert query(org, "select count(*) from settled_usage") == [(1,)]
    assert faults(org) == []


def test_a_settlement_of_very_many_events_that_were_sent_before_has_all_of_them_once(org: Runtime) -> None:
    first, second = hold(org), hold(org)
    used = [call(f"e{number}", meters={"tokens_in": 4}) for number in range(1000)]
    org.append(used[:500])
    org.append(used[500:])
    do(org, settle(hold(org), call("another's")))
    done = do(org, settle(first, *used))
    assert cost(done) == (CENT, True, 2)
    refused(org, settle(second, call("new"), used[999]), "usage_settled_already", "'e999'")
    assert told(do(org, settle(first, *used))) == told(done)
    assert faults(org) == []


def test_usage_that_is_too_old_by_now_is_known_where_it_is_stored(org: Runtime) -> None:
    settings = org.settings.model_copy(update={"retention_days": 45})
    made, edge = hold(org), NOW - timedelta(days=45)
    with open_runtime(settings, lambda: NOW + timedelta(minutes=1)) as later:
        org.append([call("stored", time=edge)])
        refused(later, settle(made, call("new", time=edge)), "outside_dedup_window", "'new'")
        done = do(later, settle(made, call("stored", time=edge), call("mine")))
    assert [receipt.status for receipt in done.usage] == ["duplicate", "accepted"]
    assert cost(done) == (2 * CENT, True, 3)
    assert faults(org) == []


# ── what a check of the ledger finds ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def settled(org: Runtime) -> Runtime:
    """Of two holds one is settled with `sent`, which was sent before, and `brought`, the other with `later`."""
    org.append([call("early")])
    first = hold(org)
    org.append([call("sent")])
    second = hold(org)
    do(org, settle(first, call("sent"), call("brought")))
    do(org, settle(second, call("later")))
    assert query(org, "select seq, settlement_seq from settled_usage") == [(4, 7)]
    assert faults(org) == []
    return org


NAMED = """update ledger_entries set body = replace(body, '"later"', '"{}"') where kind = 'settlement'"""


@pytest.mark.parametrize(
    ("statement", "told_of"),
    [
        (NAMED.format("sent"), "it names the usage 'sent', entry 4, which is the work of the settlement 7"),
        (NAMED.format("brought"), "it names the usage 'brought', entry 6, which is the work of the settlement 7"),
        (NAMED.format("early"), "it names the usage 'early', entry 2, of before its hold 5"),
        (
            "update ledger_entries set environment = 'development' where request_id = 'brought'",
            "it says that its usage cost 20000000000 pico-USD, and the entries come to 10000000000",
        ),
        ("delete from settled_usage", "settled_usage: the settlement of the usage 4 is missing"),
        ("update settled_usage set settlement_seq = 9", "the usage 4 says 9, and the org's entries 7"),
        ("insert into settled_usage values ('acme', 2, 9)", "the usage 2 says 9, and the org's entries know of none"),
        ("insert into settled_usage values ('acme', 6, 9)", "the usage 6 says 9, and the org's entries 7"),
    ],
)
def test_a_check_finds_usage_that_is_settled_twice_or_by_the_wrong_hold(
    settled: Runtime, statement: str, told_of: str
) -> None:
    tamper(settled.database.url, statement)
    found = [one for one in verify_ledger(settled).findings.kept if told_of in one.sentence()]
    assert [(one.org_id, one.check in {"account", "state"}) for one in found] == [("acme", True)]


PRESENT = datetime.now(UTC).replace(microsecond=0)
"""The database's own clock has a say in what may leave it."""


def aged(runtime: Runtime, moment: list[datetime]) -> Runtime:
    """An org with credits and holds that live long, on a clock that is set; entries leave after 45 days."""
    settings = runtime.settings.model_copy(update={"retention_days": 45, "block_entries_max": 1})
    runtime = replace(runtime, clock=lambda: moment[0], settings=settings)
    contract = CONTRACT.replace("2026-01-01T00:00:00Z", format_instant(moment[0])) + "holds: {life: 7d}\n"
    apply_contract(runtime, contract, "agents.yaml")
    set_subscription(runtime, "acme", contract="agents", plan="wallet", effective_from=moment[0])
    do(runtime, grant(credits=5000))
    return runtime


@pytest.mark.parametrize(("settled_days_ago", "gone"), [(43, 6), (47, 10)])
def test_usage_and_its_correction_are_found_where_they_are_kept(
    runtime: Runtime, settled_days_ago: int, gone: int
) -> None:
    moment = [PRESENT - timedelta(days=49)]
    began = moment[0]
    runtime = aged(runtime, moment)
    first, second = hold(runtime), hold(runtime)
    unknown = {"model": "newest", "meters": {"tokens_in": CENT}, "time": began}
    used = [call("a", **unknown), call("b", time=began), call("c", **unknown)]
    runtime.append(used)
    moment[0] = PRESENT - timedelta(days=settled_days_ago)
    publish_price(runtime)
    assert reprice(runtime).corrected == 2
    done = do(runtime, settle(first, *used[:2]))
    assert cost(done) == (8 * CENT, True, 11)
    do(runtime, settle(second))
    seal_once(runtime, everything=True)
    moment[0] = PRESENT
    assert faults(runtime) == []
    assert query(runtime, "select seq, settlement_seq from settled_usage order by seq") == [(4, 9), (5, 9)]
    assert run_retention(runtime).entries == gone
    assert query(runtime, "select seq from settled_usage") == []
    assert [one.sentence() for one in verify_ledger(runtime).findings.kept] == []
    if gone == 6:
        tamper(runtime.database.url, "insert into settled_usage values ('acme', 5, 9)")
        (found,) = [one.sentence() for one in verify_ledger(runtime).findings.kept]
        assert "the usage 5 says 9" in found


def test_a_hold_stays_in_the_database_until_it_is_ended(runtime: Runtime) -> None:
    moment = [PRESENT - timedelta(days=60)]
    runtime = aged(runtime, moment)
    hold(runtime)
    seal_once(runtime, everything=True)
    moment[0] = PRESENT
    run_retention(runtime)
    assert query(runtime, "select kind from ledger_entries") == [("hold",)]
    assert expire_due(runtime) == 1
    assert account_of(runtime)["balances"]["wallet_held"] == 0
    assert run_retention(runtime).entries == 1
    assert [one.sentence() for one in verify_ledger(runtime).findings.kept] == []
