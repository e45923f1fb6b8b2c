"""What holds for every request, whatever is asked: there is an answer, and a denial shows a way on that helps."""

from __future__ import annotations

from datetime import timedelta
from typing import get_args

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_tools import CONTRACT, CREDIT, NOW, SHADOW, budget, override, use
from tallystick.contract.decision import Decision, OrgState, ReasonCode, Request
from tallystick.contract.policy import DENIALS, decide, reserves
from tallystick.contract.policy_terms import matches

NAMES = st.one_of(st.sampled_from((*CONTRACT.actions, "")), st.text(max_size=20))
MODELS = st.one_of(st.sampled_from(("gpt-5", "gpt-5-mini", "claude-opus-4", "bad-mini", "*")), st.text(max_size=20))
PLANS = st.one_of(st.none(), st.sampled_from((*CONTRACT.plans, "gold", "")))
COSTS = st.one_of(st.none(), st.just(0), st.integers(0, 10**14))
METERS = st.dictionaries(
    st.sampled_from(("tokens_in", "tokens_out", "images_generated", "tool_calls", "web_searches", "made_up")),
    st.one_of(st.integers(0, 3000), st.integers(0, 10**12)),
)
REQUESTS = st.builds(
    Request,
    feature=st.just("chat"),
    environment=st.sampled_from(("production", "development", "elsewhere")),
    user_id=st.just("u1"),
    action=st.one_of(st.none(), NAMES),
    model=st.one_of(st.none(), MODELS),
    work_key=st.one_of(st.none(), st.just("d1")),
    meters=METERS,
    worst_cost_pico=COSTS,
    payer=st.sampled_from(("seller", "customer")),
)
USES = st.builds(use, st.integers(0, 4), st.integers(0, 3000), st.integers(0, 300))
BUDGETS = st.builds(
    budget,
    st.integers(0, 20),
    st.integers(0, 20),
    of=st.sampled_from(("cost", "charge")),
    kind=st.sampled_from(("hard", "soft")),
)
OVERRIDES = st.builds(
    override,
    st.integers(1, 9),
    limits=st.dictionaries(st.integers(0, 4), st.integers(-1, 5000)),
    plan=st.one_of(st.none(), st.sampled_from(("free", "pro"))),
    allow_actions=st.lists(NAMES, max_size=2).map(tuple),
    allow_models=st.lists(st.sampled_from(("*", "gpt-5", "*-mini")), max_size=2).map(tuple),
    allow_overspend=st.booleans(),
)
STATES = st.builds(
    OrgState,
    now=st.just(NOW),
    suspended=st.one_of(st.none(), st.none(), st.just("unpaid")),
    available_pico=st.one_of(st.integers(0, 20 * CREDIT), st.integers(0, 10**15)),
    held_pico=st.integers(0, 10**13),
    limits=st.lists(USES, max_size=3).map(tuple),
    budgets=st.lists(BUDGETS, max_size=3).map(tuple),
    overrides=st.lists(OVERRIDES, max_size=2).map(tuple),
    next_grant_at=st.one_of(st.none(), st.just(NOW + timedelta(days=9))),
    finished_at=st.one_of(st.none(), st.just(NOW - timedelta(days=1)), st.just(NOW - timedelta(days=31))),
    enforcement=st.sampled_from((None, None, None, "enforce", "shadow")),
)


def check_whole(decision: Decision) -> None:
    assert decision.message
    assert decision.code in get_args(ReasonCode)
    assert decision.allow == (decision.code == "allowed") == (decision.code not in DENIALS)
    assert (decision.next_step.kind == "none") == decision.allow
    assert decision.next_step.text
    assert decision.quote.credits_pico >= decision.quote.reserve_pico >= 0
    assert (decision.enforced is None) != decision.shadow
    if decision.enforced is not None:
        assert decision.allow
        assert decision.enforced.allow == (decision.enforced.code == "allowed")
        assert (decision.enforced.next_step.kind == "none") == decision.enforced.allow


@settings(max_examples=120)
@given(PLANS, STATES, REQUESTS)
def test_whatever_is_asked_there_is_an_answer_and_a_denial_shows_a_way_on(plan, state, request):
    decision = decide(CONTRACT, plan, state, request)
    check_whole(decision)
    assert decision == decide(CONTRACT, plan, state, request)
    if not decision.allow:
        assert decision.code in DENIALS
    assert min(reserves(CONTRACT, plan, request, decision.quote)) >= 0


