"""The bodies that `POST /v1/events` takes, taken apart into one item per event, in order.

| media type | body |
|---|---|
| application/json | one event, or an array of events |
| application/x-ndjson, application/jsonl | JSON Lines: one event a line, blank lines are skipped |
| application/cloudevents+json | one CloudEvent in structured mode, whose `data` is the event |
| application/cloudevents-batch+json | an array of such CloudEvents |

An item that cannot be read is an item all the same, with its error: it never harms its neighbours. Only a
body whose items cannot even be told apart is refused as a whole, and then nothing of it is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import msgspec

from tallystick.api.bodies import check_values
from tallystick.core.errors import BadInput
from tallystick.core.json_text import has_unique_keys, read_json, split_array, without_bom

JSON_TYPE = "application/json"
JSON_LINES_TYPES = ("application/x-ndjson", "application/jsonl")
CLOUDEVENT_TYPE = "application/cloudevents+json"
CLOUDEVENT_BATCH_TYPE = "application/cloudevents-batch+json"
VALUES_PER_EVENT = 40
"""How many values the events of a body may have on average when there are as many as may be; 15 are usual."""
VALUES_MAX_LEAST = 100_000
"""How many values any body may have, however few events the operator allows."""
EVENT_TYPES = (JSON_TYPE, *JSON_LINES_TYPES, CLOUDEVENT_TYPE, CLOUDEVENT_BATCH_TYPE)


@dataclass(frozen=True, slots=True)
class Item:
    """One event of a body: its JSON value, or why it could not be read. `line` counts from 1, in JSON Lines only."""

    value: Any = None
    error: BadInput | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class EventBody:
    """A body taken apart.

    Attributes:
        values: for each event, in order, its JSON value, or the `BadInput` that says why it could not be read.
        alone: it is one event by itself, which is answered as such, not as a batch.
        cloudevents: the items are CloudEvents.
        lines: in JSON Lines, the line of each event.
    """

    values: list[Any]
    alone: bool = False
    cloudevents: bool = False
    lines: list[int] | None = None

    @property
    def items(self) -> list[Item]:
        """The events one by one."""
        lines: Sequence[int | None] = self.lines or [None] * len(self.values)
        return [
            Item(error=value, line=line) if isinstance(value, BadInput) else Item(value, line=line)
            for value, line in zip(self.values, lines, strict=True)
        ]


def read_event_body(body: bytes, media_type: str, *, events_max: int) -> EventBody:
    """Take the body apart.

    Raises:
        BadInput: `unsupported_media_type`, `too_many_events`, `too_many_values`, `empty_body`, or what `read_json`
            raises when the items cannot be told apart.
    """
    check_values(body, max(events_max * VALUES_PER_EVENT, VALUES_MAX_LEAST))
    text = without_bom(body)
    match media_type:
        case "application/x-ndjson" | "application/jsonl":
            values, lines = _read_lines(text, events_max)
            return EventBody(values, lines=lines)
        case "application/json":
            if _is_array(text):
                return EventBody(_read_array(text, events_max))
            return EventBody([read_json(text)], alone=True)
        case "application/cloudevents-batch+json":
            if not _is_array(text):
                read_json(text)  # what is not JSON at all is better told so
                raise BadInput(
                    "wrong_type",
                    "a batch of CloudEvents is a JSON array, and this is not one",
                    next_step=f"send an array, or one CloudEvent as {CLOUDEVENT_TYPE}",
                )
            return EventBody(_read_array(text, events_max), cloudevents=True)
        case "application/cloudevents+json":
            return EventBody([read_json(text)], alone=True, cloudevents=True)
        case other:
            raise BadInput(
                "unsupported_media_type",
                f"events are not taken as {other!r}" if other else "the request does not say what its body is",
                next_step="set Content-Type to one of " + ", ".join(EVENT_TYPES),
                where="Content-Type",
            )


def _is_array(text: bytes) -> bool:
    return text.lstrip(b" \t\r\n")[:1] == b"["


def _read_array(text: bytes, events_max: int) -> list[Any]:
    try:
        values = msgspec.json.decode(text, type=list[Any])
        if len(values) <= events_max and has_unique_keys(text, values):
            return values
    except (ValueError, RecursionError):
        pass  # something in it is wrong: find out which items are to blame, and take the others
    try:
        raws: Sequence[bytes | msgspec.Raw] = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (ValueError, RecursionError):
        raws = _tell_apart(text)
    _check_count(len(raws), events_max)
    return list(map(_read_item, raws))


def _tell_apart(text: bytes) -> list[bytes]:
    """The items of an array that the decoder stops at; an array that is not JSON at all is refused here."""
    try:
        read_json(text)
    except BadInput as error:
        if error.code not in ("invalid_text", "nested_too_deep"):
            raise
    raws = split_array(text)
    for index, raw in enumerate(raws):
        wrong = _read_item(raw)
        if isinstance(wrong, BadInput) and wrong.code == "malformed_json":
            raise BadInput(wrong.code, wrong.detail, next_step=wrong.next_step, where=f"[{index}]")
    return raws


def _read_lines(text: bytes, events_max: int) -> tuple[list[Any], list[int]]:
    values: list[Any] = []
    lines: list[int] = []
    for number, line in enumerate(BytesIO(text), 1):
        if line.strip(b" \t\r\n"):
            _check_count(len(values) + 1, events_max)
            values.append(_read_item(line.rstrip(b"\r\n")))
            lines.append(number)
    if not values:
        raise BadInput("empty_body", "there is no event in the body", next_step="send one event a line")
    return values, lines


def _read_item(raw: bytes | msgspec.Raw) -> Any:
    """Its JSON value, or the `BadInput` that says why there is none."""
    try:
        return read_json(raw)
    except BadInput as error:
        return error.with_traceback(None)  # it is kept; the frames that it came through need not be


def _check_count(count: int, events_max: int) -> None:
    if count > events_max:
        raise BadInput(
            "too_many_events",
            f"there are more than {events_max:,} events in the body",
            next_step="send them in several requests; the limit is set by the operator",
        )
