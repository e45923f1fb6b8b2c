"""What is wrong with a raw event, field by field: every fault with its code, its place and what to do about it.

The bounds and names that events keep to stand here, where the sentences about them are. `usage.checks` takes sound
events without asking for any of this.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any, get_args

import msgspec

from tallystick.core.errors import BadInput
from tallystick.core.key_shapes import holds_key
from tallystick.core.money import PICO_MAX
from tallystick.usage.event import Outcome, Payer, UsageEvent, UsageStatus
from tallystick.usage.meters import METER_NAME, QUANTITY_MAX

TEXT_CHARS_MAX = 512
"""The longest text of a field, a key or a value."""
ID_BYTES_MAX = 2600
"""The most bytes of `org_id` and `request_id` together, in UTF-8: what an index of ids can hold. Ids of 512 characters
each have more only where most of the characters take three bytes or four."""
ATTRIBUTES_MAX = 64
LATENCY_MS_MAX = 10**10
"""About four months: longer calls are mistakes."""
FUTURE_MAX = timedelta(minutes=5)
"""How far ahead of our clock an event's time may be: clocks differ a little."""
OLDEST = datetime(2000, 1, 1, tzinfo=UTC)

PRICE_CONTEXT_KEYS = ("service_tier", "speed", "route", "search_type", "inference_geo")
MANDATORY = ("org_id", "request_id", "time", "user_id", "session_id", "feature", "environment", "model", "meters")
FIELDS = UsageEvent.__struct_fields__

_MANDATORY_TEXT = ("org_id", "request_id", "user_id", "session_id", "feature", "environment", "model")
_OPTIONAL_TEXT = ("provider", "api_key_id", "action")
_CHOICES = MappingProxyType(
    {"outcome": get_args(Outcome), "usage_status": get_args(UsageStatus), "payer": get_args(Payer)}
)
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def check_text(where: str, value: object) -> None:
    """Check an id or a name that is given apart from an event, by the same rules.

    Raises:
        BadInput: `wrong_type`, `empty_text`, `text_too_long`, `invalid_text` or `key_in_text`.
    """
    for problem in _text_problems(where, value, mandatory=True):
        raise problem


def ids_fit(org_id: str, request_id: str) -> bool:
    """Whether the two have no more than `ID_BYTES_MAX` bytes."""
    return 4 * (len(org_id) + len(request_id)) <= ID_BYTES_MAX or _id_bytes(org_id, request_id) <= ID_BYTES_MAX


def _id_bytes(org_id: str, request_id: str) -> int:
    return len(org_id.encode(errors="replace")) + len(request_id.encode(errors="replace"))


@lru_cache(maxsize=4096)
def is_sound_text(text: str) -> bool:
    """Whether the text may stand in a field; asked of few values many times, ids of new events aside."""
    return not any(_text_problems("", text, mandatory=True))


def _bad(code: str, where: str, detail: str, next_step: str) -> BadInput:
    return BadInput(code, detail, next_step=next_step, where=where or None)


def event_problems(raw: object, now: datetime, known_meters: Collection[str]) -> Iterator[BadInput]:
    if not isinstance(raw, Mapping):
        yield _bad("not_an_object", "", f"an event is a JSON object, not {_kind(raw)}", "send one object per event")
        return
    for name in raw:
        if name not in FIELDS:
            yield _bad(
                "unknown_field",
                _short(name),
                "there is no such field" + _did_you_mean(name, FIELDS),
                "remove it, or put what you want to keep into attributes",
            )
    for name in MANDATORY:
        if name not in raw:
            yield _bad("missing_field", name, "the field is mandatory", f"send {name} with every event")
    for name, check in _CHECKS.items():
        if name in raw:
            yield from check(name, raw[name])
    yield from _id_problems(raw.get("org_id"), raw.get("request_id"))
    if "time" in raw:
        yield from _time_problems(raw["time"], now)
    if "meters" in raw:
        yield from _meter_problems(raw["meters"], known_meters)


