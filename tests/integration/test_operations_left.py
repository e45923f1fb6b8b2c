"""Operations on what has left the database for blocks: a charge is refunded however old it is, and only once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest

from accounts import CONTRACT, end, hold
from http_callers import callers, serving
from journal_helpers import query, raw_event
from tallystick.app.budgets import list_budgets, remove_budget, set_budget
from tallystick.app.contracts import apply_contract
from tallystick.app.decision_answers import answer_of
from tallystick.app.explain_entry import show_entry
from tallystick.app.grants import grant
from tallystick.app.ingest import check_items
from tallystick.app.orgs import set_subscription
from tallystick.app.refund import refund
from tallystick.app.release import release
from tallystick.app.retention import run_retention
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.app.settle import settle
from tallystick.app.standing import set_standing, show_standing
from tallystick.app.verify import verify_ledger
from tallystick.app.wallet import show_wallet
from tallystick.core.errors import Conflict, NotFound
from tallystick.core.instants import format_instant

# The database's own clock has a say in what may leave, so times are measured from the real present.
NOW = datetime.now(UTC).replace(microsecond=0)
OLD = NOW - timedelta(days=60)
GRANT = {"source": "top_up", "author": "ann", "reason": "paid"}


def at(runtime: Runtime, moment: datetime) -> Runtime:
    settings = runtime.settings.model_copy(update={"retention_days": 45, "block_entries_max": 4})
    return replace(runtime, clock=lambda: moment, settings=settings)


def leave(runtime: Runtime, entries: int) -> None:
    """What is there leaves the database, as far as it is old enough: so many entries."""
    seal_once(at(runtime, NOW), everything=True)
    assert run_retention(at(runtime, NOW)).entries == entries


@pytest.fixture
def old(runtime: Runtime) -> Runtime:
    """acme sixty days ago: 3 credits that end that day, 20 that last."""
    old = at(runtime, OLD)
    apply_contract(old, CONTRACT.replace("2026-10-01T00:00:00Z", format_instant(OLD)), "shop.yaml")
    set_subscription(old, "acme", contract="shop", plan="wallet", effective_from=OLD)
    ends = format_instant(OLD + timedelta(hours=5))
    grant(old, "acme", {**GRANT, "request_id": "g1", "credits": "3", "expires_at": ends})
    grant(old, "acme", {**GRANT, "request_id": "g2", "credits": "20"})
    return old


def used(request_id: str, **more: Any) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "time": format_instant(OLD - timedelta(minutes=1)),
        "provider": "openai",
        "model": "gpt-4o",
        "meters": {"tokens_in": 1000, "tokens_out": 100},
        **more,
    }


def back(request_id: str = "f1", settlement_id: str = "s5", **more: Any) -> dict[str, Any]:
    members = {"org_id": "acme", "request_id": request_id, "settlement_id": settlement_id}
    return {**members, "author": "ann", "reason": "disputed", **more}


def charged(runtime: Runtime) -> dict[str, Any]:
    """A charge of 5 credits, g1's 3 among them: h3, its usage #4, and s5."""
    return end(runtime, hold(runtime)["hold"]["hold_id"], events=[used("e1")])


def is_whole(runtime: Runtime) -> None:
    assert verify_ledger(runtime).findings.kept == []


def test_a_charge_is_refunded_when_its_entry_has_left(old: Runtime) -> None:
    assert charged(old)["settlement_id"] == "s5"
    leave(old, 5)
    now = at(old, NOW)
    given = answer_of(refund(now, back()))
    # What burnt last goes back first; g1 is over, so that its part is granted again for the contract's grace.
    assert (given["refunded_credits"], given["returned_to"]) == (
        "5",
        [{"grant_id": "g2", "credits": "2"}, {"grant_id": "g1", "credits": "3"}],
    )
    wallet = show_wallet(now, "acme")
    assert (wallet["available"], wallet["held"]) == ("23", "0")
    assert [one["available"] for one in wallet["grants"] if one["source"] == "refund"] == ["3"]
    is_whole(now)


