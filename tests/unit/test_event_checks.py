"""A raw event is sound, or is told everything that is wrong with it and where."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from journal_helpers import raw_event
from tallystick.core.errors import BadInput, Problems
from tallystick.usage.checks import check_event
from tallystick.usage.event import UsageEvent
from tallystick.usage.event_problems import MANDATORY
from tallystick.usage.meters import METERS, QUANTITY_MAX

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
KNOWN = frozenset(METERS) | {"pages_reviewed"}


def check(raw: object) -> UsageEvent:
    return check_event(raw, now=NOW, known_meters=KNOWN)


def fault(raw: object) -> tuple[str, str | None]:
    with pytest.raises(BadInput) as caught:
        check(raw)
    return caught.value.code, caught.value.where


def test_a_sound_event_keeps_what_it_says() -> None:
    event = check(raw_event(meters={"tokens_in": 5, "pages_reviewed": 0}, attributes={"k": "line\nbreak"}))
    assert event.meters == {"tokens_in": 5, "pages_reviewed": 0}
    assert event.attributes == {"k": "line\nbreak"}
    assert event.outcome == "success"


@pytest.mark.parametrize("name", MANDATORY)
def test_each_mandatory_field_is_missed_by_name(name: str) -> None:
    raw = raw_event()
    del raw[name]
    assert fault(raw) == ("missing_field", name)


TEXTS = ["org_id", "request_id", "user_id", "session_id", "feature", "environment", "model"]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "empty_text"),
        ("  ", "empty_text"),
        (None, "wrong_type"),
        (5, "wrong_type"),
        (["a"], "wrong_type"),
        ("a\x00b", "invalid_text"),
        ("a\nb", "invalid_text"),
        ("\ud800", "invalid_text"),
        ("x" * 513, "text_too_long"),
    ],
)
def test_mandatory_text_is_there_and_printable(name: str, value: object, code: str) -> None:
    assert fault(raw_event(**{name: value})) == (code, name)


@pytest.mark.parametrize("value", ["Zoë 🚀", "👩‍👩‍👧 family", "x" * 512, "a b", "\u00a0x", "مرحبا"])
def test_text_of_every_script_is_taken(value: str) -> None:
    assert check(raw_event(user_id=value)).user_id == value


@pytest.mark.parametrize(
    ("quantity", "code"),
    [
        (-1, "quantity_negative"),
        (-(10**30), "quantity_negative"),
        (QUANTITY_MAX + 1, "quantity_too_large"),
        (10**30, "quantity_too_large"),
        (1.0, "wrong_type"),
        (True, "wrong_type"),
        ("5", "wrong_type"),
        (None, "wrong_type"),
        ({"a": 1}, "wrong_type"),
    ],
)
def test_quantities_are_whole_sensible_numbers(quantity: object, code: str) -> None:
    assert fault(raw_event(meters={"tokens_in": quantity})) == (code, "meters.tokens_in")


def test_a_number_of_thousands_of_digits_is_refused_without_writing_it_out() -> None:
    assert fault(raw_event(meters={"tokens_in": 10**5000})) == ("quantity_too_large", "meters.tokens_in")


def test_the_largest_quantity_is_taken() -> None:
    assert check(raw_event(meters={"tokens_in": QUANTITY_MAX})).meters["tokens_in"] == QUANTITY_MAX


def test_an_unknown_meter_is_told_the_one_that_was_probably_meant() -> None:
    with pytest.raises(BadInput, match="did you mean tokens_in") as caught:
        check(raw_event(meters={"token_in": 5}))
    assert (caught.value.code, caught.value.where) == ("unknown_meter", "meters.token_in")


def test_an_unknown_field_is_told_the_one_that_was_probably_meant() -> None:
    with pytest.raises(BadInput, match="did you mean latency_ms") as caught:
        check(raw_event(latency=5))
    assert (caught.value.code, caught.value.where) == ("unknown_field", "latency")


@pytest.mark.parametrize(
    ("time", "code"),
    [
        ("2026-10-01", "invalid_time"),
        ("2026-10-01T00:00:00", "invalid_time"),
        ("2026-02-30T00:00:00Z", "invalid_time"),
        ("2026-10-01T23:59:60Z", "invalid_time"),
        ("0001-01-01T00:00:00+14:00", "invalid_time"),
        ("yesterday", "invalid_time"),
        (1760000000, "invalid_time"),
        (None, "invalid_time"),
        ("1999-12-31T23:59:59.999999Z", "time_too_old"),
        ("2026-11-02T12:05:01Z", "time_in_future"),
        ("9999-12-31T23:59:59Z", "time_in_future"),
    ],
)
def test_times_are_instants_of_the_present_or_past(time: object, code: str) -> None:
    assert fault(raw_event(time=time)) == (code, "time")


def test_a_clock_that_is_five_minutes_ahead_is_forgiven() -> None:
    assert check(raw_event(time="2026-11-02T12:05:00Z")).time == NOW + timedelta(minutes=5)


def test_times_are_kept_in_utc() -> None:
    time = check(raw_event(time="2026-10-01T01:30:00+02:00")).time
    assert time == datetime(2026, 9, 30, 23, 30, tzinfo=UTC)
    assert time.tzinfo is UTC


def test_what_is_finer_than_a_microsecond_is_cut_off_so_that_no_event_moves_into_the_next_month() -> None:
    time = check(raw_event(time="2026-10-31T23:59:59.9999999Z")).time
    assert time == datetime(2026, 10, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert check(raw_event(time="2026-10-31T23:59:59.9999999+00:00")).time == time


@pytest.mark.parametrize(
    ("field", "value", "code", "where"),
    [
        ("outcome", "succes", "not_a_choice", "outcome"),
        ("outcome", 1, "wrong_type", "outcome"),
        ("usage_status", "unpriced", "not_a_choice", "usage_status"),
        ("latency_ms", -1, "quantity_negative", "latency_ms"),
        ("latency_ms", 1.5, "wrong_type", "latency_ms"),
        ("latency_ms", 10**20, "quantity_too_large", "latency_ms"),
        ("provider", "", "empty_text", "provider"),
        ("action", 5, "wrong_type", "action"),
        ("provider_cost_pico", -1, "quantity_negative", "provider_cost_pico"),
        ("provider_cost_pico", 2**63, "quantity_too_large", "provider_cost_pico"),
        ("provider_cost_pico", 0.1, "wrong_type", "provider_cost_pico"),
        ("payer", "us", "not_a_choice", "payer"),
        ("payer", None, "wrong_type", "payer"),
        ("outcome", "\ud800", "not_a_choice", "outcome"),
        ("provider_cost_pico", "0.1", "wrong_type", "provider_cost_pico"),
        ("price_context", {"tier": "flex"}, "unknown_price_context", "price_context.tier"),
        ("price_context", [], "wrong_type", "price_context"),
        ("attributes", {"k": 5}, "wrong_type", "attributes.k"),
        ("attributes", {"k": "\x00"}, "invalid_text", "attributes.k"),
        ("attributes", {"": "v"}, "empty_text", "attributes."),
        ("attributes", {str(n): "v" for n in range(65)}, "too_many_attributes", "attributes"),
        ("meters", [], "wrong_type", "meters"),
        ("meters", None, "wrong_type", "meters"),
    ],
)
def test_every_other_field_is_checked(field: str, value: object, code: str, where: str) -> None:
    assert fault(raw_event(**{field: value})) == (code, where)


def test_a_provider_cost_may_be_a_string_of_digits_since_json_numbers_lose_some() -> None:
    assert check(raw_event(provider_cost_pico="9007199254740993")).provider_cost_pico == 9007199254740993


@pytest.mark.parametrize("raw", [None, 5, 1.5, "text", [], [raw_event()], True])
def test_what_is_no_object_is_told_so(raw: object) -> None:
    assert fault(raw) == ("not_an_object", None)


def test_all_faults_are_told_at_once() -> None:
    raw: dict[str, Any] = raw_event(time="never", meters={"tokens_in": -1, "nothing": 2}, user_id="", extra=1)
    del raw["feature"]
    with pytest.raises(Problems) as caught:
        check(raw)
    assert {(problem.code, problem.where) for problem in caught.value.problems} == {
        ("invalid_time", "time"),
        ("quantity_negative", "meters.tokens_in"),
        ("unknown_meter", "meters.nothing"),
        ("empty_text", "user_id"),
        ("unknown_field", "extra"),
        ("missing_field", "feature"),
    }
