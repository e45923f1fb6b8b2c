"""Values within values, for properties of what reads JSON."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st


def nested(
    leaves: st.SearchStrategy[Any], names: st.SearchStrategy[str], *, list_max: int, members_max: int, levels: int = 4
) -> st.SearchStrategy[Any]:
    """A leaf, a list or an object, whose values may be such again, so many levels deep.

    `st.recursive` bounds the leaves instead, and begins anew whenever they become too many: half of what it draws is
    thrown away.
    """
    values = leaves
    for _ in range(levels):
        values = leaves | st.lists(values, max_size=list_max) | st.dictionaries(names, values, max_size=members_max)
    return values
