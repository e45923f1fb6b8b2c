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

import msgspec
from msgspec.structs import astuple

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


def row_tails(event: UsageEvent, cost: Cost, recorded_at: datetime, fingerprint: bytes) -> tuple[bytes, bytes]:
    """What follows `seq` in the rows of a raw fact (its meters sorted by name) and of its priced entry."""
    org_id, request_id = _text(event.org_id), _text(event.request_id)
    times = _instant(event.time) + _common_instant(recorded_at)
    meters = event.meters
    names, names_field = _names(tuple(meters))
    latency_ms, provider_cost_pico = event.latency_ms, event.provider_cost_pico
    fact = b"".join(
        (
            org_id,
            request_id,
            times,
            _text(event.user_id),
            _text(event.session_id),
            _common_texts(event.feature, event.environment, event.provider, event.model),
            _common_texts(event.api_key_id, event.action),
            _NULL if latency_ms is None else _INTEGER(8, latency_ms),
            _common_texts(event.outcome, event.usage_status),
            names_field,
            _bigint_array([meters[name] for name in names]),
            _jsonb(event.price_context),
            _NULL if provider_cost_pico is None else _INTEGER(8, provider_cost_pico),
            _jsonb(event.attributes),
            b"\x00\x00\x00\x20",
            fingerprint,
        )
    )
    return fact, b"".join((org_id, _USAGE, request_id, times, _cost_fields(cost), _NULL, _text(cost.reason)))


def correction_row_tail(event: UsageEvent, cost: Cost, recorded_at: datetime, refers_to_seq: int) -> bytes:
    """What follows `seq` in the row of an entry that gives an earlier one its cost."""
    ids = (_text(event.org_id), _text("correction"), _text(event.request_id))
    times = (_instant(event.time), _instant(recorded_at))
    return b"".join((*ids, *times, _cost_fields(cost), _INTEGER(8, refers_to_seq), _text(cost.reason)))


def _cost_fields(cost: Cost) -> bytes:
    """From `rate_version` to `line_models`."""
    total = cost.total_pico
    head = _common_texts(cost.rate_version, cost.status) + (_NULL if total is None else _INTEGER(8, total))
    if not cost.lines:
        return head + _NO_LINES
    # CostLine's own order: meter, quantity, price_pico, per, amount_pico, model.
    meters, quantities, prices, pers, amounts, models = zip(*map(astuple, cost.lines), strict=True)
    return b"".join(
        (
            head,
            _text_array(meters),
            _bigint_array(quantities),
            _prices(prices, pers),
            _bigint_array(amounts),
            _text_array(models) if any(models) else _NULL,
        )
    )


@lru_cache(maxsize=8192)
def _names(meters: tuple[str, ...]) -> tuple[tuple[str, ...], bytes]:
    """The meters sorted by name, and as a field."""
    names = tuple(sorted(meters))
    return names, _text_array(names)


@lru_cache(maxsize=8192)
def _prices(prices: tuple[int | None, ...], pers: tuple[int | None, ...]) -> bytes:
    """The two fields; they repeat from event to event."""
    return _bigint_array(prices) + _bigint_array(pers)


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode()
    return _LENGTH(len(data)) + data


@lru_cache(maxsize=8192)
def _common_texts(*values: str | None) -> bytes:
    """Fields in a row, of text that repeats from event to event."""
    return b"".join(map(_text, values))


_USAGE = _text("usage")


def _instant(value: datetime) -> bytes:
    return _INTEGER(8, (value - _EPOCH) // _MICROSECOND)


_common_instant = lru_cache(maxsize=16)(_instant)


def _jsonb(value: dict[str, str]) -> bytes:
    if not value:
        return b"\x00\x00\x00\x03\x01{}"
    data = _json(value)
    return _LENGTH(len(data) + 1) + b"\x01" + data  # jsonb's binary form: version 1, then the text


@lru_cache(maxsize=8192)
def _text_array(values: tuple[str | None, ...]) -> bytes:
    return _array(_TEXT_OID, len(values), None in values, b"".join(map(_text, values)))


def _bigint_array(values: Sequence[int | None]) -> bytes:
    if None in values:
        elements = b"".join(_NULL if value is None else _INTEGER(8, value) for value in values)
        return _array(_BIGINT_OID, len(values), True, elements)
    count = len(values)
    if not count:
        return _EMPTY[_BIGINT_OID]
    fields: list[int] = [8] * (2 * count)
    fields[1::2] = values  # type: ignore[assignment]
    return _bigints(count).pack(20 + 12 * count, 1, 0, _BIGINT_OID, count, 1, *fields)


@lru_cache(maxsize=256)
def _bigints(count: int) -> Struct:
    """A whole array field of `count` bigints: header, then length and value of each."""
    return Struct(">6i" + "iq" * count)


def _array(oid: int, count: int, has_null: bool, elements: bytes) -> bytes:
    # length, dimensions, whether there are nulls, element type, then for the one dimension its size and lower bound
    header = _ARRAY_HEAD(20 + len(elements), 1, has_null, oid, count, 1) if count else _EMPTY[oid]
    return header + elements


_ARRAY_HEAD = Struct(">6i").pack
_EMPTY = {oid: Struct(">4i").pack(12, 0, 0, oid) for oid in (_TEXT_OID, _BIGINT_OID)}
_NO_LINES = _EMPTY[_TEXT_OID] + 4 * _EMPTY[_BIGINT_OID] + _NULL
