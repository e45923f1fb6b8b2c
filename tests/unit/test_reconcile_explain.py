"""A difference is explained from evidence alone, and where there is none it says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from provider_exports import bucket, cost, page, result, seconds, text
from tallystick.app.cards import load_card_history
from tallystick.rates.card import RateCard
from tallystick.reconcile.compare import Asked, Comparison, Naming, compare
from tallystick.reconcile.explain import Finding, explain
from tallystick.reconcile.ledger_days import Group, LedgerDays, Rate, Sums
from tallystick.reconcile.openai import CLASSES
from tallystick.reconcile.reading import read_export

DAY = date(2026, 10, 9)


@cache
def card() -> RateCard:
    return load_card_history(Path("/nonexistent")).latest


def ledger(day: date = DAY, model: str = "gpt-4o", **more: Any) -> LedgerDays:
    """What the ledger has: ten requests of 100 tokens in and 10 out, and whatever else is said."""
    days = LedgerDays()
    add(days, day, model, **more)
    return days


def add(
    days: LedgerDays,
    day: date = DAY,
    model: str = "gpt-4o",
    *,
    payer: Any = "seller",
    failed: bool = False,
    **more: Any,
) -> Sums:
    sums = days.of(Group("acme", day, "openai", model, payer, "production", failed))
    sums.requests = 10
    sums.quantities.update({"tokens_in": 1000, "tokens_out": 100})
    sums.costs.update({"tokens_in": 2_500_000_000, "tokens_out": 1_000_000_000})
    sums.tiers[""] = 10
    for name, value in more.items():
        setattr(sums, name, value)
    return sums


def usage(day: date = DAY, model: str | None = "gpt-4o", **used: Any) -> dict[str, Any]:
    row = result(model, **{"input_tokens": 1000, "output_tokens": 100, "num_model_requests": 10, **used})
    return bucket(seconds(day), seconds(day) + 86_400, [row])


def found(days: LedgerDays, *buckets: dict[str, Any], **asked: Any) -> tuple[Comparison, list[Finding]]:
    """The comparison, and what explains its first difference."""
    export = read_export("openai", [("x", text(page(list(buckets))))], {})
    what = Asked(**asked)
    comparison = compare(export, days, Naming(card().names, "openai"), what)
    findings = explain(comparison, CLASSES, what)
    first = (comparison.differing or list(comparison.cells.values()))[0]
    return comparison, findings[first.key]


def codes(*given: Any, **asked: Any) -> list[str]:
    return [one.code for one in found(*given, **asked)[1]]


def test_what_is_equal_needs_no_words() -> None:
    comparison, findings = found(ledger(), usage())
    assert (comparison.differing, findings) == ([], [])


@pytest.mark.parametrize(
    ("days", "given", "expected"),
    [
        (ledger, usage(output_tokens=90), ["unexplained"]),
        (lambda: ledger(partial=1), usage(output_tokens=120), ["partial"]),
        (
            lambda: ledger(requests=11, silent_failures=1),
            usage(num_model_requests=11),
            ["more_calls_there", "silent_failures"],
        ),
        (lambda: ledger(requests=11, silent_failures=1), usage(), []),
        (ledger, usage(batch=True, output_tokens=99), ["tiers"]),
        (ledger, usage(num_model_requests=9), ["more_calls_here"]),
        (lambda: ledger(model="gpt-4o-mini"), usage(), ["more_calls_there"]),
        (lambda: ledger(adjusted=2), usage(output_tokens=90), ["adjusted", "unexplained"]),
        (
            lambda: ledger(model="never-heard"),
            usage(model="never-heard", output_tokens=90),
            ["unknown_model", "unexplained"],
        ),
    ],
)
def test_each_cause_is_known_by_its_evidence(
    days: Callable[[], LedgerDays], given: dict[str, Any], expected: list[str]
) -> None:
    assert codes(days(), given) == expected


def test_calls_that_customers_paid_for_are_named() -> None:
    days = ledger()
    add(days, payer="customer")
    assert codes(days, usage(num_model_requests=20, input_tokens=2000, output_tokens=200)) == [
        "more_calls_there",
        "customers",
    ]
    both = {"payers": frozenset({"seller", "customer"})}
    assert found(days, usage(num_model_requests=20, input_tokens=2000, output_tokens=200), **both)[0].differing == []


def test_failures_that_used_something_are_counted_with_the_others() -> None:
    days = ledger()
    add(days, failed=True)
    assert found(days, usage(num_model_requests=20, input_tokens=2000, output_tokens=200))[0].differing == []
    text_of = found(days, usage(num_model_requests=10))[1][0].text
    assert text_of.endswith("10 of those here failed, which the provider may not count")


def test_an_opposite_difference_of_the_next_day_is_no_midnight_without_calls_near_it() -> None:
    next_day = DAY + timedelta(days=1)
    given = (usage(num_model_requests=9, output_tokens=90), usage(next_day, num_model_requests=11, output_tokens=110))
    days = ledger()
    add(days, next_day)
    assert codes(days, *given) == ["more_calls_here"]
    days = ledger(late=1)
    add(days, next_day)
    assert codes(days, *given) == ["more_calls_here", "midnight"]
    days = ledger(late=1)
    add(days, next_day)
    assert "midnight" not in codes(days, given[0], usage(next_day, num_model_requests=11, output_tokens=111))


def test_prices_are_compared_class_by_class_where_the_export_tells_them_apart() -> None:
    rates = {("tokens_out", Rate("card-1", 10 * 10**12, 10**6)): 100}
    day = usage()
    day["results"] += [cost("gpt-4o, input", "#0.0025#"), cost("gpt-4o, output", "#0.002#")]
    comparison, findings = found(ledger(rates=rates), day)
    assert [one.code for one in findings] == ["price"]
    assert findings[0].text == (
        "tokens_out: the provider charges 0.002 USD, 20 for a million, and here it cost 0.001 USD, "
        "at 10 for 1,000,000 tokens_out (card card-1)"
    )
    (cell,) = comparison.differing
    assert cell.cost is not None
    assert cell.cost.gap_pico == 10**9


def test_a_price_is_no_cause_where_quantities_differ() -> None:
    day = usage(output_tokens=200)
    day["results"] += [cost("gpt-4o, input", "#0.0025#"), cost("gpt-4o, output", "#0.002#")]
    assert codes(ledger(), day) == ["unexplained"]


@pytest.mark.parametrize(
    ("value", "code", "equal"),
    [
        ("#0.0035#", None, True),
        ("#0.00350000000000001#", "rounding", True),
        ("#0.004#", "rounding", True),
        ("#0.0041#", "price", False),
    ],
)
def test_rounding_is_half_of_the_last_digit(value: str, code: str | None, equal: bool) -> None:
    day = usage()
    day["results"].append(cost("gpt-4o, all", value))
    comparison, findings = found(ledger(), day)
    assert comparison.differing == [] if equal else comparison.differing != []
    assert [one.code for one in findings] == ([] if code is None else [code])


def test_tolerances_are_shares_of_the_providers_figure_or_amounts() -> None:
    assert found(ledger(), usage(output_tokens=101), tolerance=Fraction(1, 100))[0].differing == []
    assert found(ledger(), usage(output_tokens=102), tolerance=Fraction(1, 100))[0].differing != []
    day = usage()
    day["results"].append(cost("gpt-4o, all", "#0.0041#"))
    assert found(ledger(), day, tolerance_pico=600_000_000)[0].differing == []
    assert found(ledger(), day, tolerance_pico=500_000_000)[0].differing != []


def test_what_has_no_price_is_never_equal_to_a_cost() -> None:
    day = usage()
    day["results"].append(cost("gpt-4o, all", "#0.0035#"))
    assert codes(ledger(unpriced=1), day) == ["unpriced"]


def test_days_that_the_export_is_not_of_are_not_compared() -> None:
    days = ledger()
    add(days, DAY - timedelta(days=1))
    assert found(days, usage())[0].differing == []
    assert [key.day for key in found(days, usage())[0].cells] == [DAY]
    since = DAY + timedelta(days=1)
    comparison, _ = found(days, usage(output_tokens=5), usage(since), since=since)
    assert [(key.day, cell.is_equal) for key, cell in comparison.cells.items()] == [(since, False)]


def test_meters_that_the_export_does_not_state_are_not_compared() -> None:
    days = ledger()
    days.of(Group("acme", DAY, "openai", "whisper-1", "seller", "production", False)).quantities["audio_ms"] = 5
    days.of(next(iter(days.groups))).quantities["egress_bytes"] = 100
    assert found(days, usage())[0].differing == []


def test_usage_without_models_is_compared_as_a_whole() -> None:
    days = ledger()
    add(days, model="gpt-4o-mini")
    comparison, _ = found(days, usage(model=None, num_model_requests=20, input_tokens=2000, output_tokens=200))
    assert [(key.model, cell.is_equal) for key, cell in comparison.cells.items()] == [("*", True)]
