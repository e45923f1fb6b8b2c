"""What each rule of alerts finds, case by case."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tallystick.alerts.allowances import Allowance, allowance_condition
from tallystick.alerts.balance import Balance, balance_condition, pace_pico, runs_out_at
from tallystick.alerts.bills import OverdueInvoice, unpaid_condition
from tallystick.alerts.model import RULES, customers_figures
from tallystick.alerts.preferences import LEVELS, Preferences, QuietHours, preferences_json, read_preferences
from tallystick.alerts.spend import drivers_of, spend_condition, usual_of
from tallystick.alerts.upkeep import (
    JobFacts,
    job_condition,
    job_conditions,
    rollup_condition,
    seal_condition,
    stopped_for,
)
from tallystick.core.errors import BadInput

USD = 10**12
MONDAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DEFAULTS = Preferences()


def days(count: int, cost: int, *, before: date = MONDAY) -> dict[date, int]:
    return {before - timedelta(days=place): cost * USD for place in range(1, count + 1)}


# ── spending ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("costs", "cost", "level"),
    [
        (days(28, 10), 18, None),
        (days(28, 10), 20, 0),  # the threshold itself is none yet: above 10 + max(6·0, 10, 10)
        (days(28, 10), 21, 1),
        (days(28, 10), 41, 2),
        (days(28, 1), 11, 0),  # eleven times as much, and a sum that nobody minds
        (days(28, 1000), 1999, 0),
        (days(28, 1000), 2001, 1),
        ({}, 11, 1),  # nothing is usual
        (days(28, 10) | days(3, 900), 21, 1),  # a few odd days move nothing
        (days(28, 10) | {MONDAY - timedelta(days=7): 900 * USD}, 21, 1),
        (days(28, 10) | {MONDAY - timedelta(days=place): 500 * USD for place in (1, 2, 8, 9)}, 21, 1),  # weekends
    ],
)
def test_a_spike_is_far_above_days_of_its_kind(costs: dict[date, int], cost: int, level: int | None) -> None:
    usual = usual_of(MONDAY, MONDAY - timedelta(days=60), costs, DEFAULTS)
    assert usual is not None
    found = spend_condition("acme", MONDAY, cost * USD, usual, ())
    assert (None if found is None else found.level) == level


def test_a_day_that_is_as_the_same_day_of_other_weeks_is_no_spike() -> None:
    """What comes every Monday is no surprise, however little the other days cost."""
    mondays = {MONDAY - timedelta(days=7 * place): 100 * USD for place in range(1, 5)}
    for others in ({}, days(28, 10)):
        usual = usual_of(MONDAY, MONDAY - timedelta(days=60), others | mondays, DEFAULTS)
        assert usual is not None
        found = [spend_condition("acme", MONDAY, cost * USD, usual, ()) for cost in (100, 150, 201)]
        assert [None if one is None else one.level for one in found] == [None, None, 1]
        assert usual.median_pico == 100 * USD
        tuesday = MONDAY + timedelta(days=1)
        quiet = usual_of(tuesday, MONDAY - timedelta(days=60), others | mondays, DEFAULTS)
        assert quiet is not None
        assert quiet.threshold_pico <= 20 * USD


def test_days_that_vary_have_a_higher_threshold_than_days_that_do_not() -> None:
    varied = {day: cost + (place % 5) * 4 * USD for place, (day, cost) in enumerate(days(28, 10).items())}
    usual = usual_of(MONDAY, MONDAY - timedelta(days=60), varied, DEFAULTS)
    assert usual is not None
    assert (usual.median_pico, usual.mad_pico, usual.threshold_pico) == (18 * USD, 4 * USD, 42 * USD)


def test_what_is_usual_needs_days_and_a_weekend_has_weekends_of_its_own() -> None:
    assert usual_of(MONDAY, MONDAY - timedelta(days=6), days(6, 10), DEFAULTS) is None
    young = usual_of(MONDAY, MONDAY - timedelta(days=7), days(7, 10), DEFAULTS)
    assert young is not None
    assert len(young.days) == 5  # of working days there are enough
    saturday = date(2026, 11, 28)
    weekend = usual_of(saturday, saturday - timedelta(days=60), days(28, 10, before=saturday), DEFAULTS)
    assert weekend is not None
    assert {day.weekday() for day in weekend.days} == {5, 6}
    assert len(weekend.days) == 8


def test_drivers_are_the_three_that_grew_most_and_their_parts_are_exact() -> None:
    history = [(MONDAY - timedelta(days=place), "chat", "a", 3 * USD) for place in range(1, 8)]
    today = [(MONDAY, "chat", "a", 4 * USD), (MONDAY, "chat", "b", 40 * USD), (MONDAY, "search", "b", 5 * USD)]
    today += [(MONDAY, "less", "a", 0), (MONDAY, "tiny", "a", 1)]
    usual_days = {day for day, *_ in history}
    found = drivers_of(usual_days, MONDAY, [*history, *today])
    assert [(one.feature, one.model, one.increase_pico) for one in found] == [
        ("chat", "b", 40 * USD), ("search", "b", 5 * USD), ("chat", "a", USD),
    ]  # fmt: skip
    usual = usual_of(MONDAY, MONDAY - timedelta(days=60), days(28, 3), DEFAULTS)
    assert usual is not None
    condition = spend_condition("acme", MONDAY, 49 * USD, usual, found)
    assert condition is not None
    assert "16.3 times" in condition.summary
    assert "chat with b (86 %)" in condition.summary
    theirs = str(customers_figures(condition.figures)) + condition.summary
    assert "usd" not in theirs
    assert "our_" not in theirs


# ── credits ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("lots", "pace", "days_left", "lost"),
    [
        ([(70, None)], 10, 7, 0),
        ([(70, None), (30, None)], 10, 10, 0),
        ([(100, 3), (50, None)], 10, 8, 70),  # what a short-lived lot has left at its end is gone
        ([(20, 3), (50, None)], 10, 7, 0),
        ([(50, None), (20, 3)], 10, 7, 0),  # whichever order they come in
        ([(30, 2), (30, 3), (10, 9)], 10, 4, 30),
        ([], 10, 0, 0),
        ([(10**9, None)], 10, None, 0),
    ],
)
def test_the_projected_date_burns_lots_that_end_first(
    lots: list[tuple[int, int | None]], pace: int, days_left: int | None, lost: int
) -> None:
    given = [(amount * USD, None if ends is None else NOW + timedelta(days=ends)) for amount, ends in lots]
    at, gone = runs_out_at(given, pace * USD, NOW)
    assert at == (None if days_left is None else NOW + timedelta(days=days_left))
    assert gone == lost * USD


def test_the_pace_is_of_the_last_days_and_a_first_hour_is_no_day() -> None:
    today = NOW.date()
    assert pace_pico({}, NOW) == 0
    assert pace_pico({today - timedelta(days=8): 100 * USD}, NOW) == 0
    assert pace_pico({today: 6 * USD}, NOW) == 6 * USD
    week = {today - timedelta(days=place): 13 * USD for place in range(7)}
    assert pace_pico(week, NOW) == 14 * USD  # 91 credits in six and a half days


@pytest.mark.parametrize(
    ("available", "spent", "refilled_days", "wanted", "level"),
    [
        (100, 0, None, {}, None),  # who spends nothing runs out of nothing
        (0, 0, None, {}, None),
        (200, 10, None, {}, None),
        (85, 10, None, {}, 0),
        (70, 10, None, {}, 1),
        (10, 10, None, {}, 2),
        (0, 10, None, {}, 2),
        (70, 10, 5, {}, None),  # the next month's credits are there by then
        (40, 10, 5, {}, 1),
        (0, 10, 5, {}, 2),
        (100, 0, None, {"balance_pico": 101 * USD}, 1),
        (100, 0, None, {"balance_pico": 90 * USD}, 0),
        (70, 10, None, {"balance_days": 3}, None),
    ],
)
def test_a_balance_is_low_when_it_runs_out_soon(
    available: int, spent: int, refilled_days: int | None, wanted: dict[str, Any], level: int | None
) -> None:
    refilled = None if refilled_days is None else NOW + timedelta(days=refilled_days)
    lots = ((available * USD, None),) if available else ()
    found = balance_condition(Balance("acme", lots, {NOW.date(): spent * USD}, refilled), NOW, Preferences(**wanted))
    assert (None if found is None else found.level) == level


def test_credits_that_are_held_are_there_still_and_said_to_be_held() -> None:
    lots, spent = ((5 * USD, None),), {NOW.date(): 10 * USD}
    assert balance_condition(Balance("acme", lots, spent, held_pico=200 * USD), NOW, DEFAULTS) is None
    found = balance_condition(Balance("acme", (), spent, held_pico=20 * USD), NOW, DEFAULTS)
    assert found is not None
    assert (found.level, found.figures["available_credits"], found.figures["held_credits"]) == (1, "0", "20")
    assert found.summary.startswith("20 credits are left, all of them held")
    part = balance_condition(Balance("acme", lots, spent, held_pico=20 * USD), NOW, DEFAULTS)
    assert part is not None
    assert part.summary.startswith("25 credits are left, 20 credits of them held")


# ── limits, budgets, invoices ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("used", "most", "level", "severity"),
    [
        (0, 100, None, None),
        (47, 100, None, None),
        (48, 100, 0, "info"),
        (50, 100, 1, "info"),
        (79, 100, 1, "info"),
        (80, 100, 2, "warning"),
        (100, 100, 3, "critical"),
        (250, 100, 3, "critical"),
        (1, 0, 3, "critical"),
        (0, 0, None, None),
        (10**30, -1, None, None),  # lifted
    ],
)
def test_a_limit_is_told_at_its_levels(used: int, most: int, level: int | None, severity: str | None) -> None:
    one = Allowance(
        "acme", "limit", "tokens_in per day", "day", "hard", used, most, NOW, NOW + timedelta(days=1), LEVELS
    )
    found = allowance_condition(one)
    assert (level, severity) == (None, None) if found is None else (found.level, found.severity) == (level, severity)
    soft = allowance_condition(one._replace(kind="soft"))
    assert soft is None or soft.severity != "critical"


def test_another_window_and_another_maximum_are_other_alerts() -> None:
    one = Allowance("acme", "budget", "b", "day", "soft", 90 * USD, 100 * USD, NOW, NOW, LEVELS, each="user")
    subjects = {
        getattr(allowance_condition(other), "subject", None)
        for other in (one, one._replace(most=101 * USD), one._replace(starts_at=NOW - timedelta(days=1)))
    }
    assert len(subjects) == 3
    found = allowance_condition(one._replace(levels=(Fraction(9, 10),)))
    assert found is not None
    assert (found.level, found.figures["level_percent"], found.figures["used_usd"]) == (1, "90", "90")
    assert "by the user who spent most" in found.summary


@pytest.mark.parametrize(("days_after", "level"), [(-1, None), (0, None), (1, 1), (6, 1), (7, 2), (30, 3), (400, 3)])
def test_an_invoice_is_told_after_so_many_days(days_after: int, level: int | None) -> None:
    invoice = OverdueInvoice("acme", "inv_1", "INV-1", NOW - timedelta(days=days_after), 1000)
    found = unpaid_condition(invoice, NOW, DEFAULTS)
    assert (None if found is None else found.level) == level
    assert unpaid_condition(invoice._replace(left_cents=99), NOW, Preferences(unpaid_cents=100)) is None
    at_once = unpaid_condition(invoice, NOW, Preferences(unpaid_days=(0,)))
    assert (at_once is not None) == (days_after >= 0)


# ── the service ─────────────────────────────────────────────────────────────────────────────────


def test_sums_seals_and_jobs_are_late_by_measure() -> None:
    hour = timedelta(hours=1)

    def level(found: Any) -> int | None:
        return None if found is None else found.level

    late = [rollup_condition(5, 1, lag, [], late_after=2 * hour) for lag in (0.0, 3600.0, 3601.0, 7201.0)]
    assert [level(one) for one in late] == [None, None, 0, 1]
    assert level(rollup_condition(5, 1, 7201.0, [("acme", MONDAY)], late_after=2 * hour)) == 2
    seals = [seal_condition(5, NOW - lag * hour, NOW, 60) for lag in (0.5, 0.6, 1.1, 25)]
    assert [level(one) for one in seals] == [None, 0, 1, 2]
    assert seal_condition(0, None, NOW, 60) is None
    stopped = stopped_for(looked_at=NOW - 10 * hour, told_at=None, now=NOW, by_job=True)
    assert [
        level(rollup_condition(5, 1, 3600.0 * lag, [], late_after=2 * hour, stopped=stopped)) for lag in (11, 12, 13)
    ] == [0, 0, 1]
    seals = [seal_condition(5, NOW - lag * hour, NOW, 60, stopped=stopped) for lag in (0.5, 0.6, 10.5, 11.1, 35)]
    assert [level(one) for one in seals] == [None, 0, 0, 1, 2]
    shortly = NOW - timedelta(minutes=5)
    held = [
        (looked_at, told_at, by_job)
        for looked_at in (None, shortly)
        for told_at in (None, shortly)
        for by_job in (False, True)
        if stopped_for(looked_at=looked_at, told_at=told_at, now=NOW, by_job=by_job)
    ]
    assert held == [
        (None, None, True),
        (None, shortly, False),
        (None, shortly, True),
        (shortly, shortly, False),
        (shortly, shortly, True),
    ]
    assert level(rollup_condition(5, 1, 1e9, [], late_after=hour, stopped=timedelta.max)) == 0
    assert level(seal_condition(5, NOW - 10_000 * hour, NOW, 60, stopped=timedelta.max)) == 0
    given: dict[str, Any] = {"lag_seconds": 10.0, "error_at": None}
    jobs = [
        job_condition("close", failures=failures, late=late, error="no disk", **given)
        for failures, late in ((0, False), (1, False), (3, True), (0, True))
    ]
    assert [level(one) for one in jobs] == [None, 1, 2, 1]
    secret = job_condition(
        "x", failures=1, late=False, error="tk_oBh2MLAy_40yGIeRVRWAp4JQqyrg9WQUnegiIW5L1jnM4OWqy5Nt", **given
    )
    assert secret is not None
    assert "40yGIeRVRWAp4JQ" not in secret.summary


# ── preferences ─────────────────────────────────────────────────────────────────────────────────


def facts(name: str, *, failures: int = 0, late: bool = True) -> JobFacts:
    return JobFacts(name, failures, late, 7200.0 if late else 0.0, "no disk" if failures else None, None)


def test_after_everything_stood_still_one_alert_says_so() -> None:
    rows = [facts("close"), facts("seal"), facts("rates", failures=1), facts("alerts"), facts("webhooks", late=False)]
    shortly, long_ago = NOW - timedelta(minutes=6), NOW - timedelta(hours=2)

    def found(looked_at: datetime | None, told_at: datetime | None = None) -> dict[str, int]:
        conditions = job_conditions(rows, looked_at=looked_at, told_at=told_at, now=NOW)
        return {one.subject: one.level for one in conditions}

    # who looks is not late; what has failed is told in any case; what fired before goes on firing
    assert found(shortly) == {"close": 1, "seal": 1, "rates": 1}
    assert found(long_ago) == {"jobs": 1, "close": 0, "seal": 0, "rates": 1}
    assert found(None) == found(shortly)
    assert found(shortly, NOW - timedelta(minutes=15)) == found(long_ago), "they may catch up"
    assert found(shortly, NOW - timedelta(minutes=16)) == found(shortly)
    said = next(one for one in job_conditions(rows, looked_at=long_ago, told_at=None, now=NOW) if one.subject == "jobs")
    assert said.summary == "no alerts were looked at for 2 hours, and 2 jobs are late: close, seal"
    assert said.figures == {"stood_still_seconds": 7200, "jobs": ["close", "seal"]}
    assert list(job_conditions([facts("alerts")], looked_at=long_ago, told_at=shortly, now=NOW)) == []


def test_preferences_are_read_back_as_they_are_written() -> None:
    assert read_preferences({}) == DEFAULTS
    assert read_preferences(preferences_json(DEFAULTS)) == DEFAULTS
    said = {
        "off": ["limit"], "min_severity": "warning", "spend_spike": {"min_usd": "0.5", "times": "1.5"},
        "quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "Europe/Paris"},
        "limits": {"levels": ["0.9", "0.25", "0.9"]}, "unpaid_invoice": {"days": [9, 2], "min_usd": "1.005"},
    }  # fmt: skip
    found = read_preferences(said)
    assert read_preferences(preferences_json(found)) == found
    assert found.limit_levels == (Fraction(1, 4), Fraction(9, 10))
    assert (found.unpaid_days, found.unpaid_cents, found.spike_times) == ((2, 9), 101, Fraction(3, 2))


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ([], None),
        ({"off": ["spendspike"]}, "off.0"),
        ({"offf": []}, "offf"),
        ({"min_severity": "loud"}, "min_severity"),
        ({"quiet_hours": {"from": "24:00", "to": "07:00"}}, "quiet_hours.from"),
        ({"quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "Mars"}}, "quiet_hours.time_zone"),
        ({"spend_spike": {"times": "1"}}, "spend_spike.times"),
        ({"spend_spike": {"min_usd": 5}}, "spend_spike.min_usd"),
        ({"spend_spike": {"history_days": 2}}, "spend_spike.history_days"),
        ({"limits": {"levels": []}}, "limits.levels"),
        ({"limits": []}, "limits"),
        ({"budgets": {"levels": ["-0.1"]}}, "budgets.levels.0"),
        ({"unpaid_invoice": {"days": [True]}}, "unpaid_invoice.days.0"),
        ({"low_balance": {"credits": "NaN"}}, "low_balance.credits"),
    ],
)
def test_preferences_that_cannot_be_are_refused_by_their_place(said: object, where: str | None) -> None:
    with pytest.raises(BadInput) as refused:
        read_preferences(said)
    assert refused.value.where == where


def test_quiet_hours_go_past_midnight_on_their_own_clocks() -> None:
    night = QuietHours(starts=22 * 60, ends=7 * 60, time_zone="Europe/Paris")
    quiet = [hour for hour in range(24) if night.covers(datetime(2026, 11, 23, hour, tzinfo=UTC))]
    assert quiet == [0, 1, 2, 3, 4, 5, 21, 22, 23]
    assert not QuietHours(starts=60, ends=60).covers(datetime(2026, 11, 23, 1, tzinfo=UTC))


def test_every_rule_is_documented_with_its_name() -> None:
    page = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
    assert [name for name in RULES if f"| `{name}` |" not in page] == []


def test_the_commands_that_are_named_as_a_next_step_are_there() -> None:
    from tallystick.cli.main import command as whole_tree

    tree = whole_tree()
    named = set()
    for file in (Path(__file__).parents[2] / "src" / "tallystick" / "alerts").glob("*.py"):
        named |= set(re.findall(r"tally ([a-z-]+(?: [a-z-]+)?)", file.read_text(encoding="utf-8")))
    assert {"invoice pay", "credits grant"} <= named
    for words in sorted(named):
        first, *rest = words.split()
        command = tree.commands[first]
        if hasattr(command, "commands") and rest:
            assert rest[0] in command.commands or command.invoke_without_command, words
