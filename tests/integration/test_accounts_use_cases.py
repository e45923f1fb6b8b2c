"""Accounts as use cases: what is granted, decided, charged and given back, and how an org's account is shown."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from accounts import CONTRACT, asked, call, end, give, hold, open_shop
from conftest import NOW
from journal_helpers import count, raw_event
from tallystick.app.actions import list_actions
from tallystick.app.authorize import authorize
from tallystick.app.budgets import list_budgets, remove_budget, set_budget
from tallystick.app.contracts import apply_contract
from tallystick.app.decision_answers import answer_of
from tallystick.app.explain_entry import show_entry
from tallystick.app.grants import grant
from tallystick.app.ingest import ingest_events
from tallystick.app.limits import show_limits
from tallystick.app.orgs import set_subscription
from tallystick.app.overrides import add_override, list_overrides
from tallystick.app.refund import refund
from tallystick.app.release import release
from tallystick.app.runtime import Runtime
from tallystick.app.standing import resume, set_mode, show_standing, suspend
from tallystick.app.versions import show_versions
from tallystick.app.wallet import list_holds, show_wallet, wallet_entries
from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError

OVERRIDE = {
    "request_id": "o1",
    "author": "ann",
    "approved_by": "bob",
    "reason": "a trial",
    "expires_at": "2026-12-01T00:00:00Z",
}
SIGNED = {"request_id": "r1", "author": "ann", "reason": "why not"}
DAILY = "tokens_in+tokens_out per day"


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


# ── limits and budgets ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_limit_counts_what_is_recorded_and_what_is_held(shop: Runtime) -> None:
    events = [
        raw_event("e1", org_id="initech", time="2026-11-02T10:00:00Z", meters={"tokens_in": 100, "tokens_out": 50}),
        raw_event(
            "e2", org_id="initech", time="2026-11-01T22:59:59Z", meters={"tokens_out": 1000}
        ),  # yesterday in Paris
        raw_event("e3", org_id="initech", time="2026-11-02T10:00:00Z", environment="staging", meters={"tokens_in": 9}),
    ]
    assert all(one.status == "accepted" for one in ingest_events(shop, events))
    hold(shop, org_id="initech", action=None, model="gpt-4o", meters={"tokens_in": 30, "tokens_out": 20})
    daily, monthly = show_limits(shop, "initech")["limits"]
    assert (daily["name"], daily["used"], daily["held"], daily["max"], daily["remaining"]) == (
        DAILY,
        150,
        50,
        1000,
        800,
    )
    assert (daily["starts_at"], daily["resets_at"]) == ("2026-11-01T23:00:00Z", "2026-11-02T23:00:00Z")
    assert (monthly["used"], monthly["held"], monthly["warned_at"]) == (1050, 20, "0.5")
    assert monthly["resets_at"] == "2026-11-30T23:00:00Z"


def test_a_limit_that_is_reached_stops_the_next_request_until_it_begins_anew(shop: Runtime) -> None:
    more = {"org_id": "initech", "action": None, "model": "gpt-4o", "meters": {"tokens_in": 600}}
    assert hold(shop, "a1", **more)["decision"]["allow"] is True
    denied = hold(shop, "a2", **more)
    assert denied["decision"]["code"] == "hard_limit_reached"
    assert denied["decision"]["next_step"]["until"] == "2026-11-02T23:00:00Z"
    shop.clock = lambda: NOW + timedelta(hours=11)
    assert hold(shop, "a2", **more)["decision"]["allow"] is True


def test_a_budget_for_each_user_is_spent_by_each(shop: Runtime) -> None:
    give(shop, "1000")
    guard = {"scope": "user", "per": "day", "kind": "hard", "max_usd": "0.005", "author": "ann"}
    set_budget(shop, "acme", "each", guard)
    for user in ("u1", "u2"):
        held = hold(shop, f"a-{user}", user_id=user, model="gpt-4o", meters={"tokens_in": 1000, "tokens_out": 100})
        assert held["decision"]["allow"] is True
    end(shop, "h3", events=[call()])
    lines = {one["subject"]: one for one in show_limits(shop, "acme")["budgets"]}
    assert (lines["u1"]["used_usd"], lines["u1"]["held_usd"]) == ("0.0035", "0")
    assert (lines["u2"]["used_usd"], lines["u2"]["held_usd"]) == ("0", "0.0035")
    assert lines["u1"]["remaining_usd"] == "0.0015"
    again = hold(shop, "a3", user_id="u1", model="gpt-4o", meters={"tokens_in": 1000})
    assert again["decision"]["code"] == "budget_exceeded"
    assert hold(shop, "a4", user_id="u3", model="gpt-4o", meters={"tokens_in": 1000})["decision"]["allow"] is True


def test_a_budget_can_be_replaced_and_taken_away(shop: Runtime) -> None:
    guard = {"per": "month", "kind": "soft", "max_usd": "25", "author": "ann"}
    set_budget(shop, "acme", "cap", guard)
    set_budget(shop, "acme", "cap", {**guard, "max_usd": "30"})
    assert [(one["name"], one["max_usd"]) for one in list_budgets(shop, "acme")] == [("cap", "30")]
    remove_budget(shop, "acme", "cap", "ann")
    assert list_budgets(shop, "acme") == []
    assert show_limits(shop, "acme")["budgets"] == []


# ── exceptions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_exception_raises_a_limit_shows_everywhere_and_ends_by_itself(shop: Runtime) -> None:
    more = {"org_id": "initech", "action": None, "model": "gpt-4o", "meters": {"tokens_in": 1500}}
    assert hold(shop, "a1", **more)["decision"]["code"] == "hard_limit_reached"
    made = add_override(shop, "initech", {**OVERRIDE, "limits": {DAILY: 5000}})
    assert add_override(shop, "initech", {**OVERRIDE, "limits": {DAILY: 5000}}) == made
    name = made["override"]["override_id"]
    allowed = hold(shop, "a2", **more)
    assert (allowed["decision"]["allow"], allowed["decision"]["overrides"]) == (True, [name])
    explained = show_entry(shop, "initech", allowed["entry"]["seq"])
    assert explained["decision"]["overrides"] == [name]
    daily = show_limits(shop, "initech")["limits"][0]
    assert (daily["max"], daily["plan_max"], daily["override_id"]) == (5000, 1000, name)
    (listed,) = list_overrides(shop, "initech")
    assert (listed["approved_by"], listed["limits"], listed["plan"]) == ("bob", {"1": 5000}, "metered")
    shop.clock = lambda: NOW + timedelta(days=29)
    assert list_overrides(shop, "initech") == []
    daily = show_limits(shop, "initech")["limits"][0]
    assert (daily["max"], daily["override_id"]) == (1000, None)
    assert hold(shop, "a3", **more)["decision"]["code"] == "hard_limit_reached"


def test_an_exception_can_bring_credits_that_end_with_it(shop: Runtime) -> None:
    made = add_override(shop, "acme", {**OVERRIDE, "credits": "30"})
    assert (made["grant"]["credits"], made["grant"]["source"]) == ("30", "goodwill")
    assert made["grant"]["expires_at"] == OVERRIDE["expires_at"]
    assert add_override(shop, "acme", {**OVERRIDE, "credits": "30"}) == made
    assert show_wallet(shop, "acme")["available"] == "30"


def test_an_exception_lets_in_an_action_that_the_plan_has_not(shop: Runtime) -> None:
    research = {"org_id": "globex", "action": "research", "model": "gpt-4o", "meters": {"tokens_in": 1000}}
    assert hold(shop, "a1", **research)["decision"]["code"] == "action_not_in_plan"
    add_override(shop, "globex", {**OVERRIDE, "allow_actions": ["research"]})
    assert hold(shop, "a2", **research)["decision"]["allow"] is True


def test_limits_are_named_by_name_or_number(shop: Runtime) -> None:
    made = add_override(shop, "initech", {**OVERRIDE, "limits": {"2": None, DAILY: 7}})
    assert made["override"]["limits"] == {"1": 7, "2": None}
    error = refused(add_override, shop, "initech", {**OVERRIDE, "request_id": "o2", "limits": {"tokens per day": 7}})
    assert isinstance(error, BadInput)
    assert (error.code, DAILY in error.next_step) == ("unknown_limit", True)


# ── standing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_suspended_org_is_denied_everything_until_it_is_taken_up_again(shop: Runtime) -> None:
    give(shop)
    suspend(shop, "acme", reason="unpaid", author="ann")
    denied = hold(shop)
    assert (denied["decision"]["code"], "unpaid" in denied["decision"]["message"]) == ("org_suspended", True)
    resume(shop, "acme", author="ann")
    assert hold(shop)["decision"]["allow"] is True


def test_shadow_mode_lets_pass_and_says_what_enforcement_would_do(shop: Runtime) -> None:
    set_mode(shop, "acme", "shadow", author="ann")
    passed = hold(shop)
    assert (passed["decision"]["allow"], passed["decision"]["shadow"]) == (True, True)
    assert passed["decision"]["enforced"]["code"] == "insufficient_credits"
    assert passed["hold"]["credits"] == "0"
    done = end(shop, passed["hold"]["hold_id"])
    assert done["charged_credits"] == "0"
    what = show_entry(shop, "acme", passed["entry"]["seq"])["what"]
    assert what.endswith("(shadow mode: enforcement would have refused it)")
    suspend(shop, "acme", reason="unpaid", author="ann")
    assert show_standing(shop, "acme") == {"org_id": "acme", "suspended": "unpaid", "enforcement": "shadow"}
    set_mode(shop, "acme", None, author="ann")
    assert show_standing(shop, "acme")["enforcement"] is None


# ── versions and entries ────────────────────────────────────────────────────────────────────────────────────────────


def test_versions_are_those_in_force_and_those_to_come(shop: Runtime) -> None:
    later = CONTRACT.replace('version: "1"', 'version: "2"').replace("2026-10-01T", "2026-12-01T")
    apply_contract(shop, later, "later.yaml")
    found = show_versions(shop)
    assert [(one["contract"], one["version"]) for one in found["contracts"]] == [("shop", "1")]
    assert [(one["version"], one["effective_from"]) for one in found["upcoming"]] == [("2", "2026-12-01T00:00:00Z")]
    assert found["rate_cards"][-1]["version"] == found["rate_version"]
    assert all(len(one["sha256"]) == 64 for one in (*found["rate_cards"], *found["contracts"]))
    give(shop)
    held = hold(shop)
    assert held["versions"]["contract_sha256"] == found["contracts"][0]["sha256"]
    assert held["versions"]["rate_version"] == found["rate_version"]


def test_any_entry_is_explained_with_what_came_of_it(shop: Runtime) -> None:
    give(shop)
    hold(shop)
    end(shop, "h2", events=[call(model="nobody-knows-it")])
    usage = show_entry(shop, "acme", 3)
    assert (usage["kind"], usage["cost_usd"], usage["cost_status"]) == ("usage", None, "unpriced")
    assert "it has no price yet" in usage["what"]
    held = show_entry(shop, "acme", 2)
    assert held["held_from"] == [{"grant_id": "g1", "credits": "5"}]
    assert [one["entry_id"] for one in held["referred_to_by"]] == ["s4"]
    done = show_entry(shop, "acme", 4)
    assert (done["refers_to"], done["events"], done["priced"]) == ("h2", ["e1"], False)


def test_an_org_without_a_plan_has_no_terms_to_show(runtime: Runtime) -> None:
    ingest_events(runtime, [raw_event("e1", org_id="acme")])
    for use in (show_limits, list_actions):
        error = refused(use, runtime, "acme")
        assert isinstance(error, NotFound)
        assert error.code == "no_plan_in_force"
    assert show_wallet(runtime, "acme")["available"] == "0"