@settings(max_examples=120)
@given(PLANS, STATES, REQUESTS)
def test_shadow_mode_lets_pass_and_says_what_enforcement_would_have_answered(plan, state, request):
    state = msgspec.structs.replace(state, enforcement=None)
    enforced = decide(CONTRACT, plan, msgspec.structs.replace(state, enforcement="enforce"), request)
    shadow = decide(SHADOW, plan, state, request)
    check_whole(shadow)
    assert shadow.enforced is not None
    said = (shadow.enforced.allow, shadow.enforced.code, shadow.enforced.message, shadow.enforced.next_step)
    assert said == (enforced.allow, enforced.code, enforced.message, enforced.next_step)
    assert (shadow.quote, shadow.limits) == (enforced.quote, enforced.limits)


@settings(max_examples=120)
@given(PLANS, STATES, REQUESTS, st.integers(0, 10**15))
def test_more_credits_never_turn_a_yes_into_a_no(plan, state, request, more_pico):
    richer = msgspec.structs.replace(state, available_pico=state.available_pico + more_pico)
    if decide(CONTRACT, plan, state, request).allow:
        assert decide(CONTRACT, plan, richer, request).allow


@settings(max_examples=120)
@given(PLANS, STATES, REQUESTS)
def test_what_a_denial_asks_to_be_topped_up_is_enough(plan, state, request):
    decision = decide(CONTRACT, plan, state, request)
    if decision.next_step.kind != "top_up" or decision.next_step.credits_pico is None:
        return
    topped_up = msgspec.structs.replace(state, available_pico=state.available_pico + decision.next_step.credits_pico)
    assert decide(CONTRACT, plan, topped_up, request).allow
    short = msgspec.structs.replace(topped_up, available_pico=topped_up.available_pico - CREDIT)
    assert not decide(CONTRACT, plan, short, request).allow


@settings(max_examples=120)
@given(PLANS, STATES, REQUESTS, st.integers(0, 2))
def test_using_less_never_turns_a_yes_into_a_no(plan, state, request, index):
    if not state.limits or not decide(CONTRACT, plan, state, request).allow:
        return
    limits = list(state.limits)
    at = index % len(limits)
    limits[at] = msgspec.structs.replace(limits[at], used=limits[at].used // 2)
    assert decide(CONTRACT, plan, msgspec.structs.replace(state, limits=tuple(limits)), request).allow


@settings(max_examples=120)
@given(PLANS, STATES, REQUESTS)
def test_overrides_only_ever_help_and_those_named_made_the_difference(plan, state, request):
    without = decide(CONTRACT, plan, msgspec.structs.replace(state, overrides=()), request)
    decision = decide(CONTRACT, plan, state, request)
    if without.allow:
        assert decision.allow
    if decision.overrides:
        assert decision.enforced is not None or (decision.allow and not without.allow)
        assert set(decision.overrides) <= {each.seq for each in state.overrides}


@settings(max_examples=120)
@given(PLANS, STATES, REQUESTS)
def test_an_allowed_request_fits_its_hard_limits_and_its_wallet(plan, state, request):
    decision = decide(CONTRACT, plan, state, request)
    if not decision.allow or decision.shadow:
        return
    assert decision.quote.reserve_pico <= state.available_pico
    for one in decision.limits:
        if one.kind == "hard" and one.requested and one.max != -1 and one.what == "limit":
            assert one.used + one.held + one.requested <= one.max


@given(st.lists(st.sampled_from(["a", "b", "*"]), max_size=8), st.text("ab", max_size=8))
def test_patterns_match_as_a_plain_search_would(pattern, name):
    def fits(left: str, right: str) -> bool:
        if not left:
            return not right
        if left[0] == "*":
            return any(fits(left[1:], right[at:]) for at in range(len(right) + 1))
        return bool(right) and left[0] == right[0] and fits(left[1:], right[1:])

    assert matches(("".join(pattern),), name) == fits("".join(pattern), name)


def test_the_ends_of_a_pattern_do_not_share_characters():
    assert matches(("ab*ba",), "abba")
    assert not matches(("ab*ba",), "aba")
    assert not matches(("a*b*a",), "ab")


def test_a_pattern_of_many_stars_is_still_matched_at_once():
    assert not matches(("*a" * 100 + "b",), "a" * 500)
