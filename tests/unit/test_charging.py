"""What a settlement charges: figures worked out by hand, and bounds that always hold."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_tools import CONTRACT, CREDIT, NOW, USD, request, state
from tallystick.contract.charging import (
    Charge,
    charge_credits,
    credits_charge_pico,
    credits_text,
    is_repeat,
    usage_charge_pico,
)
from tallystick.contract.loader import load_contract

HEAD = 'contract: acme\nversion: "1"\neffective_from: 2026-10-01\n'


def charge(action: str | None, *, plan="credits", held=200, cost=0, **members) -> Charge:
    """`held` credits, `cost` in pico-USD."""
    terms = {"outcome": "success", "environment": "production", "priced": True, "repeat": False, **members}
    return charge_credits(CONTRACT, plan, action, cost_pico=cost, held_pico=held * CREDIT, **terms)


def charged(*args, **members) -> tuple[int, int, int]:
    found = charge(*args, **members)
    return found.charged_pico // CREDIT, found.beyond_pico // CREDIT, found.rounding_pico


@pytest.mark.parametrize(
    ("action", "members", "credits"),
    [
        ("tailor", {"held": 5}, 5),
        ("tailor", {"held": 5, "outcome": "empty"}, 0),
        ("tailor", {"held": 5, "outcome": "failure"}, 0),
        ("email", {"held": 2, "outcome": "empty"}, 2),
        ("email", {"held": 2, "outcome": "failure"}, 0),
        ("tailor", {"held": 5, "environment": "development"}, 0),
        ("tailor", {"held": 5, "environment": "elsewhere"}, 5),
        ("tailor", {"held": 5, "plan": "free"}, 0),
        ("tailor", {"held": 5, "plan": "byok"}, 0),
        ("tailor", {"held": 5, "plan": "byok-wallet"}, 5),
        ("tailor", {"held": 5, "plan": "gold"}, 0),
        ("tailor", {"held": 5, "repeat": True}, 1),
        ("tailor", {"held": 5, "repeat": True, "outcome": "failure"}, 0),
        ("tailor", {"held": 1}, 1),  # held for a repeat, and its time was over when it was settled
        ("tailor", {"held": 0, "repeat": True}, 0),
        ("email", {"held": 2, "repeat": True}, 2),  # again costs what it always does
        (None, {}, 0),
        ("gone", {}, 0),
    ],
)
def test_a_fixed_price_is_charged_for_what_charge_on_names(action, members, credits):
    assert charged(action, **members) == (credits, 0, 0)
    assert charge(action, **members).why.endswith(".")


@pytest.mark.parametrize(
    ("cost", "members", "credits", "beyond", "rounding"),
    [
        (0, {}, 0, 0, 0),
        (USD, {}, 130, 0, 0),  # 1 USD and 30 % is 1.30 USD, and a credit is 0.01 USD
        (1, {}, 1, 0, CREDIT - 130),  # 1 pico-USD is 130 pico-credits
        (7_692_307_692, {}, 1, 0, 40),  # 0.99999999996 credits
        (2 * USD, {}, 200, 0, 0),  # 260, and never more than 200
        (USD, {"held": 50}, 50, 0, 0),
        (USD, {"held": 50, "plan": "open"}, 130, 80, 0),
        (2 * USD, {"held": 50, "plan": "open"}, 200, 150, 0),
        (USD, {"outcome": "failure"}, 0, 0, 0),
        (USD, {"environment": "development"}, 0, 0, 0),
    ],
)
def test_work_priced_by_its_cost_is_charged_in_whole_credits(cost, members, credits, beyond, rounding):
    assert charged("research", cost=cost, **members) == (credits, beyond, rounding)


def test_any_cost_at_all_is_a_whole_credit():
    text = 'credit: {usd: "10"}\nactions: {go: {price: {cost_plus: "0.30"}, max_credits: 5}}\n'
    dear = load_contract(f"{HEAD}{text}plans: {{p: {{kind: credits, top_up: true}}}}\n", "c.yaml")
    terms = {"outcome": "success", "environment": "production", "priced": True, "repeat": False}
    found = charge_credits(dear, "p", "go", cost_pico=1, held_pico=5 * CREDIT, **terms)
    assert (found.charged_pico, found.rounding_pico) == (CREDIT, CREDIT - 1)


def test_what_has_no_price_is_not_charged_and_said():
    found = charge("research", cost=USD, priced=False)
    assert found.charged_pico == 130 * CREDIT
    assert "no price yet" in found.why


def test_a_charge_says_what_bounded_it():
    assert "never more than the most that the action is ever charged" in charge("research", cost=2 * USD).why
    assert "never more than what was reserved" in charge("research", cost=USD, held=50).why
    assert "never more" not in charge("research", cost=USD).why


@given(
    cost=st.integers(0, 10**14),
    held=st.integers(0, 250),
    plan=st.sampled_from(("credits", "open", "free")),
    outcome=st.sampled_from(("success", "empty", "failure")),
    repeat=st.booleans(),
    action=st.sampled_from(("explore", "tailor", "email", "research")),
)
def test_a_charge_is_never_more_than_allowed_and_rounds_by_less_than_a_credit(
    cost, held, plan, outcome, repeat, action
):
    found = charge(action, cost=cost, held=held, plan=plan, outcome=outcome, repeat=repeat)
    most = held * CREDIT if plan != "open" or action != "research" else max(200, held) * CREDIT
    assert 0 <= found.charged_pico <= most
    assert found.beyond_pico == max(0, found.charged_pico - held * CREDIT)
    assert 0 <= found.rounding_pico < CREDIT
    assert found.charged_pico % CREDIT == 0
    if action == "research" and found.charged_pico and not repeat:
        exact = Fraction(cost) * Fraction("1.3") / Fraction("0.01")
        assert found.charged_pico - found.rounding_pico <= exact + 1
        assert found.charged_pico - exact < CREDIT


@given(cost=st.integers(0, 10**13), more=st.integers(0, 10**13), held=st.integers(0, 250))
def test_more_cost_never_charges_less(cost, more, held):
    assert charged("research", cost=cost, held=held)[0] <= charged("research", cost=cost + more, held=held)[0]


def test_a_repeat_is_told_by_its_work_and_its_time():
    tailor = CONTRACT.actions["tailor"]
    again = request(action="tailor", work_key="d1")
    assert is_repeat(tailor, state(finished_at=NOW - timedelta(days=29)), again)
    assert not is_repeat(tailor, state(finished_at=NOW - timedelta(days=30)), again)
    assert not is_repeat(tailor, state(), again)
    assert not is_repeat(tailor, state(finished_at=NOW), request(action="tailor"))
    assert not is_repeat(CONTRACT.actions["email"], state(finished_at=NOW), again)


@pytest.mark.parametrize(
    ("pico", "text"),
    [
        (0, "0 credits"),
        (CREDIT, "1 credit"),
        (1_234_567 * CREDIT, "1,234,567 credits"),
        (CREDIT + CREDIT // 2, "1.5 credits"),
        (1, "0.000000000001 credits"),
        (-CREDIT // 2, "-0.5 credits"),
    ],
)
def test_credits_are_written_exactly(pico, text):
    assert credits_text(pico) == text


def test_credits_count_towards_budgets_at_what_they_are_worth_rounded_up():
    assert credits_charge_pico(CONTRACT, 5 * CREDIT) == 5 * USD // 100
    assert credits_charge_pico(CONTRACT, 1) == 1
    without = load_contract(f"{HEAD}plans: {{p: {{}}}}\n", "c.yaml")
    assert credits_charge_pico(without, 5 * CREDIT) == 0


def test_usage_counts_towards_budgets_at_the_dearest_unit_price():
    prices = """
      tokens_in: {unit: "0.10", per: 1_000_000, includes: [cache_read_tokens]}
      tool_calls: {package: {size: 1000, price: "0.80", free: 10_000}}
      tokens_out: {graduated: [{up_to: 10, unit: "0"}, {unit: "0.30", per: 1_000_000, flat: "50"}]}
      egress_bytes: {unit: "0.000000000001", per: 10}
      web_searches: {cost_plus: "0.30"}
"""
    plan = load_contract(f"{HEAD}plans:\n  p:\n    prices:{prices}", "c.yaml").plans["p"]

    def counted(cost=0, **quantities):
        return usage_charge_pico(plan, quantities, cost)

    assert counted(tokens_in=2, cache_read_tokens=3) == 5 * 100_000
    assert counted(tool_calls=1) == 800_000_000
    assert counted(tokens_out=1) == 300_000
    assert counted(egress_bytes=10) == 10  # a tenth of a pico-USD each is counted as a whole one
    assert counted(web_searches=1, cost=10) == 13
    assert counted(web_searches=1, cost=1) == 2
    assert counted(cost=10, images_generated=3) == 0


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_what_usage_counts_is_the_same_however_entries_are_grouped(quantities):
    plan = CONTRACT.plans["pro"]
    apart = sum(usage_charge_pico(plan, {"tokens_in": quantity}, 0) for quantity in quantities)
    assert apart == usage_charge_pico(plan, {"tokens_in": sum(quantities)}, 0)
