"""The rule of history, for any prices and dates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tallystick.rates.cardfile import RateLine
from tallystick.rates.fold import _rows, fold_timeline, overlay
from tallystick.rates.timeline import BEGIN, NEVER, Flat, Price, Timeline, at, merged

START = datetime(2025, 1, 1, tzinfo=UTC)
DAYS = st.integers(0, 60).map(lambda day: START + timedelta(days=day))
PRICES = st.one_of(
    st.none(),
    st.builds(
        lambda price, tier, night: Price(1000, Flat(price, ((5, tier),) if tier else ()), night),
        st.integers(0, 3),
        st.integers(0, 2),
        st.sampled_from([(), (("20:00-04:00", Flat(9)),)]),
    ),
)
TIMELINES = st.builds(
    lambda first, steps: merged(sorted({BEGIN: first, **steps}.items())),
    PRICES,
    st.dictionaries(DAYS, PRICES, max_size=4),
)
INSTANTS = [START + timedelta(days=day, hours=12) for day in range(-2, 64)]
KEY = ("p", "m", "tokens_in", ())


@given(TIMELINES, TIMELINES, DAYS)
def test_a_release_is_right_from_when_it_became_known(known: Timeline, stated: Timeline, known_at: datetime) -> None:
    after = fold_timeline(known, stated, known_at)
    assert all(at(after, instant) == at(stated, instant) for instant in INSTANTS if instant >= known_at)


@given(TIMELINES, PRICES, DAYS)
def test_an_undated_price_never_moves_a_known_past(known: Timeline, price: Price | None, known_at: datetime) -> None:
    after = fold_timeline(known, ((BEGIN, price),), known_at)
    for instant in INSTANTS:
        if instant < known_at:
            assert at(after, instant) == (price if at(known, instant) is None else at(known, instant))


@given(TIMELINES, DAYS)
def test_what_was_never_stated_holds_since_always(stated: Timeline, known_at: datetime) -> None:
    assert fold_timeline(NEVER, stated, known_at) == stated


@given(TIMELINES, TIMELINES, DAYS)
def test_saying_it_twice_changes_nothing(known: Timeline, stated: Timeline, known_at: datetime) -> None:
    once = fold_timeline(known, stated, known_at)
    assert fold_timeline(once, stated, known_at) == once


@given(TIMELINES, TIMELINES)
def test_the_rows_written_turn_one_timeline_into_the_other(before: Timeline, after: Timeline) -> None:
    rows: list[RateLine] = list(_rows(KEY, before, after))
    assert overlay(before, rows) == after
    assert (rows == []) == (before == after)
