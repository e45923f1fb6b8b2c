"""Accounts as use cases: what is granted, decided, charged and given back, and how an org's account is shown."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from accounts import asked, call, end, give, hold, open_shop
from conftest import NOW
from journal_helpers import count
from tallystick.app.actions import list_actions
from tallystick.app.authorize import authorize
from tallystick.app.budgets import remove_budget
from tallystick.app.decision_answers import answer_of
from tallystick.app.explain_entry import show_entry
from tallystick.app.grants import grant
from tallystick.app.ingest import ingest_events
from tallystick.app.limits import show_limits
from tallystick.app.orgs import set_subscription
from tallystick.app.overrides import add_override
from tallystick.app.refund import refund
from tallystick.app.release import release
from tallystick.app.runtime import Runtime
from tallystick.app.wallet import list_holds, show_wallet, wallet_entries
from tallystick.core.errors import Conflict, TallyError

SIGNED = {"request_id": "r1", "author": "ann", "reason": "why not"}


@pytest.fixture
def shop(runtime: Runtime) -> Runtime:
    """acme pays from a wallet, globex by a month's credits, initech by what it uses."""
    open_shop(runtime, acme="wallet", globex="monthly", initech="metered")
    return runtime


def refused(function: Any, *arguments: Any, **more: Any) -> TallyError:
    with pytest.raises(TallyError) as error:
        function(*arguments, **more)
    return error.value


# ── decisions and charges ───────────────────────────────────────────────────────────────────────────────────────────


def test_work_is_held_charged_and_given_back(shop: Runtime) -> None:
    give(shop)
    held = hold(shop, model="gpt-4o", meters={"tokens_in": 1000, "tokens_out": 200})
    assert held["decision"]["allow"] is True
    assert held["decision"]["quote"]["worst_cost_usd"] == "0.0045"
    assert held["hold"] == {"hold_id": "h2", "expires_at": "2026-11-02T12:15:00Z", "credits": "5"}
    assert held["wallet"] == {"before": {"available": "100", "held": "0"}, "after": {"available": "95", "held": "5"}}
    done = end(shop, "h2", events=[call()])
    assert (done["settlement_id"], done["charged_credits"], done["returned_credits"]) == ("s4", "5", "0")
    assert done["cost_usd"] == "0.0035"
    assert done["wallet"]["after"] == {"available": "95", "held": "0"}
    (receipt,) = done["events"]
    assert (receipt["request_id"], receipt["seq"], receipt["cost_usd"]) == ("e1", 3, "0.0035")
    back = answer_of(
        refund(shop, {"org_id": "acme", "request_id": "f1", "settlement_id": "s4", "author": "ann", "reason": "typo"})
    )
    assert (back["refunded_credits"], back["returned_to"]) == ("5", [{"grant_id": "g1", "credits": "5"}])
    assert show_wallet(shop, "acme")["available"] == "100"


def test_an_event_of_a_settlement_is_the_holds_in_what_it_leaves_out(shop: Runtime) -> None:
    give(shop)
    hold(shop, user_id="u7", session_id="s7", environment="staging", api_key_id="k7")
    end(shop, "h2", events=[call()])
    found = show_entry(shop, "acme", 3)
    assert (found["by"], found["feature"], found["environment"], found["action"]) == ("u7", "docs", "staging", "tailor")


def test_a_failed_run_gives_everything_back(shop: Runtime) -> None:
    give(shop)
    hold(shop)
    done = end(shop, "h2", "failure")
    assert (done["charged_credits"], done["returned_credits"]) == ("0", "5")
    assert show_wallet(shop, "acme")["available"] == "100"