def test_it_is_never_refunded_beyond_what_was_charged_wherever_its_refunds_are(old: Runtime) -> None:
    charged(old)
    refund(old, back("f1", credits="1"))
    refund(old, back("f2", credits="1"))
    leave(old, 7)
    now = at(old, NOW)
    with pytest.raises(Conflict) as refused:
        refund(now, back("f3", credits="4"))
    assert refused.value.code == "refund_exceeds_charge"
    assert "2 credits have been refunded already" in refused.value.detail
    assert answer_of(refund(now, back("f4", credits="1")))["refunded_credits"] == "1"
    assert answer_of(refund(now, back("f5")))["refunded_credits"] == "2"
    with pytest.raises(Conflict):
        refund(now, back("f6"))
    is_whole(now)


def test_processes_that_refund_a_charge_that_has_left_at_once_give_no_more_back_than_it_was(old: Runtime) -> None:
    charged(old)
    leave(old, 5)
    barrier = Barrier(8)

    def ask(runtime: Runtime, number: int) -> str:
        barrier.wait()
        try:
            return str(answer_of(refund(runtime, back(f"f{number}", credits="2")))["refund_id"])
        except Conflict as error:
            return error.code

    with closing(at(old, NOW)) as one, closing(at(old, NOW)) as two, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [one] * 4 + [two] * 4, [0, 1, 2, 3] * 2))
        is_whole(one)
    assert answers[:4] == answers[4:]  # the same request has one answer, whoever is asked
    given = {answer for answer in answers if answer != "refund_exceeds_charge"}
    assert len(given) == 2
    assert query(old, "select count(*) from ledger_entries where kind = 'refund'") == [(2,)]


def test_a_refund_that_has_left_has_its_answer_and_no_second_effect(old: Runtime) -> None:
    charged(old)
    first = answer_of(refund(old, back("f1", credits="1")))
    leave(old, 6)
    now = at(old, NOW)
    assert answer_of(refund(now, back("f1", credits="1"))) == first
    with pytest.raises(Conflict) as refused:
        refund(now, back("f1", credits="2"))
    assert refused.value.code == "request_id_conflict"
    assert show_wallet(now, "acme")["available"] == "19"


def test_only_settlements_are_refunded(old: Runtime) -> None:
    charged(old)
    leave(old, 5)
    for entry in ("s3", "s99"):
        with pytest.raises(NotFound) as refused:
            refund(at(old, NOW), back(settlement_id=entry))
        assert refused.value.code == "settlement_unknown"


def test_a_settlement_and_a_release_are_answered_as_they_were(old: Runtime) -> None:
    held = hold(old)["hold"]["hold_id"]
    plain = {**raw_event("plain"), **used("plain"), "action": "tailor"}
    at(old, OLD + timedelta(seconds=1)).append(check_items(old, [plain]))
    asked_for = {
        "org_id": "acme",
        "hold_id": held,
        "outcome": "success",
        "events": [used("e1"), plain, used("e2", model="gpt-4o-mini")],
    }
    old = at(old, OLD + timedelta(seconds=2))
    first = answer_of(settle(old, asked_for))
    assert [one["status"] for one in first["events"]] == ["accepted", "duplicate", "accepted"]
    other = hold(old, "a2")["hold"]["hold_id"]
    let_go = answer_of(release(old, {"org_id": "acme", "hold_id": other}))
    leave(old, 9)
    now = at(old, NOW)
    assert answer_of(settle(now, asked_for)) == first
    assert answer_of(release(now, {"org_id": "acme", "hold_id": other})) == let_go
    for wrong, code in (
        ({**asked_for, "outcome": "failure"}, "hold_resolved"),
        ({**asked_for, "events": [used("e1", latency_ms=7), *asked_for["events"][1:]]}, "request_id_conflict"),
        ({**asked_for, "hold_id": other, "events": []}, "hold_resolved"),
    ):
        with pytest.raises(Conflict) as refused:
            settle(now, wrong)
        assert refused.value.code == code
    for unknown in ("h1", "h999"):
        with pytest.raises(NotFound) as missing:
            release(now, {"org_id": "acme", "hold_id": unknown})
        assert missing.value.code == "hold_unknown"


