"""Rows of `ledger_entries` in PostgreSQL's binary COPY format, as bytes.

A row is a 16-bit field count, then each field as a 32-bit length (-1 for null) and its bytes, all big-endian
(PostgreSQL documentation, COPY, "Binary Format"). The order of the fields is this module's own (`COLUMNS`): first
what is known only under the org head's lock, so that all that follows is encoded before; then what repeats from
event to event, so that it is encoded once; then numbers, all packed in one call; then text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from struct import Struct
from typing import Any

import msgspec
from psycopg import adapters
from psycopg.adapt import Dumper
from psycopg.pq import Format

from tallystick.ledger.encoding import SALT_BYTES
from tallystick.ledger.entry import Entry

SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
END = b"\xff\xff"

_LOCKED = ("seq", "time_max", "leaf")
_EVENT = (
    "org_id", "kind", "feature", "environment", "provider", "model", "api_key_id", "action", "outcome", "usage_status",
    "payer",
)  # fmt: skip
_METERS = ("meter_names",)
_PRICING = (
    "rate_version", "status", "reason", "line_meters", "line_price_pico", "line_per", "line_models", "refers_to_seq",
)  # fmt: skip
_NUMBERS = (
    "time", "recorded_at", "meter_quantities", "line_quantities", "line_amount_pico", "cost_pico", "latency_ms",
    "provider_cost_pico",
)  # fmt: skip
_TEXTS = ("request_id", "user_id", "session_id", "salt", "fingerprint", "price_context", "attributes", "body")

COLUMNS = (*_LOCKED, *_EVENT, *_METERS, *_PRICING, *_NUMBERS, *_TEXTS)
"""The columns in the order in which a row has them."""

_CACHED_MAX = 1 << 14
_HEAD = Struct(">hiqiqi32s").pack
_LENGTH = Struct(">i").pack
_INTEGER = Struct(">iq").pack
_NULL = _LENGTH(-1)
_TEXT_OID, _TEXT_ARRAY_OID, _BIGINT_OID = 25, 1009, 20
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_json = msgspec.json.Encoder(order="sorted").encode


def row_head(seq: int, time_max_us: int, leaf: bytes) -> bytes:
    """The start of a row: what is known once the org's head is locked."""
    return _HEAD(len(COLUMNS), 8, seq, 8, time_max_us, 32, leaf)


def microseconds(instant: datetime) -> int:
    """Since 2000 UTC, as PostgreSQL stores an instant."""
    return (instant - _EPOCH) // _MICROSECOND


def instant_of(microseconds_: int) -> datetime:
    """The instant, in UTC, of so many microseconds since 2000."""
    return _EPOCH + microseconds_ * _MICROSECOND


@lru_cache(maxsize=_CACHED_MAX)
def event_texts(
    org_id: str,
    feature: str,
    environment: str,
    provider: str | None,
    model: str,
    api_key_id: str | None,
    action: str | None,
    outcome: str,
    usage_status: str,
    payer: str,
) -> bytes:
    """The fields `_EVENT` of a usage entry."""
    paid = None if payer == "seller" else payer
    return text_fields(
        org_id, "usage", feature, environment, provider, model, api_key_id, action, outcome, usage_status, paid
    )


@lru_cache(maxsize=_CACHED_MAX)
def meter_names(meters: tuple[str, ...]) -> tuple[tuple[str, ...], bytes]:
    """The meters sorted by name, and the field `meter_names`."""
    names = tuple(sorted(meters))
    return names, _text_array(names)


@lru_cache(maxsize=_CACHED_MAX)
def pricing_fields(
    rate_version: str,
    status: str,
    reason: str | None,
    meters: tuple[str, ...],
    price_pico: tuple[int | None, ...],
    per: tuple[int | None, ...],
    models: tuple[str | None, ...] | None,
    refers_to_seq: int | None = None,
) -> bytes:
    """The fields `_PRICING`."""
    lines = _text_array(meters) + _bigint_array(price_pico) + _bigint_array(per)
    return b"".join(
        (
            text_fields(rate_version, status, reason),
            lines,
            _NULL if models is None else _text_array(models),
            _integer(refers_to_seq),
        )
    )


