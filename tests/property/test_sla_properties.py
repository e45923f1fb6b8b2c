"""Whatever is recorded, in whatever order and pieces: the same time is down, and no credit exceeds what is charged."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tallystick.billing.incidents import Incident, holding
from tallystick.billing.sla import Promise, SlowCount, sla_credit
from tallystick.billing.spans import Span, common, microseconds, unite, without
from tallystick.contract.sla import DownStep, Sla, SlowMinutes, SlowStep

ZERO = datetime(2026, 10, 1, tzinfo=UTC)
END = 60
"""The month of these tests has so many microseconds: small enough to be counted one by one."""


def at(place: int) -> datetime:
    return ZERO + timedelta(microseconds=place)


INSTANTS = {place: at(place) for place in range(-10, END + 10)}
spans = st.lists(st.tuples(st.integers(-5, END + 5), st.integers(-5, END + 5)), max_size=8).map(
    lambda pairs: [(at(begin), at(end)) for begin, end in pairs]
)


def places(times: list[Span]) -> set[int]:
    """Every microsecond of these times, one by one."""
    return {place for start, end in times for place, instant in INSTANTS.items() if start <= instant < end}


@given(spans, spans)
def test_sets_of_times_are_sets_of_instants(first: list[Span], second: list[Span]) -> None:
    assert places(unite(first)) == places(first)
    assert places(common(first, second)) == places(first) & places(second)
    assert places(without(first, second)) == places(first) - places(second)
    assert microseconds(first) == len(places(first))
    for made in (unite(first), common(first, second), without(first, second)):
        assert all(one[1] < other[0] for one, other in pairwise(made)) or made == unite(made)
        assert all(start < end for start, end in made)


# Every fraction from 0 to 1 with a denominator up to 50.
SHARES = sorted({Fraction(part, whole) for whole in range(1, 51) for part in range(whole + 1)})
shares, credits = st.sampled_from(SHARES), st.sampled_from(SHARES[1:])
percents = st.builds(
    lambda part, whole: 1 + Fraction(part % (99 * whole + 1), whole), st.integers(0, 4950), st.integers(1, 50)
)
rules = st.builds(
    Sla,
    availability=st.lists(st.builds(DownStep, percents, credits), max_size=3).map(tuple),
    latency=st.lists(
        st.builds(SlowMinutes, st.just(0), credits)
        | st.builds(SlowStep, st.sampled_from([10, 20]), shares, st.integers(1, 5), credits),
        max_size=3,
    ).map(tuple),
    cap=credits,
)


@st.composite
def recorded(draw: st.DrawFn) -> list[Incident]:
    """Incidents; some take an earlier one back, each of those once."""
    made: list[Incident] = []
    free: list[int] = []
    for number in range(1, draw(st.integers(0, 7)) + 1):
        begin, end = sorted(draw(st.tuples(st.integers(-5, END + 5), st.integers(-5, END + 5))))
        kind = draw(st.sampled_from(["downtime", "latency", "maintenance"]))
        replaces = free.pop(draw(st.integers(0, len(free) - 1))) if free and draw(st.booleans()) else None
        if replaces is not None and draw(st.booleans()):
            kind = "withdrawal"
        else:
            free.append(number)
        one = Incident(number, kind, at(begin), at(end + 1), None, None, "x", "ann", f"i{number}", ZERO, replaces)
        made.append(one)
    return made


@given(
    rules, recorded(), st.integers(0, 10**9), st.integers(0, 9), st.integers(0, 9), st.randoms(use_true_random=False)
)
def test_a_credit_is_never_more_than_is_charged_and_depends_on_no_order(
    sla: Sla, incidents: list[Incident], base_cents: int, requests: int, slow: int, dice: object
) -> None:
    promise = Promise(1, "acme", "1", "0" * 64, "pro", sla, ((at(0), at(END)),), base_cents)
    counts = {1: {ms: SlowCount(requests, min(slow, requests)) for ms in (10, 20)}}
    result = sla_credit([promise], holding(incidents), counts)
    shuffled = list(incidents)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sla_credit([promise], holding(shuffled), counts) == result
    assert 0 <= result.credit_cents <= base_cents
    (plan,) = result.plans
    assert plan.share <= sla.cap
    assert plan.downtime + plan.slow_time <= plan.time


@given(rules, recorded(), st.integers(0, 10**6), st.integers(0, END - 1))
def test_more_downtime_never_credits_less_and_pieces_come_to_the_whole(
    sla: Sla, incidents: list[Incident], base_cents: int, cut: int
) -> None:
    # Without promises of latency: what is down is not slow besides.
    promise = Promise(1, "acme", "1", "0" * 64, "pro", replace(sla, latency=()), ((at(0), at(END)),), base_cents)
    found = holding(incidents)
    more = Incident(99, "downtime", at(cut), at(END), None, None, "x", "ann", "i99", ZERO)
    before, after = (sla_credit([promise], some, {}).credit_cents for some in (found, [*found, more]))
    assert before <= after
    pieces = [
        piece
        for one in found
        for piece in (replace(one, end=min(one.end, at(cut))), replace(one, start=max(one.start, at(cut))))
    ]
    assert sla_credit([promise], pieces, {}).credit_cents == before