def test_a_settlement_whose_hold_and_usage_alone_have_left_is_answered_as_it_was(old: Runtime) -> None:
    asked_for = {"org_id": "acme", "hold_id": hold(old)["hold"]["hold_id"], "outcome": "success"}
    asked_for |= {"events": [used("e1")]}
    first = answer_of(settle(old, asked_for))
    seal_once(at(old, NOW), everything=True)  # in blocks of four: the settlement is alone in the second
    with old.database.operator() as connection:
        connection.execute("select forget_entries('acme', 4)")
    assert query(old, "select min(seq) from ledger_entries where org_id = 'acme'") == [(5,)]
    assert answer_of(settle(at(old, NOW), asked_for)) == first
    assert answer_of(refund(at(old, NOW), back()))["refunded_credits"] == "5"


def test_a_hold_that_has_expired_and_left_is_told_so(old: Runtime) -> None:
    held = hold(old)["hold"]["hold_id"]
    later = at(old, OLD + timedelta(hours=1))
    later.operations.keep_up("acme").result(20)
    leave(old, 4)
    with pytest.raises(Conflict) as refused:
        end(at(old, NOW), held)
    assert refused.value.code == "hold_expired"


def test_work_that_was_finished_long_ago_is_a_repeat_while_the_contract_says_so(old: Runtime) -> None:
    held = hold(old, work_key="doc-1")
    end(old, held["hold"]["hold_id"])
    leave(old, 4)
    within = at(old, OLD + timedelta(days=29))
    assert hold(within, "a2", work_key="doc-1")["decision"]["quote"]["repeat"] is True
    after = at(old, NOW)
    assert hold(after, "a3", work_key="doc-1")["decision"]["quote"]["repeat"] is False


def test_what_was_said_of_an_org_is_not_said_again_by_a_late_copy(old: Runtime) -> None:
    guard = {
        "request_id": "b1",
        "max_usd": "5",
        "per": "day",
        "scope": "org",
        "kind": "hard",
        "of": "cost",
        "author": "ann",
    }
    first = answer_of(set_budget(old, "acme", "guard", guard))
    stop = {"request_id": "t1", "suspended": "unpaid", "author": "ann"}
    stopped = answer_of(set_standing(old, "acme", stop))
    leave(old, 4)
    now = at(old, NOW)
    remove_budget(now, "acme", "guard", "ann")
    set_standing(now, "acme", {"suspended": None, "author": "ann"})
    assert answer_of(set_budget(now, "acme", "guard", guard)) == first
    assert answer_of(set_standing(now, "acme", stop)) == stopped
    assert list_budgets(now, "acme") == []
    assert show_standing(now, "acme")["suspended"] is None


def test_an_explanation_names_what_came_later_wherever_that_is(old: Runtime) -> None:
    charged(old)
    refund(old, back("f1", credits="1"))
    leave(old, 6)
    now = at(old, NOW)
    refund(now, back("f2", credits="1"))
    assert [one["entry_id"] for one in show_entry(now, "acme", 3)["referred_to_by"]] == ["s5"]
    assert [one["entry_id"] for one in show_entry(now, "acme", 5)["referred_to_by"]] == ["f6", "f7"]
    assert show_entry(now, "acme", 4)["referred_to_by"] == []


@pytest.mark.parametrize("way", ["", "?x"], ids=["short", "long"])
def test_the_same_over_http(old: Runtime, way: str) -> None:
    settled = charged(old)
    leave(old, 5)
    again = {"org_id": "acme", "hold_id": "h3", "outcome": "success", "events": [used("e1")]}
    with serving(at(old, NOW)) as port, callers(port) as connect:
        caller = connect()

        def post(path: str, members: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            caller.send(json.dumps(members).encode(), path=path, query=way)
            status, _, body = caller.answer()
            return status, json.loads(body)

        assert post("/v1/settle", again) == (200, settled)
        status, given = post("/v1/refunds", back())
        assert (status, given["refunded_credits"]) == (200, "5")
        assert post("/v1/refunds", back()) == (200, given)
        status, problem = post("/v1/refunds", back("f2", "s99"))
        assert (status, problem["code"]) == (404, "settlement_unknown")
        status, problem = post("/v1/settle", {**again, "outcome": "failure"})
        assert (status, problem["code"]) == (409, "hold_resolved")
