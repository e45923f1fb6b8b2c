"""The writer stores each event exactly once, and says what it did."""

from __future__ import annotations

import json
from datetime import timedelta
from io import BytesIO
from pathlib import Path

from msgspec import structs

from conftest import NOW
from journal_helpers import append_in_the_past, count, raw_event
from tallystick.app.event_files import ingest_file
from tallystick.app.ingest import check_items, ingest_events
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.usage.event import UsageEvent


def test_an_accepted_event_has_a_receipt_with_its_place_and_cost(runtime: Runtime) -> None:
    (result,) = ingest_events(runtime, [raw_event()])
    assert result.status == "accepted"
    assert result.receipt.seq == 1
    assert result.receipt.cost_pico == 1000 * 2_500_000 + 10 * 10_000_000
    assert result.receipt.rate_version == runtime.card.version
    assert result.receipt.recorded_at == runtime.clock()


def test_the_same_event_again_is_a_duplicate_with_the_original_receipt(runtime: Runtime) -> None:
    (first,) = ingest_events(runtime, [raw_event()])
    clock = runtime.clock
    runtime.clock = lambda: clock() + timedelta(hours=1)
    again, twin = ingest_events(runtime, [raw_event(), raw_event(time="2026-10-15T14:00:00+02:00")])
    for repeated in (again, twin):
        assert repeated.status == "duplicate"
        assert repeated.receipt.seq == first.receipt.seq
        assert repeated.receipt.recorded_at == first.receipt.recorded_at
        assert repeated.receipt.cost_pico == first.receipt.cost_pico
    assert count(runtime, "ledger_entries") == 1


def test_other_content_under_the_same_id_is_a_conflict_that_names_both_fingerprints(runtime: Runtime) -> None:
    (first,) = ingest_events(runtime, [raw_event()])
    (other,) = ingest_events(runtime, [raw_event(meters={"tokens_in": 7})])
    assert other.status == "conflict"
    assert other.receipt.stored_fingerprint == first.receipt.fingerprint != other.receipt.fingerprint
    assert other.error.code == "request_id_conflict"
    assert count(runtime, "ledger_entries") == 1


def test_a_resend_is_a_duplicate_even_when_newer_rates_put_it_out_of_range(runtime: Runtime) -> None:
    (checked,) = check_items(runtime, [raw_event(model="gpt-5", meters={"tokens_out": 10**12})])
    assert isinstance(checked, UsageEvent)
    (first,) = append_in_the_past(runtime, [checked])
    assert (first.status, first.cost_status) == ("accepted", "unpriced")
    # Today's card has a price for it: ten million USD, more than an entry can hold.
    (again,) = runtime.append([checked])
    assert (again.status, again.seq) == ("duplicate", first.seq)
    (refused,) = runtime.append([structs.replace(checked, request_id="r2")])
    assert (refused.status, refused.code) == ("rejected", "cost_out_of_range")
    (conflict,) = runtime.append([structs.replace(checked, user_id="u2")])
    assert conflict.status == "conflict"
    assert count(runtime, "ledger_entries") == 1


def test_a_file_is_taken_in_through_a_queue_that_holds_less_than_two_of_its_batches(
    database_url: str, tmp_path: Path
) -> None:
    narrow = Settings(database_url=database_url, data_dir=tmp_path, queue_events_max=5, group_linger_ms=50)
    lines = b"".join(json.dumps(raw_event(f"r{number}")).encode() + b"\n" for number in range(30))
    with open_runtime(narrow, lambda: NOW) as runtime:
        results = [one for batch in ingest_file(runtime, BytesIO(lines), batch_events=4) for one in batch]
        assert [one.result.status for one in results] == ["accepted"] * 30
        assert count(runtime, "ledger_entries") == 30