_KINDS: Mapping[type, str] = MappingProxyType(
    {
        bool: "a boolean",
        int: "a number",
        float: "a number with a fraction or exponent",
        str: "text",
        dict: "an object",
        list: "an array",
        type(None): "null",
    }
)


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _did_you_mean(name: object, choices: Iterable[str]) -> str:
    close = difflib.get_close_matches(_short(name), list(choices), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _wrong_type(where: str, value: object, wanted: str) -> BadInput:
    return _bad("wrong_type", where, f"it must be {wanted}, not {_kind(value)}", f"send {wanted}")


def _text_problems(where: str, value: object, *, mandatory: bool = False) -> Iterator[BadInput]:
    if value is None and not mandatory:
        return
    if not isinstance(value, str):
        yield _wrong_type(where, value, "text")
    elif not value.strip():
        yield _bad("empty_text", where, "it is empty", "send a value" if mandatory else "leave the field out instead")
    elif len(value) > TEXT_CHARS_MAX:
        yield _bad(
            "text_too_long",
            where,
            f"it has {len(value):,} characters; {TEXT_CHARS_MAX} is the most",
            "send a shorter id or name",
        )
    elif _CONTROL.search(value):
        yield _bad(
            "invalid_text",
            where,
            "it holds a control character or half of a surrogate pair",
            "send printable text in UTF-8",
        )
    elif holds_key(value):
        yield _key_in_text(where)


def _key_in_text(where: str) -> BadInput:
    return _bad(
        "key_in_text",
        where,
        "it holds a key, which would be stored, exported and shown",
        "send what the key is called, such as key_oBh2MLAy; and exchange the key: it was sent where it does not belong",
    )


def _mandatory_text(where: str, value: object) -> Iterator[BadInput]:
    return _text_problems(where, value, mandatory=True)


def _id_problems(org_id: object, request_id: object) -> Iterator[BadInput]:
    if not isinstance(org_id, str) or not isinstance(request_id, str) or ids_fit(org_id, request_id):
        return
    if max(len(org_id), len(request_id)) <= TEXT_CHARS_MAX:  # of what is longer it is said already
        yield _bad(
            "text_too_long",
            "request_id",
            f"with org_id it has {_id_bytes(org_id, request_id):,} bytes in UTF-8; {ID_BYTES_MAX:,} are the most",
            "send shorter ids",
        )


def _choice_problems(where: str, value: object) -> Iterator[BadInput]:
    choices = _CHOICES[where]
    if not isinstance(value, str):
        yield _wrong_type(where, value, "text")
    elif value not in choices:
        yield _bad(
            "not_a_choice",
            where,
            f"{_short(value)!r} is none of {', '.join(choices)}" + _did_you_mean(value, choices),
            "send one of them, or leave the field out",
        )


def _time_problems(value: object, now: datetime) -> Iterator[BadInput]:
    next_step = "send RFC 3339 with a zone, such as 2026-10-01T00:00:00Z"
    if not isinstance(value, str):
        yield _bad("invalid_time", "time", f"an instant is text, not {_kind(value)}", next_step)
        return
    try:
        time = msgspec.convert(value, datetime)
        if time.tzinfo is None:
            yield _bad("invalid_time", "time", f"{_short(value)!r} has no time zone", next_step)
            return
        time = time.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        yield _bad("invalid_time", "time", f"{_short(value)!r} is not an instant", next_step)
        return
    if time > now + FUTURE_MAX:
        yield _bad(
            "time_in_future",
            "time",
            f"{_short(value)} is {_short(time - now)} ahead of the present; 5 minutes are the most",
            "send the time at which the action completed; check the sender's clock",
        )
    elif time < OLDEST:
        yield _bad(
            "time_too_old", "time", f"{_short(value)} is before the year 2000", "send the time at which it completed"
        )


def _meter_problems(meters: object, known_meters: Collection[str]) -> Iterator[BadInput]:
    if not isinstance(meters, Mapping):
        yield _wrong_type("meters", meters, "an object of quantities by meter")
        return
    for meter, quantity in meters.items():
        where = f"meters.{_short(meter)}"
        if meter not in known_meters:
            hint = _did_you_mean(meter, known_meters) if METER_NAME.fullmatch(str(meter)) else ""
            yield _bad(
                "unknown_meter",
                where,
                f"there is no meter {_short(meter)!r}{hint}",
                "use a built-in meter, or declare it in a contract and apply that",
            )
        yield from _integer_problems(where, quantity, QUANTITY_MAX, "quantity")


def _integer_problems(where: str, value: object, largest: int, noun: str) -> Iterator[BadInput]:
    if not isinstance(value, int) or isinstance(value, bool):
        yield _wrong_type(where, value, "a whole number")
    elif value < 0:
        yield _bad("quantity_negative", where, f"{_digits(value)} is below zero", f"send a {noun} of zero or more")
    elif value > largest:
        yield _bad(
            "quantity_too_large",
            where,
            f"{_digits(value)} is more than {largest:,}, the largest {noun} there is",
            f"check the unit of the {noun}",
        )


def _digits(value: int) -> str:
    """The number, or its size when it is long: turning thousands of digits into text is slow, or refused."""
    return str(value) if abs(value) < 10**40 else f"a number of {value.bit_length() * 30103 // 100000 + 1:,} digits"


def _latency_problems(where: str, value: object) -> Iterator[BadInput]:
    if value is not None:
        yield from _integer_problems(where, value, LATENCY_MS_MAX, "latency in milliseconds")


def _provider_cost_problems(where: str, value: object) -> Iterator[BadInput]:
    if isinstance(value, str):
        yield _wrong_type(where, value, "a whole number of pico-USD")
    elif value is not None:
        yield from _integer_problems(where, value, PICO_MAX, "cost in pico-USD")


def price_context_problems(_: str, value: object) -> Iterator[BadInput]:
    if not isinstance(value, Mapping):
        yield _wrong_type("price_context", value, "an object of text by key")
        return
    for key, text in value.items():
        where = f"price_context.{_short(key)}"
        if key not in PRICE_CONTEXT_KEYS:
            yield _bad(
                "unknown_price_context",
                where,
                f"no price depends on it{_did_you_mean(key, PRICE_CONTEXT_KEYS)}",
                "use one of " + ", ".join(PRICE_CONTEXT_KEYS),
            )
        yield from _text_problems(where, text, mandatory=True)


def attribute_problems(_: str, value: object) -> Iterator[BadInput]:
    if not isinstance(value, Mapping):
        yield _wrong_type("attributes", value, "an object of text by key")
        return
    if len(value) > ATTRIBUTES_MAX:
        yield _bad(
            "too_many_attributes", "attributes", f"there are {len(value)}; {ATTRIBUTES_MAX} is the most", "send fewer"
        )
        return
    for key, text in value.items():
        where = f"attributes.{_short(key)}"
        yield from _text_problems(where, key, mandatory=True)
        if not isinstance(text, str):
            yield _wrong_type(where, text, "text")
        elif len(text) > TEXT_CHARS_MAX:
            yield _bad("text_too_long", where, f"it has {len(text):,} characters", f"send {TEXT_CHARS_MAX} at most")
        elif _UNSTORABLE.search(text):
            yield _bad(
                "invalid_text", where, "it holds a NUL or half of a surrogate pair", "send text that UTF-8 can hold"
            )
        elif holds_key(text):
            yield _key_in_text(where)


_CHECKS: Mapping[str, Callable[[str, Any], Iterator[BadInput]]] = MappingProxyType(
    {
        **dict.fromkeys(_MANDATORY_TEXT, _mandatory_text),
        **dict.fromkeys(_OPTIONAL_TEXT, _text_problems),
        **dict.fromkeys(_CHOICES, _choice_problems),
        "latency_ms": _latency_problems,
        "provider_cost_pico": _provider_cost_problems,
        "price_context": price_context_problems,
        "attributes": attribute_problems,
    }
)
