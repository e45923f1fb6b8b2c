"""The gate's figures are exact: means, medians and pairs as one would count them by hand."""

from __future__ import annotations

import statistics
from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tallystick.app.gate_compare import Terms, compare, percent
from tallystick.app.gate_sample import Costs, Request, Sample, dearer_share

COSTS = st.lists(st.integers(min_value=0, max_value=50), min_size=1, max_size=30)


@given(COSTS)
def test_mean_and_median_are_those_of_the_list(costs: list[int]) -> None:
    counted = Costs(Counter(costs))
    assert counted.mean == Fraction(sum(costs), len(costs))
    assert counted.median == statistics.median(map(Fraction, costs))


@given(COSTS, COSTS)
def test_dearer_pairs_are_counted_as_if_one_by_one(ours: list[int], theirs: list[int]) -> None:
    pairs = sum(2 * (a > b) + (a == b) for a in ours for b in theirs)
    share = dearer_share(Costs(Counter(ours)), Costs(Counter(theirs)))
    assert share == Fraction(pairs, 2 * len(ours) * len(theirs))
    other = dearer_share(Costs(Counter(theirs)), Costs(Counter(ours)))
    assert share is not None
    assert other == 1 - share


GROUPS = st.dictionaries(st.sampled_from("abc"), COSTS, min_size=1)


def sample(groups: dict[str, list[int]]) -> Sample:
    made = Sample()
    for name, costs in groups.items():
        for cost in costs:
            made.add(Request(name, "openai", "gpt-4o", silent=False, cost_pico=cost))
    return made


@given(GROUPS)
def test_what_is_the_same_passes_with_no_increase_let_pass(groups: dict[str, list[int]]) -> None:
    found = compare(sample(groups), sample(groups), Terms(Fraction(0), 1))
    assert found.passed
    assert all(row.increase == 0 and row.dearer == Fraction(1, 2) for row in found.rows)
    assert set(found.total) <= {Fraction(0)}


@given(GROUPS, GROUPS)
def test_change_is_what_groups_cost_more_and_what_the_mix_does(
    ours: dict[str, list[int]], theirs: dict[str, list[int]]
) -> None:
    found = compare(sample(ours), sample(theirs), Terms(Fraction(1, 10), 1))
    increase, alike, mix = found.total
    if increase is not None and alike is not None:
        assert mix == increase - alike
    same_prices = {name: costs for name, costs in theirs.items() if name in ours}
    moved = compare(
        sample({name: costs * 2 for name, costs in same_prices.items()}), sample(theirs), Terms(Fraction(0), 1)
    )
    assert moved.total[1] in (None, 0)
    assert moved.passed or not same_prices


@given(st.fractions(min_value=-10, max_value=10))
def test_per_cent_are_rounded_to_two_places(part: Fraction) -> None:
    text = percent(part)
    assert abs(Fraction(text.removesuffix("%")) - part * 100) <= Fraction(1, 200)