def test_a_cost_plus_action_takes_its_worst_case_and_keeps_what_it_cost(shop: Runtime) -> None:
    give(shop, "500")
    held = hold(shop, action="research", model="gpt-4o", meters={"tokens_in": 100_000, "tokens_out": 100_000})
    assert held["hold"]["credits"] == "163"  # (0.25 + 1.00) USD and 30 % = 1.625 USD, at a cent a credit, rounded up
    done = end(shop, "h2", events=[call(meters={"tokens_in": 10_000, "tokens_out": 1_000})])
    assert (done["cost_usd"], done["charged_credits"], done["returned_credits"]) == ("0.035", "5", "158")
    assert done["rounding_credits"] == "0.45"  # 0.0455 USD are 4.55 credits


def test_each_of_three_same_requests_has_the_same_answer(shop: Runtime) -> None:
    give(shop)
    assert hold(shop) == hold(shop) == hold(shop)
    events = [call()]
    assert end(shop, "h2", events=events) == end(shop, "h2", events=events) == end(shop, "h2", events=events)
    members = {"org_id": "acme", "request_id": "f1", "settlement_id": "s4", "author": "ann", "reason": "typo"}
    first, second = (answer_of(refund(shop, members)) for _ in range(2))
    assert first == second
    assert give(shop) == give(shop)
    assert count(shop, "ledger_entries") == 5


def test_what_is_sent_at_once_by_many_has_one_effect_and_one_answer(shop: Runtime) -> None:
    signed = {"author": "ann", "approved_by": "bob", "reason": "a trial", "expires_at": "2026-12-01T00:00:00Z"}
    exception = {"request_id": "o1", "credits": "3", "allow_models": ["*"], **signed}
    with ThreadPoolExecutor(8) as callers:
        grants = list(callers.map(lambda _: give(shop, source="top_up"), range(8)))
        overrides = list(callers.map(lambda _: add_override(shop, "acme", exception), range(8)))
        holds = list(callers.map(lambda _: hold(shop), range(8)))
        name = holds[0]["hold"]["hold_id"]
        settled = list(callers.map(lambda _: end(shop, name, events=[call()]), range(8)))
    for answers in (grants, overrides, holds, settled):
        assert answers == [answers[0]] * 8
    assert show_wallet(shop, "acme")["available"] == "98"
    assert count(shop, "ledger_entries") == 6  # grant, exception, its grant, hold, call, settlement


def test_other_content_under_the_same_id_is_a_conflict(shop: Runtime) -> None:
    give(shop)
    assert refused(give, shop, "101").code == "request_id_conflict"
    hold(shop)
    assert refused(hold, shop, action="explore").code == "request_id_conflict"
    end(shop, "h2")
    assert refused(end, shop, "h2", "failure").code == "hold_resolved"
    assert show_wallet(shop, "acme")["available"] == "95"


def test_a_denial_claims_no_id_and_says_what_to_do(shop: Runtime) -> None:
    denied = hold(shop)
    assert (denied["hold"], denied["decision"]["code"]) == (None, "insufficient_credits")
    assert denied["decision"]["next_step"]["kind"] == "top_up"
    give(shop)
    assert hold(shop)["decision"]["allow"] is True


def test_what_is_released_goes_back_and_cannot_be_settled(shop: Runtime) -> None:
    give(shop)
    hold(shop)
    members = {"org_id": "acme", "hold_id": "h2", "reason": "the user left"}
    back = answer_of(release(shop, members))
    assert (back["returned_credits"], back["hold_id"], back["reason"]) == ("5", "h2", "the user left")
    assert answer_of(release(shop, members)) == back
    assert refused(end, shop, "h2").code == "hold_resolved"