def numbers(
    time_us: int,
    recorded_us: int,
    quantities: Sequence[int],
    line_quantities: Sequence[int],
    amounts: Sequence[Any],
    cost_pico: int | None,
    latency_ms: int | None,
    provider_cost_pico: int | None,
) -> bytes:
    """The fields `_NUMBERS` of a usage entry."""
    if (
        cost_pico is None
        or latency_ms is None
        or provider_cost_pico is not None
        or not quantities
        or not amounts
        or None in amounts
    ):
        return b"".join(
            (
                _INTEGER(8, time_us),
                _INTEGER(8, recorded_us),
                _bigint_array(quantities),
                _bigint_array(line_quantities),
                _bigint_array(amounts),
                _integer(cost_pico),
                _integer(latency_ms),
                _integer(provider_cost_pico),
            )
        )
    # The usual event, in one call: an array's header is as long as two bigints with their lengths.
    pack, fields, head, line_head = _number_fields(len(quantities), len(amounts))
    fields = fields.copy()
    fields[1::2] = (
        time_us, recorded_us, *head, *quantities, *line_head, *line_quantities, *line_head, *amounts, cost_pico,
        latency_ms,
    )  # fmt: skip
    return pack(*fields) + _NULL


@lru_cache(maxsize=1024)
def _number_fields(
    quantities: int, lines: int
) -> tuple[Callable[..., bytes], list[int], tuple[int, int], tuple[int, int]]:
    """How to pack numbers: each even place with the length of the bigint after it, or what stands there in a header."""
    heads = [[20 + 12 * count, _BIGINT_OID] for count in (quantities, lines)]
    lengths = [8, 8, *heads[0], *[8] * quantities, *heads[1], *[8] * lines, *heads[1], *[8] * lines, 8, 8]
    fields = [0] * (2 * len(lengths))
    fields[::2] = lengths
    # one dimension and no nulls; the size and the lower bound of that dimension
    return (
        Struct(">" + "iq" * len(lengths)).pack,
        fields,
        (1 << 32, quantities << 32 | 1),
        (1 << 32, lines << 32 | 1),
    )


def ids_and_tables(
    request_id: str,
    user_id: str,
    session_id: str,
    salt: bytes,
    fingerprint: bytes,
    price_context: Mapping[str, str],
    attributes: Mapping[str, str],
) -> bytes:
    """The fields `_TEXTS` of a usage entry."""
    request, user, session = request_id.encode(), user_id.encode(), session_id.encode()
    return b"".join(
        (
            _LENGTH(len(request)), request, _LENGTH(len(user)), user, _LENGTH(len(session)), session,
            _SALT_LENGTH, salt, _HASH_LENGTH, fingerprint,
            _jsonb(price_context) if price_context else _NO_TABLE,
            _jsonb(attributes) if attributes else _NO_TABLE, _NULL,
        )
    )  # fmt: skip


@lru_cache(maxsize=_CACHED_MAX)
def operation_texts(
    org_id: str,
    kind: str,
    feature: str | None,
    environment: str | None,
    provider: str | None,
    model: str | None,
    api_key_id: str | None,
    action: str | None,
    rate_version: str,
) -> bytes:
    """The fields of an operation's row that repeat: `_EVENT`, `_METERS` and `_PRICING` but for its last."""
    return b"".join(
        (
            text_fields(org_id, kind, feature, environment, provider, model, api_key_id, action, None, None, None),
            _NULL,
            pricing_fields(rate_version, "final", None, (), (), (), None).removesuffix(_NULL),
        )
    )


def operation_tail(
    texts: bytes,
    refers_to_seq: int | None,
    recorded_us: int,
    request_id: str,
    user_id: str | None,
    session_id: str | None,
    salt: bytes,
    fingerprint: bytes,
    attributes: Mapping[str, str],
    body: bytes,
) -> bytes:
    """The row of an operation after what `row_head` gives; `texts` as `operation_texts` makes them.

    It has no time but that at which it is recorded, costs nothing and has no lines.
    """
    return b"".join(
        (
            texts,
            _integer(refers_to_seq),
            _INTEGER(8, recorded_us), _INTEGER(8, recorded_us), _FREE_NUMBERS,
            text_fields(request_id, user_id, session_id),
            _SALT_LENGTH, salt, _HASH_LENGTH, fingerprint, _NULL,
            _jsonb(attributes) if attributes else _NO_TABLE, _LENGTH(len(body)), body,
        )
    )  # fmt: skip


