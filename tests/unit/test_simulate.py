"""Simulated traffic is repeatable and has in it what makes billing hard."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from tallystick.core.instants import parse_instant
from tallystick.core.periods import month_period
from tallystick.simulate.traffic import CUSTOMERS, simulate_month
from tallystick.usage.meters import METERS

MONTH = month_period("2026-10")


def test_the_same_seed_gives_the_same_month_and_another_seed_another() -> None:
    first = list(simulate_month(MONTH, seed=1, events=500))
    assert first == list(simulate_month(MONTH, seed=1, events=500))
    assert first != list(simulate_month(MONTH, seed=2, events=500))


def test_a_month_has_retries_late_events_failures_and_every_customer() -> None:
    arrivals = list(simulate_month(MONTH, seed=7, events=4_000))
    assert all(earlier.arrived_at <= later.arrived_at for earlier, later in pairwise(arrivals))
    events = [arrival.event for arrival in arrivals]
    copies = Counter(event["request_id"] for event in events)
    assert len(copies) == 4_000
    assert 20 < sum(count > 1 for count in copies.values()) < 200
    assert {event["org_id"] for event in events} == {customer.org_id for customer in CUSTOMERS}
    assert {event["outcome"] for event in events} == {"success", "empty", "failure"}
    assert all(parse_instant(event["time"]) in MONTH for event in events)
    assert any(arrival.arrived_at >= MONTH.end for arrival in arrivals)
    assert all(set(event["meters"]) <= set(METERS) and min(event["meters"].values()) > 0 for event in events)
    assert any("cache_read_tokens" in event["meters"] for event in events)
    assert any("reasoning_tokens" in event["meters"] for event in events)
