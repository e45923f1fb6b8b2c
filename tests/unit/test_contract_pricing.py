"""A period's lines: their order, the one rounding, the true-up, and what is not charged."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tallystick.app.contract_files import reference_text
from tallystick.contract.loader import load_contract
from tallystick.contract.model import COST_ADJUSTMENT
from tallystick.contract.pricing import ChargeLine, not_charged, price_change, price_period
from tallystick.core.errors import BadInput
from tallystick.rates.pricing import ADJUSTMENT

F = Fraction
HEAD = 'contract: acme\nversion: "1"\neffective_from: 2026-10-01\n'
PLANS = load_contract(reference_text(), "reference.yaml").plans


def plan(text: str):
    return load_contract(f"{HEAD}plans:\n  p: {text}\n", "c.yaml").plans["p"]


def summary(lines: tuple[ChargeLine, ...]):
    return [(line.kind, line.meter, line.amount_cents) for line in lines]


def test_lines_come_as_base_fee_then_meters_in_their_order_then_true_up():
    terms = plan(
        '{base: "1", commit: "10", prices: {egress_bytes: {unit: 1}, tokens_out: {unit: 1}, tokens_in: {unit: 1}}}'
    )
    lines = price_period(terms, {"egress_bytes": F(1), "tokens_in": F(2), "tokens_out": F(3)})
    assert summary(lines) == [
        ("base_fee", None, 100),
        ("usage", "tokens_in", 200),
        ("usage", "tokens_out", 300),
        ("usage", "egress_bytes", 100),
        ("commit_true_up", None, 300),
    ]


def test_a_month_on_the_reference_enterprise_plan():
    quantities = {"tokens_in": F(1_200_000_000), "tokens_out": F(600_000_000), "tool_calls": F(12_500)}
    lines = price_period(PLANS["enterprise"], quantities)
    assert summary(lines) == [
        ("usage", "tokens_in", 11_400),
        ("usage", "tokens_out", 18_200),
        ("usage", "tool_calls", 240),
        ("commit_true_up", None, 470_160),
    ]
    assert lines[0].description == (
        "1,200,000,000 tokens_in: tier 1, 1,000,000,000 × 0.10 USD per 1,000,000 = 100.00 USD; "
        "tier 2, 200,000,000 × 0.07 USD per 1,000,000 = 14.00 USD."
    )
    assert lines[2].description == "12,500 tool_calls: 10,000 free; 3 packages of 1,000 × 0.80 USD = 2.40 USD."
    assert lines[3].description == "Minimum commit of 5,000.00 USD less 298.40 USD charged above."


@pytest.mark.parametrize(
    ("exact", "cents", "residue"),
    [
        ("0.005", 0, "0.005"),
        ("0.015", 2, "-0.005"),
        ("0.025", 2, "0.005"),
        ("-0.005", 0, "-0.005"),
        ("0.0149", 1, "0.0049"),
    ],
)
def test_a_line_rounds_once_half_to_even_and_keeps_the_residue(exact, cents, residue):
    (line,) = price_period(plan("{prices: {tool_calls: {unit: 1}}}"), {"tool_calls": F(exact)})
    assert (line.amount_cents, line.residue_usd) == (cents, F(residue))
    assert line.exact_usd == F(line.amount_cents, 100) + line.residue_usd == F(exact)


def test_the_true_up_brings_the_rounded_lines_to_the_commit_exactly():
    terms = plan("{commit: 1, prices: {tool_calls: {unit: 1}, egress_bytes: {unit: 1}, web_searches: {unit: 1}}}")
    sliver = F("0.004")
    lines = price_period(terms, {"tool_calls": sliver, "egress_bytes": sliver, "web_searches": sliver})
    assert sum(line.amount_cents for line in lines) == 100


@pytest.mark.parametrize(("calls", "true_up"), [(8, [("commit_true_up", None, 100)]), (9, []), (10, [])])
def test_the_base_fee_counts_towards_the_commit(calls, true_up):
    terms = plan("{base: 1, commit: 10, prices: {tool_calls: {unit: 1}}}")
    assert summary(price_period(terms, {"tool_calls": F(calls)}))[2:] == true_up


def test_a_commit_is_due_without_any_usage():
    assert summary(price_period(PLANS["enterprise-initech"], {})) == [("commit_true_up", None, 2_000_000)]


def test_a_flat_fee_is_due_for_a_meter_that_was_never_used():
    terms = plan('{prices: {tool_calls: {graduated: [{up_to: 10, flat: "7"}, {unit: 1}]}}}')
    assert summary(price_period(terms, {})) == [("usage", "tool_calls", 700)]


def test_a_meter_without_usage_and_without_charge_has_no_line():
    assert summary(price_period(PLANS["pro"], {})) == [("base_fee", None, 1000)]


def test_included_meters_are_added_up_before_pricing_and_named_on_the_line():
    terms = plan("{prices: {tokens_in: {graduated: [{up_to: 10, unit: 2}, {unit: 1}], includes: [cache_read_tokens]}}}")
    (line,) = price_period(terms, {"tokens_in": F(8), "cache_read_tokens": F(4)})
    assert (line.quantity, line.exact_usd) == (12, 22)
    assert line.parts == (("tokens_in", 8), ("cache_read_tokens", 4))
    assert "8 tokens_in + 4 cache_read_tokens" in line.description


def test_an_included_meter_is_charged_when_the_meter_itself_was_not_used():
    terms = plan("{prices: {tokens_in: {unit: 2, includes: [cache_read_tokens]}}}")
    assert summary(price_period(terms, {"cache_read_tokens": F(4)})) == [("usage", "tokens_in", 800)]


def test_what_has_no_price_is_not_charged_and_not_lost():
    quantities = {"reasoning_tokens": F(5), "tokens_in": F(1), "cache_read_tokens": F(7), "audio_ms": F(0)}
    assert not_charged(PLANS["pro"], quantities) == {"cache_read_tokens": 7, "reasoning_tokens": 5}
    assert summary(price_period(PLANS["pro"], quantities)) == [("base_fee", None, 1000), ("usage", "tokens_in", 0)]


def test_a_share_of_the_cost_is_charged_with_what_is_included():
    terms = plan('{prices: {tokens_in: {cost_plus: "0.30", includes: [tokens_out, provider_cost_adjustment]}}}')
    costs = {"tokens_in": F(1), "tokens_out": F(2), "provider_cost_adjustment": F("-0.5")}
    (line,) = price_period(terms, {"tokens_in": F(10), "tokens_out": F(20)}, costs)
    assert line.exact_usd == F("3.25")


def test_the_part_of_the_cost_that_is_on_no_meter_has_the_name_that_the_ledger_gives_it():
    assert COST_ADJUSTMENT == ADJUSTMENT


def test_an_unknown_cost_is_refused_and_never_taken_for_zero():
    terms = plan('{prices: {tokens_in: {cost_plus: "0.30"}}}')
    with pytest.raises(BadInput) as caught:
        price_period(terms, {"tokens_in": F(10)})
    assert caught.value.code == "cost_unknown"
    assert price_period(terms, {}) == ()


def test_a_change_is_priced_from_the_running_total_without_base_fee_and_true_up():
    (line,) = price_change(PLANS["enterprise"], {"tokens_out": F(1)}, {"tokens_out": F(500_000_000)})
    assert line.exact_usd == F("-150") + F("500000001") * F("0.22") / 1_000_000 + 50
    assert [tier.tier for tier in line.tiers] == [1, 2]


def test_changes_of_a_line_with_includes_start_from_the_sum_of_their_totals():
    terms = plan("{prices: {tokens_in: {graduated: [{up_to: 10, unit: 2}, {unit: 1}], includes: [cache_read_tokens]}}}")
    running = {"tokens_in": F(6), "cache_read_tokens": F(6)}
    (line,) = price_change(terms, {"cache_read_tokens": F(-4)}, running)
    assert line.exact_usd == -2 - 2 * 2


def test_a_credits_plan_charges_its_base_fee_here_and_nothing_else():
    assert summary(price_period(PLANS["credits"], {"tokens_in": F(10**9)})) == [("base_fee", None, 2000)]
