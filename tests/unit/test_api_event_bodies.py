"""Bodies of events are taken apart exactly; a bad item is an item with an error, and its neighbours stay whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.api.event_bodies import CLOUDEVENT_BATCH_TYPE, CLOUDEVENT_TYPE, EVENT_TYPES, read_event_body
from tallystick.core.errors import BadInput
from tallystick.core.json_text import read_json

JSON = "application/json"
LINES = "application/jsonl"


def read(body: bytes, media_type: str = JSON, events_max: int = 10):
    return read_event_body(body, media_type, events_max=events_max)


def codes(body) -> list[str | None]:
    return [item.error.code if item.error else None for item in body.items]


def test_one_object_is_one_event_alone():
    body = read(b'{"org_id": "acme"}')
    assert (body.alone, [item.value for item in body.items]) == (True, [{"org_id": "acme"}])


def test_an_array_of_one_is_a_batch():
    body = read(b'[{"org_id": "acme"}]')
    assert (body.alone, [item.value for item in body.items]) == (False, [{"org_id": "acme"}])


def test_an_empty_array_is_an_empty_batch():
    assert read(b" \n[]").items == []


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b'{"a": 1e999}', "number_out_of_range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "number_out_of_range"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested_too_deep"),
        (b'{"a": "\xff"}', "invalid_utf8"),
        (b'{"a": 1, "a": 2}', "duplicate_key"),
        (b'{"a": {"b": 1, "b": 1}}', "duplicate_key"),
        (b'{"a": "\\u00e9", "b": 1, "b": 2}', "duplicate_key"),
        (b'{"a": "\\ud800"}', "invalid_text"),
        (b'{"a": "\\ud800]},{\\"", "b": "\\udc00"}', "invalid_text"),
    ],
)
def test_a_bad_item_of_an_array_harms_no_other(bad: bytes, code: str):
    body = read(b'[{"x": 1}, ' + bad + b', {"x": 2}]')
    assert codes(body) == [None, code, None]
    assert [body.items[0].value, body.items[2].value] == [{"x": 1}, {"x": 2}]


def test_a_bad_line_harms_no_other_and_says_which_line_it_is():
    body = read(b'{"x": 1}\n\n{"x": \r\n[NaN]\n{"x": 2}\r\n', LINES)
    assert codes(body) == [None, "malformed_json", "malformed_json", None]
    assert [item.line for item in body.items] == [1, 3, 4, 5]
    assert body.items[3].value == {"x": 2}


def test_an_array_that_cannot_be_taken_apart_is_refused_with_its_place():
    with pytest.raises(BadInput, match=r"byte 12 \(line 2, column 2\)") as caught:
        read(b'[{"x": 1},\n\t}, {"x": 2}]')
    assert caught.value.code == "malformed_json"


@pytest.mark.parametrize("text", [b"NaN", b"[1,]", b"{'a': 1}", b'{"a": 1', b'{"a": Infinity}', b"", b"\x00", b"01"])
def test_what_is_not_strict_json_is_refused(text: bytes):
    with pytest.raises(BadInput) as caught:
        read_json(text)
    assert caught.value.code == "malformed_json"


def test_deep_nesting_is_refused_in_every_form():
    deep = b"[" * 100_000
    assert refusal(b'{"a":' + deep, JSON) == "nested_too_deep"
    assert refusal(b'{"a":' + deep, CLOUDEVENT_TYPE) == "nested_too_deep"
    assert refusal(deep, CLOUDEVENT_BATCH_TYPE) == "nested_too_deep"
    assert refusal(b'["\\ud800", [[', JSON) == "malformed_json"  # no end: nothing tells its items apart
    assert codes(read(deep + b'\n{"x": 1}', LINES)) == ["nested_too_deep", None]


def refusal(body: bytes, media_type: str) -> str:
    with pytest.raises(BadInput) as caught:
        read(body, media_type)
    return caught.value.code


def test_a_number_of_any_size_keeps_its_digits():
    assert read(b'{"n": 1000000000000000000000000000000}').items[0].value == {"n": 10**30}


def test_a_byte_order_mark_is_not_part_of_the_body():
    assert read(b'\xef\xbb\xbf{"x": 1}').items[0].value == {"x": 1}
    assert read(b'\xef\xbb\xbf{"x": 1}\n', LINES).items[0].value == {"x": 1}


@pytest.mark.parametrize("media_type", [JSON, LINES, "application/x-ndjson", CLOUDEVENT_BATCH_TYPE])
def test_too_many_events_are_refused_before_any_is_taken(media_type: str):
    separator = b"\n" if "json" in media_type and "batch" not in media_type and media_type != JSON else b","
    body = separator.join([b'{"x":1}'] * 11)
    if separator == b",":
        body = b"[" + body + b"]"
    with pytest.raises(BadInput) as caught:
        read(body, media_type)
    assert caught.value.code == "too_many_events"
    assert len(read(body, media_type, events_max=11).items) == 11


@pytest.mark.parametrize("body", [b"[" + b"{}," * 100_001 + b"{}]", b'{"a": [' + b"1," * 100_001 + b"1]}"])
def test_a_body_of_many_tiny_values_is_refused_before_it_takes_memory(body: bytes):
    for media_type in (JSON, LINES):
        assert refusal(body, media_type) == "too_many_values"


def test_blank_lines_do_not_count_as_events():
    assert len(read(b'\n\n\n\n \r\n \n\n{"x":1}\n\n\n\n\n\n', LINES, events_max=1).items) == 1


def test_lines_without_an_event_are_refused():
    with pytest.raises(BadInput) as caught:
        read(b"\n \r\n", LINES)
    assert caught.value.code == "empty_body"


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/xml", "application/x-www-form-urlencoded"])
def test_another_media_type_is_refused_naming_those_that_are_taken(media_type: str):
    with pytest.raises(BadInput) as caught:
        read(b"{}", media_type)
    assert caught.value.code == "unsupported_media_type"
    assert all(name in caught.value.next_step for name in EVENT_TYPES)


def test_a_batch_of_cloudevents_must_be_an_array():
    with pytest.raises(BadInput) as caught:
        read(b'{"specversion": "1.0"}', CLOUDEVENT_BATCH_TYPE)
    assert caught.value.code == "wrong_type"
    assert read(b'{"specversion": "1.0"}', CLOUDEVENT_TYPE).cloudevents


TEXT = st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.dictionaries(TEXT, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(TEXT, VALUES, max_size=4), max_size=4), st.booleans())
def test_array_and_lines_read_the_same_events_as_the_standard_decoder(events: list[dict], ascii_only: bool):
    array = json.dumps(events, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    lines = b"\n".join(json.dumps(event, ensure_ascii=ascii_only).encode() for event in events)
    assert [item.value for item in read(array).items] == events
    if events:
        assert [item.value for item in read(lines, LINES).items] == events


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200), st.sampled_from(EVENT_TYPES))
def test_any_bytes_are_read_or_refused_with_a_code(body: bytes, media_type: str):
    try:
        items = read(body, media_type).items
    except BadInput:
        return
    assert all(item.error is None or item.value is None for item in items)
