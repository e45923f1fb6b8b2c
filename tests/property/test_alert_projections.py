"""What holds of projected dates and of usual days, whatever the figures."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tallystick.alerts.balance import runs_out_at
from tallystick.alerts.preferences import Preferences
from tallystick.alerts.spend import drivers_of, spend_condition, usual_of

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = date(2026, 11, 23)
FAR = NOW + timedelta(days=10_000)
lots = st.lists(
    st.tuples(
        st.integers(1, 10**18),
        st.one_of(st.none(), st.integers(0, 90 * 86_400).map(lambda seconds: NOW + timedelta(seconds=seconds))),
    ),
    max_size=6,
)
paces = st.integers(1, 10**18)
costs = st.dictionaries(st.integers(0, 40).map(lambda back: DAY - timedelta(days=back)), st.integers(0, 10**15))


def date_of(given_lots: Any, pace: int) -> datetime:
    return runs_out_at(given_lots, pace, NOW)[0] or FAR


@given(lots, paces, st.integers(1, 10**18), st.randoms())
def test_more_credits_last_longer_and_a_faster_pace_does_not(
    given_lots: list[tuple[int, datetime | None]], pace: int, more: int, chance: Any
) -> None:
    at, lost = runs_out_at(given_lots, pace, NOW)
    mixed = list(given_lots)
    chance.shuffle(mixed)
    assert date_of(mixed, pace) == (at or FAR)
    assert date_of([*given_lots, (more, None)], pace) >= (at or FAR)
    assert date_of(given_lots, pace + more) <= (at or FAR)
    assert 0 <= lost <= sum(amount for amount, _ in given_lots)
    if at is not None:
        assert at >= NOW
        ends = [ends for _, ends in given_lots]
        if ends and None not in ends:
            assert at <= max(end for end in ends if end is not None)


@given(costs, st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_day_that_costs_more_is_no_less_of_a_spike_and_its_own_cost_is_not_usual(
    known: dict[date, int], cost: int, more: int
) -> None:
    first = DAY - timedelta(days=30)
    usual = usual_of(DAY, first, known, Preferences())
    assert usual is not None
    assert usual == usual_of(DAY, first, {**known, DAY: cost}, Preferences())
    levels = []
    for one in (cost, cost + more):
        found = spend_condition("acme", DAY, one, usual, ())
        levels.append(-1 if found is None else found.level)
    assert levels == sorted(levels)
    assert usual.threshold_pico >= usual.median_pico + 10 * 10**12


rows = st.lists(
    st.tuples(costs.map(lambda _: DAY) | st.integers(0, 9).map(lambda back: DAY - timedelta(days=back)),
              st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 10**15)),
    max_size=20,
)  # fmt: skip


@given(rows, st.randoms())
def test_drivers_are_the_same_in_any_order_and_never_more_than_the_day(rows_: list[Any], chance: Any) -> None:
    days = {DAY - timedelta(days=back) for back in range(1, 8)}
    found = drivers_of(days, DAY, rows_)
    mixed = list(rows_)
    chance.shuffle(mixed)
    assert drivers_of(days, DAY, mixed) == found
    assert len(found) <= 3
    assert sum(one.cost_pico for one in found) <= sum(cost for when, *_, cost in rows_ if when == DAY)
    assert all(one.increase_pico > 0 for one in found)
