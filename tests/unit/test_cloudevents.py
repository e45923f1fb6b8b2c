"""A CloudEvent is an envelope: what is in it is the event, what is on it is kept."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from journal_helpers import raw_event
from tallystick.core.errors import BadInput
from tallystick.usage.cloudevents import event_of_cloudevent, is_cloudevent


def envelope(**more: Any) -> dict[str, Any]:
    data = raw_event()
    del data["request_id"], data["time"]
    base = {"specversion": "1.0", "id": "ce-1", "source": "/gateway", "type": "usage", "time": "2026-10-15T12:00:00Z"}
    return {**base, "data": data, **more}


def test_id_and_time_stand_in_for_those_of_the_event() -> None:
    event = event_of_cloudevent(envelope(traceparent="00-1", sequence=7, sampled=True))
    assert event["request_id"] == "ce-1"
    assert event["time"] == "2026-10-15T12:00:00Z"
    assert event["attributes"] == {
        "ce_source": "/gateway", "ce_type": "usage", "ce_traceparent": "00-1", "ce_sequence": "7", "ce_sampled": "true",
    }  # fmt: skip


def test_what_the_event_says_itself_prevails() -> None:
    data = raw_event("own", attributes={"ce_type": "mine"})
    event = event_of_cloudevent(envelope(data=data))
    assert event["request_id"] == "own"
    assert event["attributes"]["ce_type"] == "mine"


def test_data_in_base64_is_read_as_strictly_as_any_other() -> None:
    twice = json.dumps(raw_event())[:-1] + ', "org_id": "other"}'
    with pytest.raises(BadInput) as caught:
        event_of_cloudevent(envelope(data=None, data_base64=base64.b64encode(twice.encode()).decode()))
    assert (caught.value.code, caught.value.where) == ("duplicate_key", "data_base64")


def test_data_may_be_in_base64() -> None:
    raw = envelope(data_base64=base64.b64encode(json.dumps(raw_event("b64")).encode()).decode())
    del raw["data"]
    assert event_of_cloudevent(raw)["request_id"] == "b64"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": None}, "specversion"),
        ({"id": ""}, "id"),
        ({"id": 5}, "id"),
        ({"source": None}, "source"),
        ({"type": None}, "type"),
        ({"data": None}, "data"),
        ({"data": []}, "data"),
        ({"data": None, "data_base64": "%%%"}, "data_base64"),
        ({"data": None, "data_base64": 5}, "data_base64"),
    ],
)
def test_a_broken_envelope_names_the_attribute(change: dict[str, Any], where: str) -> None:
    with pytest.raises(BadInput) as caught:
        event_of_cloudevent(envelope(**change))
    assert (caught.value.code, caught.value.where) == ("invalid_cloudevent", where)


def test_usage_events_are_not_taken_for_cloudevents() -> None:
    assert is_cloudevent(envelope())
    assert not is_cloudevent(raw_event())
    assert not is_cloudevent(["specversion"])
