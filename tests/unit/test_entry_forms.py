"""A row that reads like another but is stored otherwise makes no leaf: nothing hides behind an equal hash."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from invoicing import usage_entry
from tallystick.ledger.entry import Entry, entry_fingerprint, entry_leaf
from tallystick.rates.model import Cost, CostLine
from tallystick.usage.event import UsageEvent

EVENT = UsageEvent(
    org_id="acme",
    request_id="r1",
    time=datetime(2026, 10, 1, tzinfo=UTC),
    user_id="u1",
    session_id="s1",
    feature="chat",
    environment="production",
    model="gpt-4o",
    meters={"tokens_in": 5, "tokens_out": 7},
)
COST = Cost("openai", "gpt-4o", (CostLine("tokens_in", 5, 1, 1, 5),), 5, "final", "v1")
ENTRY = usage_entry(EVENT, COST)


def test_the_row_as_it_was_written_makes_its_leaf_and_fingerprint() -> None:
    assert entry_leaf(ENTRY) == ENTRY.leaf
    assert entry_fingerprint(ENTRY) == ENTRY.fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        {"meter_names": ["tokens_in", "tokens_out"] * 2, "meter_quantities": [5, 7] * 2},  # would count twice
        {"meter_names": ["tokens_out", "tokens_in"], "meter_quantities": [7, 5]},
        {"meter_names": ["tokens_in", "tokens_in", "tokens_out"], "meter_quantities": [9, 5, 7]},
        {"price_context": None},
        {"price_context": []},
    ],
)
def test_a_row_that_only_reads_alike_makes_none(changed: dict[str, Any]) -> None:
    entry: Entry = ENTRY._replace(**changed)
    with pytest.raises((ValueError, TypeError), match=r"meters|table"):
        entry_leaf(entry)
    with pytest.raises((ValueError, TypeError), match=r"meters|table"):
        entry_fingerprint(entry)


@pytest.mark.parametrize("attributes", [None, []])
def test_attributes_that_only_read_alike_make_no_fingerprint(attributes: Any) -> None:
    with pytest.raises(TypeError, match="table"):
        entry_fingerprint(ENTRY._replace(attributes=attributes))
