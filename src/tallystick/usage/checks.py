"""Checking a raw event: what is sound becomes a `UsageEvent`, and what is not is told with every fault it has.

Sound events take the fast path, a conversion in C and a few comparisons. Only an event that fails is looked at
field by field, to say what is wrong with it (`usage.event_problems`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec

from tallystick.core.errors import Problems
from tallystick.core.key_shapes import may_hold_key
from tallystick.core.money import PICO_MAX
from tallystick.usage.event import UsageEvent
from tallystick.usage.event_problems import (
    ATTRIBUTES_MAX,
    FUTURE_MAX,
    LATENCY_MS_MAX,
    OLDEST,
    TEXT_CHARS_MAX,
    attribute_problems,
    event_problems,
    ids_fit,
    is_sound_text,
    price_context_problems,
)
from tallystick.usage.meters import QUANTITY_MAX

PROBLEMS_MAX = 50
"""How many faults of one event are told; each takes a search for the nearest name, and nobody reads more."""

_FINER_THAN_MICROSECONDS = re.compile(r"(\.[0-9]{6})[0-9]+")
_DIGITS = re.compile(r"-?[0-9]{1,19}")
_BELOW_MICROSECONDS = len("2026-10-01T00:00:00.000000")
"""Where a digit stands in a time whose fraction is finer than microseconds."""


def check_event(raw: object, *, now: datetime, known_meters: Collection[str]) -> UsageEvent:
    """The event that `raw` (a decoded JSON value) holds, its time in UTC, fractions below a microsecond cut off.

    They are cut off, not rounded: rounding could move the last instant of a month into the next.

    Args:
        raw: a mapping of the fields of `UsageEvent`; `provider_cost_pico` may also be a string of digits.
        now: the present instant; an event may be `FUTURE_MAX` ahead of it.
        known_meters: the built-in meters and those that contracts declare.

    Raises:
        BadInput: the one fault, `where` being the field: `not_an_object`, `missing_field`, `unknown_field`,
            `wrong_type`, `empty_text`, `invalid_text`, `key_in_text`, `text_too_long`, `invalid_time`,
            `time_in_future`, `time_too_old`, `unknown_meter`, `quantity_negative`, `quantity_too_large`,
            `not_a_choice`, `too_many_attributes`, `unknown_price_context`.
        Problems: `invalid_event`, several of them.
    """
    event = sound_event(raw, now=now, known_meters=known_meters)
    if event is not None:
        return event
    if isinstance(raw, Mapping) and isinstance(raw.get("provider_cost_pico"), str):
        digits = str(raw["provider_cost_pico"])
        if _DIGITS.fullmatch(digits):
            return check_event({**raw, "provider_cost_pico": int(digits)}, now=now, known_meters=known_meters)
    problems = list(islice(event_problems(raw, now, known_meters), PROBLEMS_MAX))
    if len(problems) == 1:
        raise problems[0]
    raise Problems("invalid_event", problems, next_step="mend each field, then send the event again")


def sound_event(raw: object, *, now: datetime, known_meters: Collection[str]) -> UsageEvent | None:
    """What `check_event` gives; None, at once, for what it may refuse. Arguments as there."""
    event = _convert(raw)
    return event if event is not None and is_sound(event, now, known_meters) else None


def _convert(raw: Any) -> UsageEvent | None:
    """The raw value as an event whose types are right and whose time is in UTC; None when they are not."""
    try:
        time = raw["time"]  # what is no object is found out here
        if time[_BELOW_MICROSECONDS : _BELOW_MICROSECONDS + 1].isdigit():
            raw = {**raw, "time": _FINER_THAN_MICROSECONDS.sub(r"\1", time)}
        event = msgspec.convert(raw, UsageEvent)
        if event.time.tzinfo is UTC:
            return event
        if event.time.tzinfo is None:
            return None
        return msgspec.structs.replace(event, time=event.time.astimezone(UTC))
    except (msgspec.ValidationError, LookupError, AttributeError, TypeError, ValueError, OverflowError):
        return None


def is_sound(event: UsageEvent, now: datetime, known_meters: Collection[str]) -> bool:
    """Whether `check_event` takes an event whose types are right and whose time is in UTC. Arguments as there."""
    for meter, quantity in event.meters.items():
        if meter not in known_meters or not 0 <= quantity <= QUANTITY_MAX:
            return False
    ids = (event.org_id, event.request_id, event.user_id, event.session_id)
    joined = "".join(ids)
    # Printable text without a space is the usual case, and cheap to see.
    if not (
        all(ids)
        and len(joined) <= TEXT_CHARS_MAX
        and " " not in joined
        and joined.isprintable()
        and not may_hold_key(joined)
    ):
        for text in ids:
            if not is_sound_text(text):
                return False
        if not ids_fit(event.org_id, event.request_id):
            return False
    return (
        is_sound_text(event.feature)
        and is_sound_text(event.environment)
        and is_sound_text(event.model)
        and OLDEST <= event.time <= now + FUTURE_MAX
        and _optional_fields_are_sound(event)
    )


def _optional_fields_are_sound(event: UsageEvent) -> bool:
    for text in (event.provider, event.api_key_id, event.action):
        if text is not None and not is_sound_text(text):
            return False
    for key, text in event.attributes.items():
        if not (text.isprintable() and len(text) <= TEXT_CHARS_MAX and is_sound_text(key)) or may_hold_key(text):
            if any(attribute_problems("", event.attributes)):
                return False
            break
    return (
        (event.latency_ms is None or 0 <= event.latency_ms <= LATENCY_MS_MAX)
        and (event.provider_cost_pico is None or 0 <= event.provider_cost_pico <= PICO_MAX)
        and len(event.attributes) <= ATTRIBUTES_MAX
        and not (event.price_context and any(price_context_problems("", event.price_context)))
    )
