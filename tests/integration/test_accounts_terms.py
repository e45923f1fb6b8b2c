"""What holds for an org besides its plan's prices: limits, budgets, exceptions, standing, and the versions in force."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from accounts import CONTRACT, call, end, give, hold, open_shop
from conftest import NOW
from journal_helpers import raw_event
from tallystick.app.actions import list_actions
from tallystick.app.budgets import list_budgets, remove_budget, set_budget
from tallystick.app.contracts import apply_contract
from tallystick.app.decision_answers import answer_of
from tallystick.app.explain_entry import show_entry
from tallystick.app.ingest import ingest_events
from tallystick.app.limits import show_limits
from tallystick.app.overrides import add_override, list_overrides
from tallystick.app.runtime import Runtime
from tallystick.app.standing import resume, set_mode, show_standing, suspend
from tallystick.app.versions import show_versions
from tallystick.app.wallet import show_wallet
from tallystick.core.errors import BadInput, NotFound, TallyError
from tallystick.journal.migrations import revisions

OVERRIDE = {
    "request_id": "o1",
    "author": "ann",
    "approved_by": "bob",
    "reason": "a trial",
    "expires_at": "2026-12-01T00:00:00Z",
}
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
    assert answer_of(resume(shop, "acme", author="ann"))["keep"] == ["enforcement"]
    suspend(shop, "acme", reason="unpaid", author="ann")
    assert show_standing(shop, "acme") == {"org_id": "acme", "suspended": "unpaid", "enforcement": "shadow"}
    set_mode(shop, "acme", None, author="ann")
    assert show_standing(shop, "acme")["enforcement"] is None


# ── versions and entries ────────────────────────────────────────────────────────────────────────────────────────────


def test_versions_are_those_in_force_and_those_to_come(shop: Runtime) -> None:
    later = CONTRACT.replace('version: "1"', 'version: "2"').replace("2026-10-01T", "2026-12-01T")
    apply_contract(shop, later, "later.yaml")
    found = show_versions(shop)
    assert found["schema_revision"] == revisions()[-1]
    assert len(bytes.fromhex(found["schema_sha256"])) == 32
    assert [(one["contract"], one["version"]) for one in found["contracts"]] == [("shop", "1")]
    assert [(one["version"], one["effective_from"]) for one in found["upcoming"]] == [("2", "2026-12-01T00:00:00Z")]
    assert found["rate_cards"][-1]["version"] == found["rate_version"]
    assert all(len(one["sha256"]) == 64 for one in (*found["rate_cards"], *found["contracts"]))
    give(shop)
    held = hold(shop)
    assert held["versions"]["contract_sha256"] == found["contracts"][0]["sha256"]
    assert held["versions"]["rate_version"] == found["rate_version"]
    assert end(shop, held["hold"]["hold_id"])["versions"] == held["versions"]


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
