"""Whatever was used: an export of it equals it, any change of the export is found and named, and shares add up."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from invoicing import event
from provider_exports import openai_usage, text
from tallystick.ledger.entry import ENTRY_COLUMNS, Entry, entry_lines
from tallystick.rates.card import CardHistory, RateCard
from tallystick.reconcile.compare import Asked, Comparison, Naming, compare
from tallystick.reconcile.explain import explain
from tallystick.reconcile.ledger_days import LedgerDays
from tallystick.reconcile.model import Export
from tallystick.reconcile.offers import Booking, Offer, Offering, apportion
from tallystick.reconcile.openai import CLASSES
from tallystick.reconcile.reading import read_export
from tallystick.usage.event import UsageEvent

DAY = date(2026, 10, 15)
MODELS = ("gpt-4o", "gpt-4o-mini")
METERS = ("tokens_in", "cache_read_tokens", "audio_tokens_in", "tokens_out", "reasoning_tokens", "audio_tokens_out")
FIELDS = ("input_tokens", "output_tokens", "num_model_requests")

quantities = st.dictionaries(st.sampled_from(METERS[:2] + METERS[3:5]), st.integers(1, 10**6), min_size=1)


@st.composite
def requests(draw: st.DrawFn) -> list[UsageEvent]:
    """Requests of two days, some of them estimates."""
    count = draw(st.integers(1, 12))
    return [
        event(
            f"r{number}",
            draw(st.sampled_from(("globex", "acme"))),
            time=datetime(2026, 10, 15, 12, tzinfo=UTC) + timedelta(days=draw(st.integers(0, 1))),
            model=draw(st.sampled_from(MODELS)),
            meters=draw(quantities),
            usage_status=draw(st.sampled_from(("final", "estimated"))),
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def card() -> RateCard:
    from pathlib import Path

    from tallystick.app.cards import load_card_history

    history: CardHistory = load_card_history(Path("/nonexistent"))
    return history.latest


def ledger_of(events: Iterable[UsageEvent], card: RateCard) -> LedgerDays:
    days = LedgerDays()
    for seq, one in enumerate(events, 1):
        days.add_request(entry_of(one, seq, card), None)
    return days


def entry_of(one: UsageEvent, seq: int, card: RateCard) -> Entry:
    cost = card.price_row(one)
    members: dict[str, Any] = dict.fromkeys(ENTRY_COLUMNS)
    for name in (
        "org_id",
        "request_id",
        "time",
        "feature",
        "environment",
        "provider",
        "model",
        "outcome",
        "usage_status",
    ):
        members[name] = getattr(one, name)
    names = sorted(one.meters)
    members |= {
        "seq": seq,
        "kind": "usage",
        "meter_names": names,
        "meter_quantities": [one.meters[name] for name in names],
        "price_context": {},
        "rate_version": cost.rate_version,
        "status": cost.status,
        "cost_pico": cost.total_pico,
        "line_meters": cost.meters,
        "line_quantities": cost.quantities,
        "line_price_pico": cost.price_pico,
        "line_per": cost.per,
        "line_amount_pico": cost.amount_pico,
        "line_models": cost.models,
    }
    return Entry(**members)


def export_of(value: object) -> Export:
    return read_export("openai", [("x", text(value))], {})


def laid_beside(events: list[UsageEvent], value: object, card: RateCard) -> tuple[Comparison, LedgerDays]:
    ledger = ledger_of(events, card)
    return compare(export_of(value), ledger, Naming(card.names, "openai"), Asked()), ledger


def offers(found: Comparison, ledger: LedgerDays, card: RateCard, book_to: str | None = None) -> list[Offer]:
    offering = Offering(ledger, Asked(), "openai", CLASSES, "0" * 64, lambda _: card, card, Booking(book_to))
    return [offer for cell in found.cells.values() for offer in offering.of(cell, found.cells).offers]


@given(requests(), st.sampled_from((3_600, 86_400)))
@settings(max_examples=examples(25), deadline=None)
def test_an_export_made_from_the_ledger_differs_in_nothing(
    card: RateCard, events: list[UsageEvent], width: int
) -> None:
    days = sorted({one.time.date() for one in events})
    found, _ = laid_beside(events, openai_usage(events, days, width=width), card)
    assert found.differing == []
    assert {(key.day, key.model) for key in found.cells} == {(one.time.date(), one.model) for one in events}


@given(requests(), st.data())
@settings(max_examples=examples(25), deadline=None)
def test_any_change_of_an_export_is_found_where_it_is_and_explained(
    card: RateCard, events: list[UsageEvent], data: st.DataObject
) -> None:
    value = openai_usage(events)
    bucket = data.draw(st.sampled_from(value["data"]))
    row = data.draw(st.sampled_from(bucket["results"]))
    field = data.draw(st.sampled_from(FIELDS))
    least = {"input_tokens": row["input_cached_tokens"], "output_tokens": 0, "num_model_requests": 0}[field]
    changed = data.draw(st.integers(least, 10**8).filter(lambda one: one != row[field]))
    gap, row[field] = changed - row[field], changed
    found, ledger = laid_beside(events, value, card)
    (cell,) = found.differing
    assert (cell.key.day, cell.key.model) == (datetime.fromtimestamp(bucket["start_time"], UTC).date(), row["model"])
    assert [one.gap for one in (*cell.meters, cell.requests) if one is not None and one.gap] == [gap]
    assert explain(found, CLASSES, Asked())[cell.key]
    for offer in offers(found, ledger, card):
        assert offer.adjust.of_seq is not None
        assert offer.adjust.is_sound
    corrected = sum(line.quantity for offer in offers(found, ledger, card) for line in offer.adjust.lines)
    assert corrected in (0, gap)  # all of it, or none


@given(requests(), st.data())
@settings(max_examples=examples(25), deadline=None)
def test_what_is_offered_for_estimates_makes_the_ledger_equal_and_prices_each_request_as_it_then_is(
    card: RateCard, events: list[UsageEvent], data: st.DataObject
) -> None:
    value = openai_usage(events)
    row = data.draw(st.sampled_from(data.draw(st.sampled_from(value["data"]))["results"]))
    row["output_tokens"] = data.draw(st.integers(0, 3 * 10**6))
    row["input_tokens"] += data.draw(st.integers(0, 10**6))
    found, ledger = laid_beside(events, value, card)
    given_to: dict[int, dict[str, int]] = {}
    for offer in offers(found, ledger, card):
        one = ledger.estimates[offer.org_id, offer.adjust.of_seq or 0]
        meters = dict(one.meters)
        for line in offer.adjust.lines:
            meters[line.meter] = meters.get(line.meter, 0) + line.quantity
        assert all(quantity >= 0 for quantity in meters.values())
        given_to[one.entry.seq] = meters
        assert sum(line.amount_pico or 0 for line in entry_lines(one.entry)) + offer.adjust.cost_pico == _cost(
            events[one.entry.seq - 1], meters, card
        )
    if not given_to:
        return
    after = [
        event(one.request_id, one.org_id, time=one.time, model=one.model, meters=given_to.get(seq, one.meters))
        for seq, one in enumerate(events, 1)
    ]
    assert laid_beside(after, value, card)[0].differing == []


def _cost(one: UsageEvent, meters: dict[str, int], card: RateCard) -> int | None:
    used = {meter: quantity for meter, quantity in meters.items() if quantity}
    return card.price(one.provider, one.model, used, one.time).total_pico


@given(requests(), st.data())
@settings(max_examples=examples(25), deadline=None)
def test_what_is_booked_to_an_org_makes_the_day_equal_and_takes_no_more_than_there_is(
    card: RateCard, events: list[UsageEvent], data: st.DataObject
) -> None:
    value = openai_usage(events)
    for row in [row for bucket in value["data"] for row in bucket["results"]]:
        row["output_tokens"] = data.draw(st.integers(0, 2 * row["output_tokens"] + 5))
        row["num_model_requests"] += 1
    found, ledger = laid_beside(events, value, card)
    for offer in offers(found, ledger, card, "globex"):
        assert offer.org_id == "globex"
        cell = found.cells[offer.key]
        assert sum(line.quantity for line in offer.adjust.lines) == sum(gap.gap for gap in cell.meters)
        for line in offer.adjust.lines:
            held = sum(sums.quantities[line.meter] for group, sums in cell.groups.items() if group.org_id == "globex")
            assert held + line.quantity >= 0


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**9), min_size=1, max_size=40))
def test_shares_add_up_and_none_is_a_whole_unit_off(total: int, weights: list[int]) -> None:
    shares = apportion(total, weights)
    assert sum(shares) == total
    whole = sum(weights) or len(weights)
    even = weights if any(weights) else [1] * len(weights)
    assert all(abs(share * whole - total * weight) < whole for share, weight in zip(shares, even, strict=True))
    assert shares == apportion(total, weights)