def entry_row(entry: Entry) -> bytes:
    """Any entry as a row: the plain way, for those that come seldom."""
    pricing = (
        entry.rate_version,
        entry.status,
        entry.reason,
        tuple(entry.line_meters),
        tuple(entry.line_price_pico),
        tuple(entry.line_per),
        None if entry.line_models is None else tuple(entry.line_models),
        entry.refers_to_seq,
    )
    return b"".join(
        (
            row_head(entry.seq, microseconds(entry.time_max), entry.leaf),
            text_fields(*[getattr(entry, name) for name in _EVENT]),
            _NULL if entry.meter_names is None else _text_array(tuple(entry.meter_names)),
            pricing_fields(*pricing),
            _INTEGER(8, microseconds(entry.time)),
            _INTEGER(8, microseconds(entry.recorded_at)),
            _NULL if entry.meter_quantities is None else _bigint_array(entry.meter_quantities),
            _bigint_array(entry.line_quantities),
            _bigint_array(entry.line_amount_pico),
            _integer(entry.cost_pico),
            _integer(entry.latency_ms),
            _integer(entry.provider_cost_pico),
            text_fields(entry.request_id, entry.user_id, entry.session_id),
            _bytea(entry.salt),
            _bytea(entry.fingerprint),
            _NULL if entry.price_context is None else _jsonb(entry.price_context),
            _NULL if entry.attributes is None else _jsonb(entry.attributes),
            _text(entry.body),
        )
    )


class TextArray:
    """A text[] as a query's parameter, written at once: psycopg's own way looks at each text for what to escape."""

    def __init__(self, values: Sequence[str]) -> None:
        fields: list[bytes] = []
        for value in values:
            data = value.encode()
            fields += (_LENGTH(len(data)), data)
        self.data = _array(_TEXT_OID, len(values), False, b"".join(fields))[4:]


class _TextArrayDumper(Dumper):
    format = Format.BINARY
    oid = _TEXT_ARRAY_OID

    def dump(self, obj: TextArray) -> bytes:
        return obj.data


adapters.register_dumper(TextArray, _TextArrayDumper)


def text_fields(*values: str | None) -> bytes:
    """Text fields in a row."""
    return b"".join(map(_text, values))


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode()
    return _LENGTH(len(data)) + data


def _integer(value: int | None) -> bytes:
    return _NULL if value is None else _INTEGER(8, value)


def _bytea(value: bytes | None) -> bytes:
    return _NULL if value is None else _LENGTH(len(value)) + value


def _jsonb(value: Mapping[str, str]) -> bytes:
    data = _json(value)
    return _LENGTH(len(data) + 1) + b"\x01" + data  # jsonb's binary form: version 1, then the text


@lru_cache(maxsize=_CACHED_MAX)
def _text_array(values: tuple[str | None, ...]) -> bytes:
    return _array(_TEXT_OID, len(values), None in values, b"".join(map(_text, values)))


def _bigint_array(values: Sequence[int | None]) -> bytes:
    return _array(_BIGINT_OID, len(values), None in values, b"".join(map(_integer, values)))


def _array(oid: int, count: int, has_null: bool, elements: bytes) -> bytes:
    # length, dimensions, whether there are nulls, element type, then for the one dimension its size and lower bound
    header = _ARRAY_HEAD(20 + len(elements), 1, has_null, oid, count, 1) if count else _EMPTY[oid]
    return header + elements


_ARRAY_HEAD = Struct(">6i").pack
_EMPTY = {oid: Struct(">4i").pack(12, 0, 0, oid) for oid in (_TEXT_OID, _BIGINT_OID)}
_SALT_LENGTH, _HASH_LENGTH = _LENGTH(SALT_BYTES), _LENGTH(32)
_NO_TABLE = _jsonb({})
_NO_NUMBERS = _EMPTY[_BIGINT_OID]
_FREE_NUMBERS = b"".join((_NULL, _NO_NUMBERS, _NO_NUMBERS, _INTEGER(8, 0), _NULL, _NULL))
