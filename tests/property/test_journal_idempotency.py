"""However events arrive (repeated, shuffled, in batches of any size), the ledger is the same."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import examples
from journal_helpers import query, raw_event
from tallystick.app.ingest import EventResult, ingest_events
from tallystick.app.runtime import Runtime

_runs = itertools.count(1)
_WITH_DATABASE = settings(
    max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@st.composite
def deliveries(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Batches in which a handful of distinct events of two orgs come once or more, in any order."""
    distinct = [
        raw_event(f"r{number}", org_id=draw(st.sampled_from("ab")), meters={"tokens_in": number * 100, "tool_calls": 1})
        for number in range(draw(st.integers(1, 8)))
    ]
    sent = [*distinct, *draw(st.lists(st.sampled_from(distinct), max_size=10))]
    sent = draw(st.permutations(sent))
    cuts = sorted(draw(st.lists(st.integers(0, len(sent)), max_size=4)))
    return [sent[start:end] for start, end in itertools.pairwise([0, *cuts, len(sent)])]


def deliver(runtime: Runtime, batches: list[list[dict[str, Any]]]) -> tuple[int, list[EventResult]]:
    """Send the batches as orgs that no other example has, since tables are append-only: its number, and results."""
    run = next(_runs)
    renamed = [[{**raw, "org_id": f"{run}-{raw['org_id']}"} for raw in batch] for batch in batches]
    return run, [result for batch in renamed for result in ingest_events(runtime, batch, batch_events=3)]


def ledger(runtime: Runtime, run: int) -> list[tuple[Any, ...]]:
    """The content of the ledger of one example, without the order of arrival."""
    return query(
        runtime,
        "select split_part(org_id, '-', 2) as org, request_id, time, meter_names, meter_quantities, cost_pico, status,"
        " line_meters, line_quantities, line_amount_pico"
        " from ledger_entries"
        " where org_id like %s order by org, request_id",
        f"{run}-%",
    )


@given(deliveries())
@_WITH_DATABASE
def test_each_event_is_one_entry_however_often_and_in_whatever_batches_it_comes(
    runtime: Runtime, batches: list[list[dict[str, Any]]]
) -> None:
    run, results = deliver(runtime, batches)
    distinct = {(raw["org_id"], raw["request_id"]): raw for batch in batches for raw in batch}
    assert sum(result.status == "accepted" for result in results) == len(distinct)
    assert {result.status for result in results} <= {"accepted", "duplicate"}
    first: dict[tuple[str, str], EventResult] = {}
    for result in results:
        assert result.receipt is not None
        original = first.setdefault((result.receipt.org_id, result.receipt.request_id), result)
        assert original.receipt is not None
        assert original.status == "accepted"
        for part in ("seq", "cost_pico", "cost_status", "rate_version", "recorded_at", "fingerprint", "leaf"):
            assert getattr(result.receipt, part) == getattr(original.receipt, part)
    sequences = query(runtime, "select org_id, seq from ledger_entries where org_id like %s", f"{run}-%")
    for org in {org for org, _ in sequences}:
        mine = sorted(seq for name, seq in sequences if name == org)
        assert mine == list(range(1, len(mine) + 1))
        assert query(runtime, "select last_seq from org_heads where org_id = %s", org) == [(len(mine),)]


@given(deliveries(), st.randoms(use_true_random=False))
@_WITH_DATABASE
def test_two_deliveries_of_the_same_events_give_the_same_ledger(
    runtime: Runtime, batches: list[list[dict[str, Any]]], dice: Any
) -> None:
    one, _ = deliver(runtime, batches)
    sent = [raw for batch in batches for raw in batch]
    dice.shuffle(sent)
    two, _ = deliver(runtime, [sent])
    assert ledger(runtime, one) == ledger(runtime, two) != []


@pytest.mark.parametrize("size", [1, 2, 7])
def test_events_of_one_batch_with_the_same_id_and_other_content_conflict(runtime: Runtime, size: int) -> None:
    raws = [raw_event("same", meters={"tokens_in": number}) for number in range(3)]
    results = ingest_events(runtime, raws, batch_events=size)
    assert [result.status for result in results] == ["accepted", "conflict", "conflict"]
    assert {result.receipt.stored_fingerprint for result in results[1:]} == {results[0].receipt.fingerprint}
