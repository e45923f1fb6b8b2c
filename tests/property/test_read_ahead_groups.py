"""Orgs are read ahead in groups: in their order, each once, as many together as a bound allows."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from tallystick.journal.read_ahead import EntryRange, group_ranges

_RANGES = st.lists(
    st.builds(lambda first, count: EntryRange("org", first, first + count), st.integers(1, 10**9), st.integers(0, 60))
)


def entries(group: list[EntryRange]) -> int:
    return sum(one.until_seq - one.first_seq for one in group)


@settings(max_examples=examples(200))
@given(ranges=_RANGES, entries_max=st.integers(1, 100))
def test_groups_are_as_large_as_the_bound_allows_and_lose_nothing(ranges: list[EntryRange], entries_max: int) -> None:
    groups = list(group_ranges(ranges, entries_max))
    assert [one for group in groups for one in group] == ranges
    assert all(group for group in groups)
    assert all(entries(group) <= entries_max for group in groups if len(group) > 1)
    for group, following in pairwise(groups):
        assert entries([*group, following[0]]) > entries_max
