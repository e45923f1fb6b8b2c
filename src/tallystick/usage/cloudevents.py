"""CloudEvents 1.0 in structured JSON mode (cloudevents.io, JSON event format): the event is in `data`.

`id` stands in for `data.request_id` and `time` for `data.time` where data has none; `source`, `type`,
`subject` and extension attributes are kept as attributes `ce_…`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.json_text import read_json

_OURS = frozenset({"specversion", "id", "time", "data", "data_base64", "datacontenttype", "dataschema"})


def is_cloudevent(raw: object) -> bool:
    """Whether a JSON value looks like a CloudEvent: usage events have no `specversion`."""
    return isinstance(raw, Mapping) and "specversion" in raw


def event_of_cloudevent(raw: object) -> dict[str, Any]:
    """The raw usage event inside a CloudEvent, still to be checked.

    Raises:
        BadInput: `invalid_cloudevent`, naming the attribute; what `read_json` raises of `data_base64`.
    """
    if not isinstance(raw, Mapping):
        raise _bad("", "a CloudEvent is a JSON object")
    if raw.get("specversion") != "1.0":
        raise _bad("specversion", "it must be 1.0")
    for name in ("id", "source", "type"):
        if not isinstance(raw.get(name), str) or not raw[name]:
            raise _bad(name, "every CloudEvent must have it, as text")
    event = dict(_data(raw))
    event.setdefault("request_id", raw["id"])
    if "time" in raw:
        event.setdefault("time", raw["time"])
    extras = {f"ce_{name}": _as_text(value) for name, value in raw.items() if name not in _OURS and value is not None}
    attributes = event.get("attributes", {})
    if isinstance(attributes, Mapping):
        event["attributes"] = {**extras, **attributes}
    return event


def _data(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    data = raw.get("data")
    if "data_base64" in raw and data is None:
        try:
            text = base64.b64decode(raw["data_base64"], validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise _bad("data_base64", "it is not JSON in Base64") from None
        data = read_json(text, where="data_base64")
    if not isinstance(data, Mapping):
        raise _bad("data", "it must be the usage event, a JSON object")
    return data


def _as_text(value: object) -> object:
    """An extension attribute as text: they may also be booleans and whole numbers; the check refuses the rest."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) and abs(value) < 2**31 else value


def _bad(where: str, detail: str) -> BadInput:
    return BadInput(
        "invalid_cloudevent",
        detail,
        next_step="send CloudEvents 1.0 in structured JSON mode with the usage event as data",
        where=where or None,
    )
