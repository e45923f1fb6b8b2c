"""A writer goes on from where it has left an org; what others do meanwhile holds all the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from account_operations import authorize, event, grant, release, settle, subscribe
from journal_helpers import query
from kept_writers import NOW, Writers
from tallystick.app.contracts import apply_contract
from tallystick.app.erase import erase_person
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime
from tallystick.contract.decision import Budget
from tallystick.ledger.operations import CREDIT, Denied, Held, Operation, SetBudget

CONTRACT = """\
contract: kept
version: "1"
effective_from: 2026-10-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  tailor_document: {title: Tailor a document, price: {credits: 5}, charge_on: [success], shows: 5 credits.}
plans:
  small: {title: Small, kind: credits, base: "0", top_up: true}
  large: {title: Large, kind: credits, base: "10", top_up: true}
"""


@pytest.fixture
def writers(runtime: Runtime) -> Iterator[Writers]:
    subscribe(runtime, "acme", plan="small", contract=CONTRACT)
    made = Writers(runtime, 2)
    yield made
    made.close()


def balance(runtime: Runtime) -> tuple[int, int]:
    rows = query(
        runtime,
        "select account, credit_pico - debit_pico from account_balances"
        " where org_id = 'acme' and asset = 'CREDIT' and account in ('wallet_available', 'wallet_held')",
    )
    found = dict(rows)
    return int(found["wallet_available"]), int(found["wallet_held"])


def test_two_writers_in_turn_see_each_others_credits_and_holds(writers: Writers) -> None:
    writers.one(0, grant(credits=12))
    first = writers.one(0, authorize())
    second = writers.one(1, authorize())
    assert (second.result.before.available_pico, second.result.before.held_pico) == (7 * CREDIT, 5 * CREDIT)
    denied = writers.one(0, authorize())
    assert isinstance(denied.result, Denied)
    assert denied.result.decision.code == "insufficient_credits"
    writers.one(1, release(first))
    third = writers.one(0, authorize())
    assert isinstance(third.result, Held)
    settled = writers.one(1, settle(third, event()))
    assert settled.result.after.available_pico == 2 * CREDIT
    writers.one(0, settle(second, event()))
    assert balance(writers.runtime) == (2 * CREDIT, 0)


def test_a_plan_that_an_org_is_put_on_holds_from_the_next_decision_on(writers: Writers) -> None:
    writers.one(0, grant())
    assert writers.one(0, authorize()).result.decision.plan == "small"
    set_subscription(writers.runtime, "acme", contract="kept", plan="large", time_zone="UTC", effective_from=NOW)
    decision = writers.one(0, authorize()).result.decision
    assert decision.plan == "large"


def test_a_plan_that_is_to_come_holds_from_its_instant_on(writers: Writers) -> None:
    later = NOW + timedelta(minutes=2)
    set_subscription(writers.runtime, "acme", contract="kept", plan="large", time_zone="UTC", effective_from=later)
    writers.one(0, grant())
    for seconds, plan in ((0, "small"), (119, "small"), (120, "large")):
        writers.now = NOW + timedelta(seconds=seconds)
        assert writers.one(0, authorize()).result.decision.plan == plan


def test_a_version_of_the_contract_holds_from_its_instant_on(writers: Writers) -> None:
    writers.one(0, grant())
    assert writers.one(0, authorize()).result.decision.quote.credits_pico == 5 * CREDIT
    later = (NOW + timedelta(minutes=1)).isoformat().replace("+00:00", "Z")
    changed = (
        CONTRACT.replace("2026-10-01T00:00:00Z", later).replace('"1"', '"2"').replace("{credits: 5}", "{credits: 6}")
    )
    apply_contract(writers.runtime, changed, "next.yaml")
    assert writers.one(0, authorize()).result.decision.quote.credits_pico == 5 * CREDIT
    writers.now = NOW + timedelta(minutes=1)
    assert writers.one(0, authorize()).result.decision.quote.credits_pico == 6 * CREDIT


def test_a_hold_that_another_writer_has_made_ends_at_its_instant(writers: Writers) -> None:
    writers.one(0, grant(credits=5))
    hold = writers.one(1, authorize())
    expires_at = hold.result.expires_at
    for before in (timedelta(seconds=12), timedelta(seconds=4), timedelta(milliseconds=1)):
        writers.now = expires_at - before
        assert isinstance(writers.one(0, authorize()).result, Denied)
    writers.now = expires_at
    assert isinstance(writers.one(0, authorize()).result, Held)


def test_usage_that_came_in_between_counts_towards_limits(writers: Writers) -> None:
    writers.one(0, grant())
    budget = Budget(name="day", scope="org", subject=None, of="cost", per="day", kind="hard", max_pico=10**9)
    writers.one(
        0,
        Operation(
            org_id="acme",
            kind="budget",
            request_id="b1",
            request=SetBudget(name="day", budget=budget, author="ann"),
            salt=b"0" * 16,
        ),
    )
    request = {"model": "gpt-4o", "provider": "openai", "worst_cost_pico": 10**8}
    assert isinstance(writers.one(0, authorize(**request)).result, Held)
    assert isinstance(writers.one(0, authorize(**request)).result, Held)
    writers.runtime.write([event(meters={"tokens_in": 1_000_000}, time=NOW)]).result()
    assert writers.one(0, authorize(**request)).result.decision.code == "budget_exceeded"


def test_who_was_erased_is_named_by_no_later_entry(writers: Writers) -> None:
    writers.one(0, grant())
    hold = writers.one(0, authorize(user="eve"))
    erase_person(writers.runtime, "acme", "eve")
    writers.one(0, settle(hold))
    assert not query(writers.runtime, "select seq from ledger_entries where user_id = 'eve'")


def test_what_is_not_committed_is_not_gone_on_from(writers: Writers, monkeypatch: pytest.MonkeyPatch) -> None:
    writers.one(0, grant(credits=5))

    def fail(name: str) -> None:
        if name == "operations.copied":
            raise RuntimeError("the process has a fault here")

    with monkeypatch.context() as patched:
        patched.setattr("tallystick.journal.operations_save.reached", fail)
        with pytest.raises(RuntimeError):
            writers.write(0, authorize())
    writers.connections[0].close()
    writers.connections[0] = writers.runtime.database.connect_writer()
    hold = writers.one(0, authorize())
    assert isinstance(hold.result, Held)
    assert hold.result.before.available_pico == 5 * CREDIT
