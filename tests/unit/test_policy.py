"""The policy as a table: one case and more for each reason, with its status, its sentence and its next step."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, get_args

import pytest

from policy_tools import (
    CONTRACT,
    CREDIT,
    MONTH_END,
    NOW,
    SHADOW,
    TONIGHT,
    USD,
    ask,
    budget,
    override,
    request,
    state,
    use,
)
from tallystick.contract.decision import Decision, OrgState, ReasonCode, Request
from tallystick.contract.loader import load_contract
from tallystick.contract.policy import DENIALS, HTTP_STATUS, decide, reserves
from tallystick.core.money import PICO_PER_USD


@dataclass(frozen=True)
class Case:
    """`step` is the kind of the next step, and what a program needs of it: plan, model, until, credits."""

    plan: str | None
    state: OrgState
    asked: dict[str, Any]
    code: ReasonCode
    message: str
    step: tuple[Any, ...]
    quote: tuple[int, ...] = field(default=())


IN = "tokens_in"
CASES = {
    "an org on no plan": Case(None, state(), {}, "unknown_plan", "The org is on no plan.", ("contact",)),
    "a plan that the contract does not have": Case(
        "gold", state(), {"action": "tailor"}, "unknown_plan", "The contract has no plan 'gold'.", ("contact",)
    ),
    "a suspended org": Case(
        "credits", state(50, suspended="unpaid"), {"action": "tailor"}, "org_suspended",
        "The org is suspended: 'unpaid'.", ("contact",),
    ),
    "a slip in an action's name": Case(
        "small", state(50), {"action": "tailr"}, "unknown_action",
        "The contract has no action 'tailr'.", ("fix_request",),
    ),
    "an action that a plan higher up has": Case(
        "small", state(500), {"action": "research"}, "action_not_in_plan",
        "The plan Small does not include the action 'Research'.", ("upgrade", "credits"),
    ),
    "an action, and no plan higher up": Case(
        "tiny", state(500), {"action": "research"}, "action_not_in_plan",
        "The plan Tiny does not include the action 'Research'.", ("use_action",),
    ),
    "an action, on a plan that has none": Case(
        "closed", state(500), {"action": "tailor"}, "action_not_in_plan",
        "The plan Closed does not include the action 'Tailor a document'.", ("contact",),
    ),
    "a model, and the rules name one": Case(
        "small", state(50), {"model": "gpt-4o"}, "model_not_in_plan",
        "The plan Small does not include the model 'gpt-4o'.", ("use_model", "gpt-5"),
    ),
    "a denied model that an allowed pattern fits": Case(
        "small", state(50), {"model": "claude-opus-4"}, "model_not_in_plan",
        "The plan Small does not include the model 'claude-opus-4'.", ("use_model", "gpt-5"),
    ),
    "a model, and the rules name none": Case(
        "tiny", state(50), {"model": "gpt-4o"}, "model_not_in_plan",
        "The plan Tiny does not include the model 'gpt-4o'.", ("use_model",),
    ),
    "patterns tell capitals apart": Case(
        "tiny", state(50), {"model": "gpt-4o-MINI"}, "model_not_in_plan",
        "The plan Tiny does not include the model 'gpt-4o-MINI'.", ("use_model",),
    ),
    "work priced by its cost, and the cost is unknown": Case(
        "credits", state(500), {"action": "research", "model": "new-1", "worst_cost_pico": None}, "unpriced_model",
        "The price of the model 'new-1' is not known, and what this would cost must be.", ("use_model",),
    ),
    "a hard budget of cost, and the cost is unknown": Case(
        "pro", state(None, budgets=(budget(10),)), {"model": "new-1", "worst_cost_pico": None}, "unpriced_model",
        "The price of the model 'new-1' is not known, and what this would cost must be.", ("use_model",),
    ),
    "a hard budget of charges, of a price that follows the cost": Case(
        "pro", state(None, budgets=(budget(10, of="charge"),)),
        {"meters": {"web_searches": 1}, "worst_cost_pico": None}, "unpriced_model",
        "The price of this is not known, and what this would cost must be.", ("use_model",),
    ),
    "more than is left of a limit, and a plan higher up has room": Case(
        "free", state(None, 900, 0), {"meters": {IN: 60, "tokens_out": 50}}, "hard_limit_reached",
        "The plan Free allows 1,000 tokens_in + tokens_out per day: 900 are used; this asks for 110.",
        ("upgrade", "pro", TONIGHT),
    ),
    "more than is left of a limit, and the plan higher up has none of it left either": Case(
        "free", state(None, 1000, 0), {"meters": {"tokens_out": 1001}}, "hard_limit_reached",
        "The plan Free allows 1,000 tokens_in + tokens_out per day: 1,000 are used; this asks for 1,001.",
        ("fix_request",),
    ),
    "a limit that is used up, and nothing said of how much more": Case(
        "pro", state(None, 2000, 0), {}, "hard_limit_reached",
        "The plan Pro allows 2,000 tokens_out per day: 2,000 are used.", ("wait", TONIGHT),
    ),
    "a limit that waits with what is held": Case(
        "pro", state(None, limits=(use(0, 1000, 900), use(1))), {"meters": {"tokens_out": 101}}, "hard_limit_reached",
        "The plan Pro allows 2,000 tokens_out per day: 1,000 are used and 900 held; this asks for 101.",
        ("wait", TONIGHT),
    ),
    "more than the limit itself": Case(
        "pro", state(None, 0, 0), {"meters": {"tokens_out": 2001}}, "hard_limit_reached",
        "The plan Pro allows 2,000 tokens_out per day: 0 are used; this asks for 2,001.", ("fix_request",),
    ),
    "what the plan has none of": Case(
        "free", state(None, 0, 0), {"meters": {"images_generated": 1}}, "hard_limit_reached",
        "The plan Free allows 0 images_generated per day: 0 are used; this asks for 1.", ("upgrade", "pro"),
    ),
    "a budget of cost": Case(
        "credits", state(50, budgets=(budget(10, 9),)),
        {"action": "tailor", "meters": {IN: 1}, "worst_cost_pico": 2 * USD}, "budget_exceeded",
        "The budget 'guard' allows 10 USD per month: 9 USD are used; this asks for 2 USD.", ("wait", MONTH_END),
    ),
    "a budget that is spent, and nothing said of how much more": Case(
        "pro", state(None, budgets=(budget(10, 10),)), {"model": "gpt-5"}, "budget_exceeded",
        "The budget 'guard' allows 10 USD per month: 10 USD are used.", ("wait", MONTH_END),
    ),
    "a budget of nothing": Case(
        "pro", state(None, budgets=(budget(0),)), {"model": "gpt-5"}, "budget_exceeded",
        "The budget 'guard' allows 0 USD per month: 0 USD are used.", ("contact",),
    ),
    "a budget of cost counts uncharged environments": Case(
        "pro", state(None, 5000, 5000, budgets=(budget(10, 10),)), {"environment": "development", "model": "gpt-5"},
        "budget_exceeded", "The budget 'guard' allows 10 USD per month: 10 USD are used.", ("wait", MONTH_END),
    ),
    "a budget of charges, in credits": Case(
        "credits", state(500, budgets=(budget(1, of="charge"),)), {"action": "research"}, "budget_exceeded",
        "The budget 'guard' allows 1 USD per month: 0 USD are used; this asks for 2 USD.", ("contact",),
    ),
    "a budget of charges, in quantities": Case(
        "pro", state(None, budgets=(budget(1, of="charge"),)), {"meters": {IN: 10_000_001}}, "budget_exceeded",
        "The budget 'guard' allows 1 USD per month: 0 USD are used; this asks for 1.0000001 USD.", ("contact",),
    ),
    "too few credits, and they can be topped up": Case(
        "credits", state(3), {"action": "tailor"}, "insufficient_credits",
        "This needs 5 credits; available: 3 credits.", ("top_up", 2 * CREDIT), (5, 5),
    ),
    "a fraction of a credit too few": Case(
        "credits", state(available_pico=4 * CREDIT + 1, held_pico=2 * CREDIT), {"action": "tailor"},
        "insufficient_credits",
        "This needs 5 credits; available: 4.000000000001 credits, and 2 credits held for work that is under way.",
        ("top_up", CREDIT),
    ),
    "too few credits, and no top-up, with a plan higher up": Case(
        "small", state(3, next_grant_at=MONTH_END), {"action": "tailor"}, "top_up_not_available",
        "This needs 5 credits; available: 3 credits, and the plan cannot be topped up.",
        ("upgrade", "credits", MONTH_END),
    ),
    "too few credits, and no top-up, and the next grant has enough": Case(
        "tiny", state(3, next_grant_at=MONTH_END), {"action": "tailor"}, "top_up_not_available",
        "This needs 5 credits; available: 3 credits, and the plan cannot be topped up.", ("wait", MONTH_END),
    ),
    "too few credits, and the next grant has too few too": Case(
        "tiny", state(3, next_grant_at=MONTH_END, overrides=(override(7, allow_actions=("research",)),)),
        {"action": "research"}, "top_up_not_available",
        "This needs 200 credits; available: 3 credits, and the plan cannot be topped up.", ("contact",),
    ),
    "an action on a plan without a wallet, and the plan higher up includes credits for it": Case(
        "starter", state(0), {"action": "tailor"}, "action_not_in_plan",
        "The plan Starter does not include the action 'Tailor a document'.", ("upgrade", "small"),
    ),
    "several limits at once, and the plan higher up has room by the tightest figure known": Case(
        "two", state(None, limits=(use(0, 90), use(1, 9), use(2, 0))), {"meters": {"tokens_out": 11}},
        "hard_limit_reached",
        "The plan Two allows 100 tokens_in + tokens_out per day: 90 are used; this asks for 11.", ("upgrade", "more"),
    ),
    "several limits at once, and the last of them to begin anew": Case(
        "two", state(None, limits=(use(0, 100), use(1, 10), use(2, 20, resets_at=MONTH_END))),
        {"meters": {"tokens_out": 10}}, "hard_limit_reached",
        "The plan Two allows 100 tokens_in + tokens_out per day: 100 are used; this asks for 10.",
        ("upgrade", "more", MONTH_END),
    ),
    "too few credits, and nobody knows when more come": Case(
        "tiny", state(3), {"action": "tailor"}, "top_up_not_available",
        "This needs 5 credits; available: 3 credits, and the plan cannot be topped up.", ("contact",),
    ),
}  # fmt: skip


CEILING = load_contract(
    """
