"""Whatever was recorded before, the last word about an org's plan holds, and the past stays as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tallystick.app.billing_terms import plans_of
from tallystick.app.plan_change import change_begins, holds, org_month, rows_of_change
from tallystick.core.periods import Period
from tallystick.journal.subscriptions import Subscription, subscription_in_force

START = datetime(2026, 10, 1, tzinfo=UTC)
instants = st.integers(0, 40 * 24).map(lambda hours: START + timedelta(hours=hours))
plans = st.sampled_from(["a", "b", "c", None])
histories = st.lists(st.tuples(plans, instants), max_size=8)
zones = st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Pacific/Apia"])


def recorded(rows: list[tuple[str | None, datetime]], after: int = 0) -> list[Subscription]:
    return [
        Subscription("globex", number, "acme", plan, "UTC", begins, START)
        for number, (plan, begins) in enumerate(rows, start=after + 1)
    ]


@given(histories, plans, instants, instants)
def test_the_last_word_holds_from_its_instant_on_and_nothing_before_it_changes(
    rows: list[tuple[str | None, datetime]], plan: str | None, begins: datetime, seen: datetime
) -> None:
    history = recorded(rows)
    added = rows_of_change(history, "acme", plan, begins, replaces_later=True)
    then = [*history, *recorded([(plan, instant) for instant in added], len(history))]
    if seen >= begins:
        assert holds(then, "acme", plan, seen)
    else:
        assert subscription_in_force(then, seen) == subscription_in_force(history, seen)
    assert rows_of_change(then, "acme", plan, begins, replaces_later=True) == []  # the same again


@given(histories, instants, st.integers(1, 40 * 24))
def test_the_plans_of_a_time_are_what_was_in_force_at_each_instant_of_it(
    rows: list[tuple[str | None, datetime]], start: datetime, hours: int
) -> None:
    history, period = recorded(rows), Period("any", start, start + timedelta(hours=hours))
    found = plans_of(history, period)
    for hour in range(hours):
        instant = start + timedelta(hours=hour)
        held = subscription_in_force(history, instant)
        covering = [one.plan for one in found if one.start <= instant < one.end]
        assert covering == ([held.plan] if held is not None and held.plan is not None else [])
    for earlier, later in pairwise(found):
        assert earlier.end < later.start or earlier.plan != later.plan


@given(zones, instants)
def test_a_present_month_holds_the_present_and_ends_at_a_midnight_of_the_first(zone: str, now: datetime) -> None:
    month = org_month(zone, now)
    assert now in month
    assert change_begins("downgrade", None, zone, now) == change_begins("leave", None, zone, now) == month.end
    assert change_begins("upgrade", "period_end", zone, now) == month.end
    assert change_begins("upgrade", None, zone, now) == change_begins("downgrade", "now", zone, now) == now
    assert org_month(zone, month.end).start == month.end
