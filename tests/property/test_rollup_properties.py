"""However entries come, and in whatever steps they are added up or made again: the same rows as one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tallystick.app.rollup as rollup
from conftest import NOW
from examples import examples
from invoicing import event
from journal_helpers import publish_price
from rollup_tools import Rows, due, stored
from tallystick.app.reprice import reprice
from tallystick.app.runtime import Runtime

_numbers = itertools.count(1)
_METERS = ("tokens_in", "tokens_out", "cache_read_tokens", "reasoning_tokens", "tool_calls", "web_searches",
           "images_generated", "egress_bytes", "audio_input_tokens", "cache_write_tokens", "no_such")  # fmt: skip
events = st.fixed_dictionaries(
    {
        "hours": st.integers(0, 80),
        "feature": st.sampled_from(("chat", "search", "ü", "a,b", '"')),
        "model": st.sampled_from(("gpt-4o", "gpt-4o-mini", "newest")),
        "environment": st.sampled_from(("production", "development")),
        "provider": st.sampled_from(("openai", None)),
        "action": st.sampled_from((None, "review")),
        "payer": st.sampled_from(("seller", "customer")),
        "outcome": st.sampled_from(("success", "empty", "failure")),
        "usage_status": st.sampled_from(("final", "partial", "estimated")),
        "latency_ms": st.none() | st.integers(0, 2**40),
        "meters": st.dictionaries(st.sampled_from(_METERS), st.integers(0, 10**9), max_size=11),
    }
)
steps = st.lists(
    st.tuples(st.just("record"), st.lists(events, min_size=1, max_size=6), st.integers(0, 60))
    | st.tuples(st.sampled_from(("roll", "rebuild", "rebuild_days", "reprice", "clear")), st.just([]), st.just(0)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=examples(8), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, at_once=st.integers(1, 9))
def test_days_are_what_entries_come_to_one_by_one(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, steps: list[Any], at_once: int
) -> None:
    monkeypatch.setattr(rollup, "ENTRIES_AT_ONCE", at_once)
    org, numbers = f"org-{next(_numbers)}", itertools.count()
    do: dict[str, Callable[[], object]] = {
        "roll": lambda: rollup.roll_up(runtime),
        "rebuild": lambda: rollup.rebuild(runtime, org_id=org),
        "rebuild_days": lambda: rollup.rebuild(runtime, org_id=org, first=NOW.date() - timedelta(days=2)),
        "reprice": lambda: _reprice(runtime),
        "clear": lambda: _forget(runtime, org),
    }
    known = False
    for step, given_events, late_hours in steps:
        if step == "record":
            known = True
            later = replace(runtime, clock=lambda: NOW + timedelta(hours=late_hours))  # noqa: B023 - used before the next
            later.append(
                [
                    event(f"r{next(numbers)}", org, time=NOW - timedelta(hours=one["hours"]),
                          **{name: value for name, value in one.items() if name != "hours"})
                    for one in given_events
                ]
            )  # fmt: skip
        elif known:
            do[step]()
    rollup.roll_up(runtime)
    assert of_org(stored(runtime), org) == of_org(due(runtime), org)


def of_org(rows: Rows, org: str) -> Rows:
    """Only the rows of one org."""
    return {table: {key: sums for key, sums in found.items() if key[0] == org} for table, found in rows.items()}


def _reprice(runtime: Runtime) -> None:
    if not (runtime.settings.data_dir / "cards").exists():
        publish_price(runtime)
    reprice(runtime)


def _forget(runtime: Runtime, org: str) -> None:
    with runtime.database.writer() as connection:
        for table in ("rollup_requests", "rollup_meters", "rollup_operations", "reopened_days", "rollup_states"):
            connection.execute(f"delete from {table} where org_id = %s".encode(), [org])