contract: ceiling
version: "1"
effective_from: 2026-10-01T00:00:00Z
plans:
  denies: {models: {deny: ["claude-opus*", "*-pro", "ab*ba"]}}
  allows: {models: {allow: ["*"], deny: ["GPT-5"]}}
""",
    "ceiling.yaml",
)


@pytest.mark.parametrize(
    ("plan", "model", "allowed"),
    [
        ("denies", "claude-sonnet-4", True),
        ("denies", "claude-opus-4", False),
        ("denies", "Claude-OPUS-4", False),
        ("denies", "anthropic/claude-opus-4", False),
        ("denies", "a/b/Claude-Opus", False),
        ("denies", "my-claude-opus", True),
        ("denies", "o1-PRO", False),
        ("denies", "o1-pro/o1", True),
        ("denies", "abba", False),
        ("denies", "aba", True),
        ("allows", "gpt-5", False),
        ("allows", "openai/gpt-5", False),
        ("allows", "gpt-5-mini", True),
    ],
)
def test_a_denied_model_is_not_had_by_writing_its_name_otherwise(plan: str, model: str, allowed: bool) -> None:
    decision = decide(CEILING, plan, OrgState(now=NOW), Request(feature="f", environment="x", user_id="u", model=model))
    assert decision.allow == allowed
    assert allowed or decision.code == "model_not_in_plan"


CHAIN = load_contract(
    """
