"""The arithmetic of service credits: what counts as down or slow, which steps are reached, and what that comes to."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tallystick.billing.incidents import Incident, holding
from tallystick.billing.sla import (
    Promise,
    SlaResult,
    SlowCount,
    counted_times,
    plan_members,
    plan_sentences,
    sla_credit,
)
from tallystick.billing.spans import microseconds
from tallystick.contract.diff import diff_contracts
from tallystick.contract.loader import load_contract
from tallystick.contract.price_list import price_list
from tallystick.contract.read_sla import SLA_KEYS, SLOW_KEYS
from tallystick.contract.sla import Sla
from tallystick.core.errors import Problems
from tallystick.core.instants import parse_instant
from tallystick.core.periods import month_period

HEAD = 'contract: acme\nversion: "1"\neffective_from: 2026-01-01T00:00:00Z\n'
NOW = datetime(2026, 11, 2, tzinfo=UTC)
OCTOBER = month_period("2026-10")


def rule(text: str) -> Sla:
    sla = load_contract(f"{HEAD}plans: {{pro: {{base: 10, sla: {text}}}}}", "x.yaml").plans["pro"].sla
    assert sla is not None
    return sla


STEPS = 'availability: [{below: "99.9", credit: "0.10"}, {below: "99.0", credit: "0.25"}]'


def promise(text: str = f"{{{STEPS}}}", *, base_cents: int = 10_000, section: int = 1, **changed: Any) -> Promise:
    made = Promise(
        section=section,
        contract="acme",
        contract_version="1",
        contract_sha256="0" * 64,
        plan="pro",
        sla=rule(text),
        times=((OCTOBER.start, OCTOBER.end),),
        base_cents=base_cents,
    )
    return replace(made, **changed)


def incident(number: int, begin: str, end: str, kind: Any = "downtime", **changed: Any) -> Incident:
    start, stop = (parse_instant(f"2026-10-{text}Z") for text in (begin, end))
    return replace(Incident(number, kind, start, stop, None, None, "x", "ann", f"i{number}", NOW), **changed)


def credited(one: Promise, *incidents: Incident, **counts: SlowCount) -> SlaResult:
    return sla_credit([one], incidents, {1: {int(name[1:]): count for name, count in counts.items()}})


HOUR = incident(1, "10T10:00:00", "10T11:00:00")


def test_less_than_what_is_promised_credits_the_deepest_step_that_is_reached() -> None:
    assert credited(promise(), HOUR).credit_cents == 1_000
    # a day of 31 is 96.77 %: the second step, and not both
    assert credited(promise(), incident(1, "10T00:00:00", "11T00:00:00")).credit_cents == 2_500
    assert credited(promise()).credit_cents == 0


def test_exactly_what_is_promised_is_no_breach() -> None:
    # a thousandth of October's 2,678,400 seconds
    kept = incident(1, "10T00:00:00", "10T00:44:38.400000")
    assert credited(promise(), kept).credit_cents == 0
    broken = incident(1, "10T00:00:00", "10T00:44:38.400001")
    assert credited(promise(), broken).credit_cents == 1_000
    (plan,) = credited(promise(), broken).plans
    assert "available for 99.899999 % of the time" in plan_sentences(plan)[0]


def test_what_overlaps_is_down_once_and_what_is_announced_is_not_down() -> None:
    (plan,) = credited(promise(), HOUR, incident(2, "10T10:30:00", "10T11:30:00")).plans
    assert plan.downtime == 90 * 60 * 10**6
    announced = incident(3, "10T10:15:00", "10T10:45:00", "maintenance")
    (plan,) = credited(promise(), announced, HOUR).plans
    assert (plan.downtime, plan.incidents) == (30 * 60 * 10**6, (1, 3))
    # what is announced is time all the same: nothing is promised of fewer minutes
    assert plan.time == 744 * 3600 * 10**6


def test_an_incident_counts_as_far_as_the_plan_was_in_force() -> None:
    half = promise(times=((OCTOBER.start, parse_instant("2026-10-10T10:30:00Z")),))
    (plan,) = credited(half, HOUR).plans
    assert plan.downtime == 30 * 60 * 10**6
    assert credited(half, incident(1, "20T00:00:00", "21T00:00:00")).plans[0].incidents == ()


def test_each_plan_answers_for_its_own_time_with_its_own_charges() -> None:
    change = parse_instant("2026-10-16T00:00:00Z")
    first = promise(times=((OCTOBER.start, change),), base_cents=333)
    second = promise(times=((change, OCTOBER.end),), base_cents=777, section=2)
    assert sla_credit([first, second], [HOUR], {}).credit_cents == 33
    late = incident(2, "20T00:00:00", "20T06:00:00")
    both = sla_credit([first, second], [HOUR, late], {})
    # 33.3 and 194.25 cents are rounded together, once
    assert [one.exact_usd * 100 for one in both.plans] == [Fraction(333, 10), Fraction(77700, 400)]
    assert both.credit_cents == 228


@pytest.mark.parametrize(("base_cents", "credit_cents"), [(5, 0), (15, 2), (25, 2), (35, 4), (0, 0)])
def test_half_a_cent_goes_to_the_even_one(base_cents: int, credit_cents: int) -> None:
    assert credited(promise(base_cents=base_cents), HOUR).credit_cents == credit_cents


SLOW = '{latency: [{over_ms: 2000, share: "0.01", requests: 100, credit: "0.05"}, {minutes: 60, credit: "0.20"}]}'


@pytest.mark.parametrize(
    ("requests", "slow", "credit_cents"), [(1000, 10, 0), (1000, 11, 500), (99, 99, 0), (100, 2, 500), (0, 0, 0)]
)
def test_more_slow_requests_than_promised_of_enough_of_them(requests: int, slow: int, credit_cents: int) -> None:
    assert credited(promise(SLOW), o2000=SlowCount(requests, slow)).credit_cents == credit_cents


def test_recorded_slowness_counts_when_it_was_longer_and_neither_down_nor_announced() -> None:
    slow = incident(2, "10T10:00:00", "10T12:00:00", "latency")
    assert credited(promise(SLOW), slow).credit_cents == 2_000
    assert credited(promise(SLOW), slow, HOUR).credit_cents == 0, "an hour of it was down, and an hour is promised"
    announced = incident(3, "10T11:00:00", "10T11:00:01", "maintenance")
    assert credited(promise(SLOW), slow, announced).plans[0].slow_time == 7199 * 10**6
    # of the steps of latency, the larger credit counts alone
    assert credited(promise(SLOW), slow, o2000=SlowCount(100, 100)).credit_cents == 2_000


def test_availability_and_latency_are_added_up_to_the_cap() -> None:
    text = f'{{{STEPS}, latency: [{{over_ms: 5, share: 0, credit: "0.30"}}], cap: "0.35"}}'
    assert credited(promise(text), HOUR, o5=SlowCount(9, 1)).credit_cents == 3_500
    (plan,) = credited(promise(text), HOUR, o5=SlowCount(9, 1)).plans
    assert "That is 35 % at most." in plan_sentences(plan)


def test_what_is_promised_of_one_feature_is_broken_by_it_alone() -> None:
    text = f"{{{STEPS}, features: [chat]}}"
    assert credited(promise(text), replace(HOUR, feature="search")).credit_cents == 0
    assert credited(promise(text), replace(HOUR, feature="chat")).credit_cents == 1_000
    assert credited(promise(text), HOUR).credit_cents == 1_000, "everything was down, and chat with it"
    assert credited(promise(), replace(HOUR, feature="search")).credit_cents == 1_000, "everything is promised"


def test_requests_count_without_maintenance() -> None:
    announced = incident(3, "10T11:00:00", "10T12:00:00", "maintenance")
    times = counted_times(promise(SLOW), [announced, HOUR])
    assert microseconds(times) == (744 - 1) * 3600 * 10**6
    assert len(times) == 2


@pytest.mark.parametrize(
    ("label", "hours"), [("2026-03", 743), ("2026-04", 720), ("2026-10", 745), ("2026-02", 672), ("2028-02", 696)]
)
def test_a_month_has_its_real_minutes(label: str, hours: int) -> None:
    month = month_period(label, "Europe/Paris")
    whole = promise(times=((month.start, month.end),))
    down = replace(HOUR, start=month.start, end=month.end)
    (plan,) = credited(whole, down).plans
    assert (plan.time, plan.downtime) == (hours * 3600 * 10**6, hours * 3600 * 10**6)


def test_an_hour_that_a_clock_shows_twice_is_down_for_two() -> None:
    month = month_period("2026-10", "Europe/Paris")
    twice = incident(
        1, "25T00:00:00", "25T02:00:00"
    )  # 02:00 to 03:00 on the clocks of Paris, with the hour that is gained
    (plan,) = credited(promise(times=((month.start, month.end),)), twice).plans
    assert plan.downtime == 2 * 3600 * 10**6


def test_a_record_holds_until_a_later_one_takes_it_back() -> None:
    replacing = incident(2, "10T10:00:00", "10T10:20:00", replaces=1)
    withdrawing = incident(3, "10T10:00:00", "10T10:20:00", "withdrawal", replaces=2)
    records = [withdrawing, HOUR, replacing]
    assert holding(records) == []
    assert holding(records, through=2) == [replacing]
    assert holding(records, through=1) == [HOUR]
    assert holding(records, through=0) == []


def test_the_arithmetic_is_said_line_by_line() -> None:
    (plan,) = credited(promise(SLOW[:-1] + f", {STEPS}}}"), HOUR, o2000=SlowCount(1200, 13)).plans
    assert plan_sentences(plan) == [
        "60 minutes of 44,640 minutes were down: available for 99.865591 % of the time.",
        "0 minutes are recorded as slow.",
        "13 of 1,200 requests took longer than 2,000 ms.",
        "Availability below 99.9 %: 10 %.",
        "More than 1 % of requests slower than 2,000 ms, of 100 at least: 5 %.",
        "15 % of the month's charges, 100.00 USD, is 15.00 USD.",
    ]
    members = plan_members(plan)
    assert (members["downtime_seconds"], members["share"], members["exact_usd"]) == ("3600", "0.15", "15")


# ── the rule in the contract ────────────────────────────────────────────────────────────────────────────────────────


def test_a_plans_own_promise_replaces_the_contracts_and_null_takes_it_away() -> None:
    plans = (
        "plans: {pro: {base: 10}, free: {sla: null}, gold: {extends: pro, sla: {latency: [{minutes: 0, credit: 1}]}}"
    )
    contract = load_contract(
        f"{HEAD}sla: {{{STEPS}}}\n{plans}, platinum: {{extends: gold}}, trial: {{extends: free}}}}", "x"
    )
    promised = {name: plan.sla for name, plan in contract.plans.items()}
    assert promised["pro"] == rule(f"{{{STEPS}}}")
    assert promised["gold"] == promised["platinum"] == rule("{latency: [{minutes: 0, credit: 1}]}")
    assert promised["free"] is None
    assert promised["trial"] is None


def test_a_change_of_the_contracts_promise_shows_in_every_plan_that_it_reaches() -> None:
    plans = "plans: {pro: {base: 10}, free: {sla: null}, gold: {sla: {latency: [{minutes: 0, credit: 1}]}}}"
    old, new = (load_contract(f"{HEAD}{promised}\n{plans}", "x") for promised in ("", f"sla: {{{STEPS}}}"))
    said = [change.sentence() for change in diff_contracts(old, new)]
    assert said == [
        "plans.pro.sla.availability: added: availability below 99.9 %: 10 % credited; "
        "availability below 99 %: 25 % credited",
        "plans.pro.sla.cap: added: at most 100 % of the month's charges",
    ]
    assert "credited  at most 100 % of the month's charges" in price_list(new, "pro")
    assert "credited" not in price_list(new, "free")


def test_the_documented_contract_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sla.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(contract: .*?)```", page, flags=re.DOTALL)
    plans = load_contract(text, "sla.md").plans
    assert plans["pro"].sla is not None
    assert plans["free"].sla is None
    for key in (*SLA_KEYS, *SLOW_KEYS):
        assert f"`{key}`" in page, key


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{cap: 1}", "missing_key"),
        ("{availability: []}", "missing_value"),
        ('{availability: [{below: "0.999", credit: "0.1"}]}', "invalid_share"),
        ('{availability: [{below: "100.1", credit: "0.1"}]}', "invalid_share"),
        ("{availability: [{below: 99.9, credit: 0.1}]}", "invalid_decimal"),
        ('{availability: [{below: "99", credit: "0"}]}', "too_small"),
        ('{availability: [{below: "99", credit: "1.01"}]}', "invalid_share"),
        ('{availability: [{below: "99", credit: "0.1"}, {below: "99.9", credit: "0.2"}]}', "steps_out_of_order"),
        ('{availability: [{below: "99.9", credit: "0.2"}, {below: "99", credit: "0.2"}]}', "steps_out_of_order"),
        ("{latency: [{over_ms: 5, share: 1, credit: 1}]}", "invalid_share"),
        ("{latency: [{over_ms: 0, share: 0, credit: 1}]}", "too_small"),
        ("{latency: [{share: 0, credit: 1}]}", "missing_key"),
        ("{latency: [{minutes: 5, share: 0, credit: 1}]}", "unknown_key"),
        ("{latency: [{minutes: 5, credit: 0.5}, {minutes: 4, credit: 0.6}]}", "steps_out_of_order"),
        ("{latency: [{minutes: 5, credit: 1}], cap: 0}", "too_small"),
        ("{latency: [{minutes: 5, credit: 1}], base: all}", "unknown_value"),
        ("{latency: [{minutes: 5, credit: 1}], features: [a, a]}", "duplicate_value"),
        ("{latency: [{minutes: 5, credit: 1}], uptime: 5}", "unknown_key"),
    ],
)
def test_a_rule_that_means_nothing_is_refused_with_its_line(text: str, code: str) -> None:
    with pytest.raises(Problems) as refused:
        load_contract(f"{HEAD}plans:\n  pro:\n    sla: {text}\n", "x.yaml")
    assert [one.code for one in refused.value.problems] == [code]
    assert "x.yaml:6: plans.pro.sla" in (refused.value.problems[0].where or "")
