"""Rows of the two large tables in PostgreSQL's binary COPY format, as bytes.

A row is a 16-bit field count, then each field as a 32-bit length (-1 for null) and its bytes, all big-endian
(PostgreSQL documentation, COPY, "Binary Format"). The first field of both is `seq`, which is known only
under the org head's lock; these functions give what follows it, so that encoding is done before any lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from struct import Struct
from typing import Literal

import msgspec

from tallystick.rates.model import Cost
from tallystick.usage.event import UsageEvent

SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
END = b"\xff\xff"

_EVENT_FIELDS, _ENTRY_FIELDS = 22, 17
_HEAD = Struct(">hiq")  # field count, length of seq, seq
_LENGTH = Struct(">i").pack
_INTEGER = Struct(">iq").pack
_NULL = _LENGTH(-1)
_TEXT_OID, _BIGINT_OID = 25, 20
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_json = msgspec.json.Encoder(order="sorted").encode


def event_row_head(seq: int) -> bytes:
    """The start of an event's row, up to and with `seq`."""
    return _HEAD.pack(_EVENT_FIELDS, 8, seq)


def entry_row_head(seq: int) -> bytes:
    """The start of an entry's row, up to and with `seq`."""
    return _HEAD.pack(_ENTRY_FIELDS, 8, seq)


def event_row_tail(event: UsageEvent, recorded_at: datetime, fingerprint: bytes) -> bytes:
    """What follows `seq` in the row of a raw fact; meters sorted by name."""
    names = tuple(sorted(event.meters))
    meters = event.meters
    return b"".join(
        (
            _text(event.org_id),
            _text(event.request_id),
            _instant(event.time),
            _instant(recorded_at),
            _text(event.user_id),
            _text(event.session_id),
            _common_text(event.feature),
            _common_text(event.environment),
            _common_text(event.provider),
            _common_text(event.model),
            _common_text(event.api_key_id),
            _common_text(event.action),
            _bigint(event.latency_ms),
            _common_text(event.outcome),
            _common_text(event.usage_status),
            _text_array(names),
            _bigint_array([meters[name] for name in names]),
            _jsonb(event.price_context),
            _bigint(event.provider_cost_pico),
            _jsonb(event.attributes),
            b"\x00\x00\x00\x20",
            fingerprint,
        )
    )


def entry_row_tail(
    event: UsageEvent,
    cost: Cost,
    recorded_at: datetime,
    *,
    kind: Literal["usage", "correction"] = "usage",
    refers_to_seq: int | None = None,
) -> bytes:
    """What follows `seq` in the row of a priced entry."""
    lines = cost.lines
    models = tuple(line.model for line in lines)
    return b"".join(
        (
            _text(event.org_id),
            _common_text(kind),
            _text(event.request_id),
            _instant(event.time),
            _instant(recorded_at),
            _common_text(cost.rate_version),
            _common_text(cost.status),
            _bigint(cost.total_pico),
            _text_array(tuple([line.meter for line in lines])),
            _bigint_array([line.quantity for line in lines]),
            _common_bigint_array(tuple([line.price_pico for line in lines])),
            _common_bigint_array(tuple([line.per for line in lines])),
            _bigint_array([line.amount_pico for line in lines]),
            _text_array(models) if any(models) else _NULL,
            _bigint(refers_to_seq),
            _text(cost.reason),
        )
    )


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode()
    return _LENGTH(len(data)) + data


_common_text = lru_cache(maxsize=8192)(_text)
"""For text that repeats from event to event."""


def _instant(value: datetime) -> bytes:
    return _INTEGER(8, (value - _EPOCH) // _MICROSECOND)


def _bigint(value: int | None) -> bytes:
    return _NULL if value is None else _INTEGER(8, value)


def _jsonb(value: dict[str, str]) -> bytes:
    if not value:
        return b"\x00\x00\x00\x03\x01{}"
    data = _json(value)
    return _LENGTH(len(data) + 1) + b"\x01" + data  # jsonb's binary form: version 1, then the text


@lru_cache(maxsize=8192)
def _text_array(values: tuple[str | None, ...]) -> bytes:
    return _array(_TEXT_OID, len(values), None in values, b"".join(map(_text, values)))


def _bigint_array(values: Sequence[int | None]) -> bytes:
    return _array(_BIGINT_OID, len(values), None in values, b"".join(map(_bigint, values)))


_common_bigint_array = lru_cache(maxsize=8192)(_bigint_array)
"""For arrays that repeat from event to event, such as prices."""


def _array(oid: int, count: int, has_null: bool, elements: bytes) -> bytes:
    # dimensions, whether there are nulls, element type, then for the one dimension its size and lower bound
    header = Struct(">6i").pack(20 + len(elements), 1, has_null, oid, count, 1) if count else _EMPTY[oid]
    return header + elements


_EMPTY = {oid: Struct(">4i").pack(12, 0, 0, oid) for oid in (_TEXT_OID, _BIGINT_OID)}