@pytest.mark.parametrize(
    ("use", "arguments", "code"),
    [
        (end, ("h99",), "hold_unknown"),
        (end, ("h1",), "hold_unknown"),  # a grant
        (release, ({"org_id": "acme", "hold_id": "h99"},), "hold_unknown"),
        (refund, ({"org_id": "acme", "settlement_id": "s1", **SIGNED},), "settlement_unknown"),
        (authorize, (asked(org_id="nobody"),), "unknown_org"),
        (grant, ("nobody", {"source": "promo", "credits": "1", **SIGNED}), "unknown_org"),
        (show_wallet, ("nobody",), "unknown_org"),
        (show_wallet, ("\x00",), "invalid_text"),
        (show_limits, ("nobody",), "unknown_org"),
        (list_actions, ("nobody",), "unknown_org"),
        (list_holds, ("nobody",), "unknown_org"),
        (show_entry, ("acme", 2), "unknown_entry"),
        (show_entry, ("acme", 0), "unknown_entry"),
        (remove_budget, ("acme", "none", "ann"), "budget_unknown"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_said_and_nothing_moves(
    shop: Runtime, use: Any, arguments: tuple[Any, ...], code: str
) -> None:
    give(shop)
    assert refused(use, shop, *arguments).code == code
    assert count(shop, "ledger_entries") == 1


def test_more_than_was_charged_is_not_refunded(shop: Runtime) -> None:
    give(shop)
    hold(shop)
    end(shop, "h2")
    members = {"org_id": "acme", "request_id": "f1", "settlement_id": "s3", "author": "ann", "reason": "typo"}
    assert refused(refund, shop, {**members, "credits": "5.000000000001"}).code == "refund_exceeds_charge"
    answer_of(refund(shop, {**members, "credits": "2"}))
    assert refused(refund, shop, {**members, "request_id": "f2", "credits": "4"}).code == "refund_exceeds_charge"
    rest = answer_of(refund(shop, {**members, "request_id": "f3"}))
    assert rest["refunded_credits"] == "3"


# ── grants ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_credits_cannot_be_bought_where_the_plan_sells_none(shop: Runtime) -> None:
    error = refused(give, shop, org_id="globex", source="top_up")
    assert isinstance(error, Conflict)
    assert (error.code, "wallet" in error.next_step) == ("top_up_not_available", True)
    assert give(shop, org_id="globex", source="goodwill")["source"] == "goodwill"
    assert give(shop, source="top_up")["grant_id"] == "g1"


def test_a_top_up_that_was_taken_is_answered_again_after_a_change_of_plan(shop: Runtime) -> None:
    bought = give(shop, source="top_up")
    set_subscription(shop, "acme", contract="shop", plan="monthly", effective_from=NOW)
    assert give(shop, source="top_up") == bought
    assert refused(give, shop, source="top_up", request_id="g2").code == "top_up_not_available"


def test_credits_that_are_gone_already_cannot_be_granted(shop: Runtime) -> None:
    assert refused(give, shop, expires_at="2026-11-02T12:00:00Z").code == "grant_expired_already"
    assert count(shop, "ledger_entries") == 0


def test_a_grant_is_answered_again_also_after_its_end(shop: Runtime) -> None:
    first = give(shop, expires_at="2026-11-02T13:00:00Z")
    shop.clock = lambda: NOW + timedelta(hours=2)
    assert give(shop, expires_at="2026-11-02T13:00:00Z") == first


# ── the account as it is shown ──────────────────────────────────────────────────────────────────────────────────────


def test_a_wallet_shows_its_grants_in_the_order_in_which_they_burn(shop: Runtime) -> None:
    give(shop, "10", request_id="never")
    give(shop, "20", request_id="late", expires_at="2027-01-01T00:00:00Z")
    give(shop, "30", request_id="soon", expires_at="2026-12-01T00:00:00Z", priority=1)
    give(shop, "40", request_id="first", expires_at="2026-12-01T00:00:00Z")
    wallet = show_wallet(shop, "acme")
    assert [(one["grant_id"], one["available"]) for one in wallet["grants"]] == [
        ("g4", "40"),
        ("g3", "30"),
        ("g2", "20"),
        ("g1", "10"),
    ]
    assert wallet["next_to_expire"] == {"grant_id": "g4", "expires_at": "2026-12-01T00:00:00Z", "available": "40"}
    assert (wallet["available"], wallet["held"]) == ("100", "0")
    balance = {one["account"]: (one["debit"], one["credit"]) for one in wallet["accounts"]}
    assert balance["wallet_available"] == ("0", "100")
    assert balance["promo_expense"] == ("100", "0")


def test_what_is_over_is_gone_from_the_wallet(shop: Runtime) -> None:
    give(shop, "10", expires_at="2026-11-02T12:10:00Z")
    hold(shop)
    shop.clock = lambda: NOW + timedelta(minutes=20)
    wallet = show_wallet(shop, "acme")  # the hold's life is over too, and what it gives back came too late
    assert wallet["held"] == "0"
    assert [one["source"] for one in wallet["grants"]] == ["refund"]
    kinds = [one["kind"] for one in wallet_entries(shop, "acme")["entries"]]
    assert kinds == ["grant", "hold", "expiry", "grant", "expiry"]


def test_a_months_credits_are_in_the_wallet_before_anything_is_asked(shop: Runtime) -> None:
    (one,) = show_wallet(shop, "globex")["grants"]
    assert (one["source"], one["available"], one["expires_at"]) == ("included", "300", "2026-11-30T23:00:00Z")


def test_open_holds_are_listed_until_they_are_resolved(shop: Runtime) -> None:
    give(shop)
    for name in ("a1", "a2", "a3"):
        hold(shop, name, work_key=name)
    end(shop, "h3")
    page = list_holds(shop, "acme", limit=1)
    (first,) = page["holds"]
    assert (first["hold_id"], first["credits"], first["work_key"], first["user_id"]) == ("h2", "5", "a1", "u1")
    rest = list_holds(shop, "acme", cursor=page["next_cursor"])
    assert ([one["hold_id"] for one in rest["holds"]], rest["next_cursor"]) == (["h4"], None)


def test_the_history_says_what_moved_by_whom_and_why(shop: Runtime) -> None:
    give(shop)
    hold(shop, work_key="d1")
    end(shop, "h2")
    hold(shop, "a2", action="nothing")
    entries = wallet_entries(shop, "acme")["entries"]
    assert [(one["entry_id"], one["available_change"], one["held_change"], one["by"]) for one in entries] == [
        ("g1", "100", "0", "ann"),
        ("h2", "-5", "5", "u1"),
        ("s3", "0", "-5", "u1"),
        ("d4", "0", "0", "u1"),
    ]
    assert [one["what"] for one in entries] == [
        "100 credits given as a promotion",
        "action tailor for d1 was allowed; 5 credits reserved until 2026-11-02T12:15:00Z",
        "hold h2 ended in success: 5 credits charged",
        "action nothing was denied: unknown_action",
    ]
    assert entries[0]["why"] == "welcome"
    assert all(one["why"] for one in entries)


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_following_the_cursor_reads_every_operation_once(shop: Runtime, order: Any) -> None:
    give(shop)
    for number in range(4):
        hold(shop, f"a{number}")
        end(shop, f"h{2 * number + 2}")
        ingest_events(shop, [])
    seen: list[int] = []
    cursor = None
    while True:
        page = wallet_entries(shop, "acme", cursor=cursor, limit=2, order=order)
        seen += [one["seq"] for one in page["entries"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == (list(range(1, 10)) if order == "oldest" else list(range(9, 0, -1)))


@pytest.mark.parametrize("cursor", ["", "-1", "0", "x", "9" * 20])
def test_a_cursor_that_was_never_given_out_is_refused(shop: Runtime, cursor: str) -> None:
    assert refused(wallet_entries, shop, "acme", cursor=cursor).code == "invalid_cursor"


def test_the_price_list_is_the_plans(shop: Runtime) -> None:
    listed = {one["action"]: one for one in list_actions(shop, "globex")["actions"]}
    assert (listed["tailor"]["credits"], listed["tailor"]["in_plan"]) == ("5", True)
    assert listed["tailor"]["shows"] == "5 credits, and nothing for a run that fails."
    assert (listed["research"]["credits"], listed["research"]["in_plan"]) == (None, False)
    assert listed["research"]["upgrade_to"] == "wallet"