contract: chain
version: "1"
effective_from: 2026-10-01T00:00:00Z
plans:
  one: {upgrade_to: two, models: {allow: ["small*"]}}
  two: {upgrade_to: three, models: {allow: ["small*", "medium*"]}}
  three: {upgrade_to: one, models: {allow: ["large*"]}}
""",
    "chain.yaml",
)


@pytest.mark.parametrize(("model", "plan"), [("medium", "two"), ("large", "three"), ("huge", None)])
def test_the_next_plan_that_would_help_is_looked_for_all_the_way_up(model: str, plan: str | None) -> None:
    decision = decide(CHAIN, "one", OrgState(now=NOW), Request(feature="f", environment="x", user_id="u", model=model))
    assert decision.next_step.plan == plan


@pytest.mark.parametrize("name", CASES)
def test_a_denial_says_why_and_what_to_do_now(name):
    case = CASES[name]
    decision = ask(case.plan, case.state, **case.asked)
    step = decision.next_step
    needed = (step.plan, step.model, step.until, step.credits_pico)
    assert not decision.allow
    assert (decision.code, decision.message) == (case.code, case.message)
    assert (step.kind, *(value for value in needed if value is not None)) == case.step
    assert step.text.endswith(".")
    if case.quote:
        assert (decision.quote.credits_pico // CREDIT, decision.quote.reserve_pico // CREDIT) == case.quote


def test_every_reason_has_a_case_and_a_status():
    reasons = set(get_args(ReasonCode)) - {"allowed"}
    assert {case.code for case in CASES.values()} == reasons == set(DENIALS)
    assert set(DENIALS.values()) == set(HTTP_STATUS)


def test_reasons_are_looked_for_in_their_order():
    """Everything that can be wrong is; mending the first thing shows the next."""
    bad = {"action": "resarch", "model": "gpt-4o", "worst_cost_pico": None, "meters": {"tokens_out": 5}}
    where: dict[str, Any] = {"suspended": "unpaid", "budgets": (budget(0),)}
    seen = []
    for plan, mended_state, mended_request in [
        ("gold", {}, {}),
        ("small", {}, {}),
        ("small", {"suspended": None}, {}),
        ("small", {}, {"action": "research"}),
        ("small", {}, {"action": "tailor"}),
        ("small", {}, {"model": "gpt-5"}),
        ("small", {}, {"worst_cost_pico": 1}),
        ("small", {"budgets": ()}, {}),
        ("credits", {}, {}),
        ("credits", {"available_pico": 5 * CREDIT}, {}),
    ]:
        where |= mended_state
        bad |= mended_request
        seen.append(ask(plan, state(**where), **bad).code)
    expected = [code for code in get_args(ReasonCode)[1:] if code not in {"hard_limit_reached"}]
    expected.remove("insufficient_credits")
    assert seen == [*expected, "insufficient_credits", "allowed"]
    both = state(None, 0, 0, budgets=(budget(0),))
    assert ask("free", both, meters={"images_generated": 1}, worst_cost_pico=1).code == "hard_limit_reached"


ALLOWED: dict[str, tuple[str, OrgState, dict[str, Any]]] = {
    "exactly what is left of a limit": ("free", state(None, 900, 0), {"meters": {IN: 60, "tokens_out": 40}}),
    "nothing more of a limit that is passed": ("free", state(None, 1500, 0), {"meters": {IN: 0}}),
    "another meter than the limit's": ("free", state(None, 1500, 0), {"meters": {"tool_calls": 3}}),
    "a limit of nothing, and nothing said": ("free", state(None, 0, 0), {}),
    "a soft limit that is passed": ("pro", state(None, 0, 501), {"meters": {IN: 1}}),
    "exactly the credits that there are": ("credits", state(5), {"action": "tailor"}),
    "a free action on an empty wallet": ("credits", state(0), {"action": "explore"}),
    "an action where no wallet pays": ("free", state(0, 0, 0), {"action": "tailor"}),
    "credits and limits are not looked at where nothing is charged": (
        "credits", state(0, budgets=(budget(0, of="charge"),)), {"action": "research", "environment": "development"}
    ),
    "a budget of charges where nothing is charged": (
        "pro", state(None, budgets=(budget(1, 1, of="charge"),)), {"environment": "development", "model": "gpt-5"}
    ),
    "an unknown price where nothing is charged": (
        "credits", state(0), {"action": "research", "environment": "development", "worst_cost_pico": None}
    ),
    "an unknown price of a fixed price's work": ("credits", state(5), {"action": "tailor", "worst_cost_pico": None}),
    "the customer's own key, whatever it costs": (
        "byok", state(0, budgets=(budget(0),)), {"action": "research", "payer": "customer", "worst_cost_pico": None}
    ),
    "a request without a model": ("tiny", state(5), {"action": "tailor"}),
    "a soft budget that is spent": ("pro", state(None, budgets=(budget(1, 5, kind="soft"),)), {"model": "gpt-5"}),
    "a free action under a budget of charges that is spent": (
        "credits", state(0, budgets=(budget(1, 1, of="charge"),)), {"action": "explore"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
def test_what_nothing_stands_against_is_allowed(name):
    plan, where, asked = ALLOWED[name]
    decision = ask(plan, where, **asked)
    assert (decision.allow, decision.code, decision.next_step.kind) == (True, "allowed", "none")
    assert decision.overrides == ()
    assert decision.message.startswith("Allowed")


@pytest.mark.parametrize(
    ("model", "allowed"),
    [
        ("gpt-5-mini", True),
        ("-mini", True),
        ("gpt-5-mini-2026", False),
        ("gemini-2.5-flash", True),
        ("gemini-2.5-flash-lite", True),
        ("flash", False),
        ("bad-mini", False),
        ("a?-mini", True),
        ("", False),
        ("gpt.mini", False),
    ],
)
def test_a_star_stands_for_any_run_of_characters_and_all_else_for_itself(model, allowed):
    assert ask("tiny", state(5), action="tailor", model=model).allow is allowed


def test_limits_and_budgets_that_were_looked_at_are_shown():
    where = state(None, 700, 0, budgets=(budget(10, 4),))
    limit, guard = ask("free", where, meters={IN: 100}, worst_cost_pico=6 * USD).limits
    assert (limit.name, limit.what, limit.kind, limit.per) == ("tokens_in+tokens_out per day", "limit", "hard", "day")
    assert (limit.used, limit.held, limit.requested, limit.max, limit.exceeded) == (700, 0, 100, 1000, False)
    assert (limit.warned_at, limit.resets_at) == (Fraction(4, 5), TONIGHT)
    assert (guard.name, guard.what, guard.requested, guard.warned_at) == ("guard", "budget", 6 * USD, 1)


def test_a_limit_warns_at_the_largest_share_that_is_reached():
    for used, warned_at in ((499, None), (500, Fraction(1, 2)), (799, Fraction(1, 2)), (800, Fraction(4, 5))):
        assert ask("free", state(None, used, 0), meters={IN: 0}).limits[0].warned_at == warned_at


def quoted(plan: str, where: OrgState, **asked) -> tuple[int, int, bool]:
    found = ask(plan, where, **asked).quote
    return found.credits_pico // CREDIT, found.reserve_pico // CREDIT, found.repeat


def test_the_quote_of_work_at_a_fixed_price_is_the_price():
    assert quoted("credits", state(9), action="tailor") == (5, 5, False)
    assert ask("credits", state(9), action="tailor").quote.shows == "5 credits."


@pytest.mark.parametrize(
    ("worst_cost_pico", "credits"),
    [
        (0, 200),  # nothing is said of how much it takes
        (USD, 130),  # 1 USD and 30 % are 130 credits
        (USD + 1, 131),
        (1, 1),
        (5 * USD, 200),
    ],
)
def test_the_quote_of_work_priced_by_its_cost_is_the_worst_case(worst_cost_pico, credits):
    asked = {"action": "research", "meters": {IN: 1}, "worst_cost_pico": worst_cost_pico}
    assert quoted("credits", state(200), **asked) == (credits, credits, False)
    assert "at most" in ask("credits", state(200), **asked).message


def test_the_same_finished_work_again_has_its_own_price_within_its_time():
    asked = {"action": "tailor", "work_key": "doc-1"}
    month = CONTRACT.actions["tailor"].repeat.within
    moment = NOW.resolution
    assert quoted("credits", state(9, finished_at=NOW), **asked) == (1, 1, True)
    assert quoted("credits", state(9, finished_at=NOW - month + moment), **asked) == (1, 1, True)
    assert quoted("credits", state(9, finished_at=NOW - month), **asked) == (5, 5, False)
    assert quoted("credits", state(9), **asked) == (5, 5, False)
    assert quoted("credits", state(9, finished_at=NOW), action="tailor") == (5, 5, False)
    assert ask("credits", state(0, finished_at=NOW), **asked).code == "insufficient_credits"


def test_nothing_is_quoted_where_no_wallet_pays():
    for plan, asked in [
        ("free", {"action": "tailor"}),
        ("byok", {"action": "tailor"}),
        ("credits", {"action": "tailor", "environment": "development"}),
        ("credits", {"model": "gpt-5"}),
        ("byok-wallet", {"action": "research", "payer": "customer", "worst_cost_pico": USD}),
    ]:
        assert quoted(plan, state(0, 0, 0), **asked) == (0, 0, False)
    assert quoted("byok-wallet", state(9), action="tailor", payer="customer") == (5, 5, False)


def test_a_hold_reserves_our_cost_and_what_the_customer_is_charged():
    def reserved(plan, **asked):
        sent = request(**asked)
        return reserves(CONTRACT, plan, sent, decide(CONTRACT, plan, state(500), sent).quote)

    assert reserved("credits", action="tailor", worst_cost_pico=7) == (7, 5 * USD // 100)
    assert reserved("credits", action="tailor", worst_cost_pico=7, environment="development") == (7, 0)
    assert reserved("pro", meters={IN: 30, "tokens_out": 5}, worst_cost_pico=7) == (7, 30 * PICO_PER_USD // 10**7)
    assert reserved("pro", meters={"web_searches": 1}, worst_cost_pico=10) == (10, 13)
    assert reserved("byok", meters={"tool_calls": 2}, worst_cost_pico=9, payer="customer") == (0, 2 * USD // 1000)


# ── overrides ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("plan", "where", "bends", "asked"),
    [
        ("free", state(None, 1000, 0), {"limits": {0: 1100}}, {"meters": {IN: 100}}),
        ("free", state(None, 1000, 0), {"limits": {0: -1}}, {"meters": {IN: 10**9}}),
        ("free", state(None, 1000, 0), {"limits": {0: 1100}, "plan": "free"}, {"meters": {IN: 100}}),
        ("small", state(500), {"allow_actions": ("research",)}, {"action": "research"}),
        ("small", state(5), {"allow_models": ("claude-opus-*",)}, {"action": "tailor", "model": "claude-opus-4"}),
        ("pro", state(None, budgets=(budget(1, 1),)), {"allow_overspend": True}, {"model": "gpt-5"}),
        (
            "pro", state(None, budgets=(budget(1, 1),)), {"allow_overspend": True},
            {"model": "new-1", "worst_cost_pico": None},
        ),
    ],
)  # fmt: skip
def test_an_override_bends_the_plan_and_is_named_by_the_decision(plan, where, bends, asked):
    assert not ask(plan, where, **asked).allow
    members = {name: getattr(where, name) for name in where.__struct_fields__}
    bent = OrgState(**{**members, "overrides": (override(7, **bends), override(9))})
    decision = ask(plan, bent, **asked)
    assert decision.allow
    if asked.get("worst_cost_pico", 0) is not None:
        assert decision.overrides == (7,)


@pytest.mark.parametrize(
    "bends",
    [
        {"limits": {0: 10}},  # lower than the plan's, which holds on
        {"limits": {0: 2000}, "plan": "pro"},  # another plan's limit
        {"limits": {1: 2000, 5: -1}},
        {"allow_actions": ("research",)},
    ],
)
def test_an_override_that_changes_nothing_is_not_named(bends):
    where = state(None, 500, 0, overrides=(override(7, **bends),))
    decision = ask("free", where, meters={IN: 500})
    assert (decision.allow, decision.overrides, decision.limits[0].max) == (True, (), 1000)
    assert ask("free", where, meters={IN: 501}).code == "hard_limit_reached"


def test_an_override_that_was_not_needed_is_not_named():
    where = state(None, 500, 0, overrides=(override(7, limits={0: 2000}),))
    for tokens, named in ((500, ()), (501, (7,)), (1500, (7,))):
        decision = ask("free", where, meters={IN: tokens})
        assert (decision.allow, decision.overrides, decision.limits[0].max) == (True, named, 2000)


def test_an_override_that_was_not_enough_is_not_named():
    decision = ask("small", state(0, overrides=(override(7, allow_actions=("research",)),)), action="research")
    assert (decision.code, decision.overrides) == ("top_up_not_available", ())


def test_an_override_gives_no_credits_and_lifts_no_suspension():
    bend = override(7, limits={0: -1}, allow_actions=("tailor",), allow_models=("*",), allow_overspend=True)
    assert ask("credits", state(0, overrides=(bend,)), action="tailor").code == "insufficient_credits"
    assert ask("credits", state(9, suspended="x", overrides=(bend,)), action="tailor").code == "org_suspended"


def test_a_lifted_limit_is_shown_as_one():
    decision = ask("free", state(None, 9000, 0, overrides=(override(3, limits={0: -1}),)), meters={IN: 5})
    (limit,) = decision.limits
    assert (limit.max, limit.exceeded, limit.warned_at, decision.overrides) == (-1, False, None, (3,))


# ── shadow mode ─────────────────────────────────────────────────────────────────────────────────────────────────────


def shadowed(decision: Decision) -> tuple[bool, bool, str | None]:
    return decision.allow, decision.shadow, None if decision.enforced is None else decision.enforced.code


def test_in_shadow_mode_a_denial_is_let_pass_and_told_of():
    asked = request(action="tailor")
    enforced = decide(CONTRACT, "credits", state(0), asked)
    decision = decide(SHADOW, "credits", state(0), asked)
    assert shadowed(decision) == (True, True, "insufficient_credits")
    assert (decision.code, decision.quote) == ("allowed", enforced.quote)
    assert enforced.message in decision.message
    assert decision.enforced is not None
    assert (decision.enforced.allow, decision.enforced.next_step) == (False, enforced.next_step)
    assert decision.next_step.kind == "none"
    assert shadowed(decide(SHADOW, "credits", state(9), asked)) == (True, True, "allowed")


@pytest.mark.parametrize("plan", [None, "gold", "tiny", "free"])
def test_in_shadow_mode_everything_passes(plan):
    where = state(0, 10**6, 10**6, suspended="unpaid", budgets=(budget(0),))
    assert decide(SHADOW, plan, where, request(action="nonsense", model="x", worst_cost_pico=None)).allow


def test_the_orgs_mode_goes_before_the_plans_and_the_plans_before_the_contracts():
    asked = request(action="research")
    assert shadowed(decide(CONTRACT, "trial", state(0), asked)) == (True, True, "action_not_in_plan")
    assert shadowed(decide(CONTRACT, "trial", state(0, enforcement="enforce"), asked)) == (False, False, None)
    assert shadowed(decide(CONTRACT, "small", state(0, enforcement="shadow"), asked))[:2] == (True, True)
    assert shadowed(decide(SHADOW, "small", state(0, enforcement="enforce"), asked)) == (False, False, None)


# ── what goes with every decision ───────────────────────────────────────────────────────────────────────────────────


def test_a_decision_names_the_terms_that_were_asked():
    decision = ask("free", state(None, 0, 0))
    assert (decision.contract, decision.contract_version, decision.plan) == ("acme", "1", "free")
    assert decision.contract_sha256 == CONTRACT.sha256
    assert ask(None, state()).plan == ""


def test_long_names_are_not_repeated_whole():
    decision = ask("tiny", state(5), model="x" * 100_000)
    assert len(decision.message) < 300
    assert len(ask("tiny", state(5), action="y" * 100_000).next_step.text) < 500
