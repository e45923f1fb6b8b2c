"""A request's story names the invoice that covers it, or that was closed before it came, and its correction."""

from __future__ import annotations

from datetime import UTC, datetime

from invoicing import apply, event, record, subscribe
from journal_helpers import append_in_the_past, publish_price
from tallystick.app.close_month import close_month
from tallystick.app.find import find
from tallystick.app.reprice import reprice
from tallystick.app.runtime import Runtime
from tallystick.journal.adjustments import NewAdjustment, add_adjustments
from tallystick.journal.corrections import lock_org
from tallystick.ledger.adjustment import Adjust, AdjustedMeter


def test_the_invoice_that_covers_a_request_is_named_and_the_one_that_came_too_early(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    record(runtime, [event("in-time"), event("open", time=datetime(2026, 11, 1, 12, tzinfo=UTC))])
    (closed,) = close_month(runtime, "2026-10")
    assert closed.invoice is not None
    record(runtime, [event("late")])
    (in_time,) = find(runtime, "in-time")["stories"]
    (named,) = in_time["invoices"]
    assert (named["period"], named["covers"], named["too_late_for_it"]) == ("2026-10", [1], [])
    (late,) = find(runtime, "late")["stories"]
    (named,) = late["invoices"]
    assert (named["covers"], named["too_late_for_it"]) == ([], [late["entries"][0]["seq"]])
    (unbilled,) = find(runtime, "open")["stories"]
    assert unbilled["invoices"] == []


def test_a_correction_is_a_step_of_its_own_and_changes_what_it_cost(runtime: Runtime) -> None:
    append_in_the_past(runtime, [event("dear", model="newest", provider="openai", meters={"tokens_in": 10})])
    (before,) = find(runtime, "dear")["stories"]
    assert before["cost_usd"] is None
    publish_price(runtime)
    reprice(runtime)
    (after,) = find(runtime, "dear")["stories"]
    assert [step["step"] for step in after["steps"]] == ["call", "usage", "price", "correction"]
    assert after["cost_usd"] == "0.00000000007"
    (line,) = after["steps"][-1]["lines"]
    assert (line["row"]["version"], line["row"]["price_usd"]) == ("new", "0.000000000007")
    assert after["steps"][-1]["refers_to"] == after["entries"][0]["seq"]


def test_an_adjustment_of_a_request_is_part_of_its_story_and_found_by_its_own_id(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    record(runtime, [event("counted", meters={"tokens_in": 1000})])
    (before,) = find(runtime, "counted")["stories"]
    request = Adjust(
        of_seq=before["entries"][0]["seq"],
        provider="openai",
        model="gpt-4o",
        environment="production",
        lines=(AdjustedMeter("tokens_in", 5, 10**6),),
        source="openai",
        source_sha256="0" * 64,
        author="ann",
        reason="the provider counted otherwise",
    )
    with runtime.database.writer() as connection:
        head = lock_org(connection, "globex")
        new = [NewAdjustment("adjusted-1", event("counted").time, request, bytes(16))]
        add_adjustments(connection, head, "globex", new, runtime.clock(), runtime.card.version)
    (after,) = find(runtime, "counted")["stories"]
    assert [step["step"] for step in after["steps"]] == ["call", "usage", "price", "adjustment"]
    assert (before["cost_usd"], after["cost_usd"]) == ("0.00015", "0.000151")
    (by_own_id,) = find(runtime, "adjusted-1")["stories"]
    assert by_own_id["steps"] == after["steps"]
