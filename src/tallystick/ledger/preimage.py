"""Reading an entry back from the bytes that its leaf is the hash of: all of it but the personal data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Union

import msgspec

from tallystick.core.errors import BadInput
from tallystick.core.json_text import read_json
from tallystick.ledger.encoding import canonical_json
from tallystick.ledger.entry import FREE, OPERATION_KINDS, Entry, entry_preimage
from tallystick.ledger.merkle import leaf_hash


class _Lines(msgspec.Struct, forbid_unknown_fields=True):
    amount_pico: list[str | None]
    meters: list[str]
    per: list[str | None]
    price_pico: list[str | None]
    quantities: list[str]
    models: list[str | None] | None = None


class _Cost(msgspec.Struct, forbid_unknown_fields=True):
    lines: _Lines
    rate_version: str
    status: str
    total_pico: str | None
    reason: str | None = None


class _Fact(msgspec.Struct, forbid_unknown_fields=True):
    environment: str
    feature: str
    meters: dict[str, int]
    model: str
    org_id: str
    request_id: str
    time: datetime
    action: str | None = None
    api_key_id: str | None = None
    latency_ms: int | None = None
    outcome: str = "success"
    payer: str | None = None
    price_context: dict[str, str] | None = None
    provider: str | None = None
    provider_cost_pico: str | None = None
    usage_status: str = "final"


class _Usage(msgspec.Struct, forbid_unknown_fields=True, tag="usage", tag_field="kind"):
    cost: _Cost
    fact: _Fact
    fingerprint: str
    recorded_at: datetime


class _Correction(msgspec.Struct, forbid_unknown_fields=True, tag="correction", tag_field="kind"):
    cost: _Cost
    org_id: str
    recorded_at: datetime
    refers_to_seq: int
    request_id: str
    time: datetime
    payer: str | None = None


class _Operation(msgspec.Struct, forbid_unknown_fields=True, tag_field="kind"):
    body: msgspec.Raw
    fingerprint: str
    org_id: str
    rate_version: str
    recorded_at: datetime
    request_id: str
    time: datetime
    action: str | None = None
    api_key_id: str | None = None
    environment: str | None = None
    feature: str | None = None
    model: str | None = None
    provider: str | None = None
    refers_to_seq: int | None = None


class _Preimage(msgspec.Struct, forbid_unknown_fields=True):
    """`entry` is a `_Usage`, a `_Correction` or an `_Operation` of its kind: see `_decoder`."""

    entry: Any
    seq: int
    time_max: datetime


def _kinds() -> Any:
    operations = [
        msgspec.defstruct(f"_{kind}", [], bases=(_Operation,), tag=kind, forbid_unknown_fields=True)
        for kind in sorted(OPERATION_KINDS)
    ]
    return Union[_Usage, _Correction, *operations]


_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    msgspec.defstruct("_PreimageOfKind", [("entry", _kinds())], bases=(_Preimage,), forbid_unknown_fields=True)
)


def read_preimage(data: bytes | msgspec.Raw) -> Entry:
    """The entry whose preimage this is; `leaf` is the hash of its canonical form, however the JSON was laid out.

    Raises:
        BadInput: `invalid_entry`: it is not the preimage of an entry.
    """
    try:
        found = _decoder.decode(data)
        entry = _entry(found)
        made = entry_preimage(entry)
        if made != bytes(data):
            if entry.body is not None:
                entry = entry._replace(body=canonical_json(json.loads(entry.body)).decode())
                made = entry_preimage(entry)
            if json.loads(made) != read_json(data):
                raise ValueError("a value in it is not written as a ledger writes it")
        return entry._replace(leaf=leaf_hash(made))
    except (msgspec.DecodeError, UnicodeError, TypeError, ValueError, OverflowError, RecursionError, BadInput) as error:
        raise BadInput(
            "invalid_entry",
            f"this is not an entry of a ledger: {error}",
            next_step="have the proof made again: tally proof invoice ID",
        ) from None


def _entry(found: _Preimage) -> Entry:
    if isinstance(found.entry, _Usage):
        return _usage(found, found.entry)
    if isinstance(found.entry, _Correction):
        return _correction(found, found.entry)
    return _operation(found, found.entry)


def _usage(found: _Preimage, entry: _Usage) -> Entry:
    fact = entry.fact
    return Entry(
        org_id=fact.org_id,
        seq=found.seq,
        kind="usage",
        request_id=fact.request_id,
        time=fact.time,
        time_max=found.time_max,
        recorded_at=entry.recorded_at,
        feature=fact.feature,
        environment=fact.environment,
        provider=fact.provider,
        model=fact.model,
        api_key_id=fact.api_key_id,
        action=fact.action,
        latency_ms=fact.latency_ms,
        outcome=fact.outcome,
        usage_status=fact.usage_status,
        meter_names=list(fact.meters),
        meter_quantities=list(fact.meters.values()),
        price_context=fact.price_context or {},
        provider_cost_pico=_integer(fact.provider_cost_pico),
        payer=fact.payer,
        user_id=None,
        session_id=None,
        attributes=None,
        salt=None,
        fingerprint=bytes.fromhex(entry.fingerprint),
        **_priced(entry.cost),
        refers_to_seq=None,
        body=None,
        leaf=b"",
    )


def _priced(cost: _Cost) -> dict[str, Any]:
    """The columns that say what an entry cost, of usage and corrections alike."""
    lines = cost.lines
    return {
        "rate_version": cost.rate_version,
        "status": cost.status,
        "cost_pico": _integer(cost.total_pico),
        "line_meters": lines.meters,
        "line_quantities": _integers(lines.quantities),
        "line_price_pico": _maybe_integers(lines.price_pico),
        "line_per": _maybe_integers(lines.per),
        "line_amount_pico": _maybe_integers(lines.amount_pico),
        "line_models": lines.models,
        "reason": cost.reason,
    }


_NOTHING = Entry._make([None] * len(Entry._fields))


def _correction(found: _Preimage, entry: _Correction) -> Entry:
    return _NOTHING._replace(
        org_id=entry.org_id,
        seq=found.seq,
        kind="correction",
        request_id=entry.request_id,
        time=entry.time,
        time_max=found.time_max,
        recorded_at=entry.recorded_at,
        payer=entry.payer,
        **_priced(entry.cost),
        refers_to_seq=entry.refers_to_seq,
        leaf=b"",
    )


def _operation(found: _Preimage, entry: _Operation) -> Entry:
    return _NOTHING._replace(
        org_id=entry.org_id,
        seq=found.seq,
        kind=str(entry.__struct_config__.tag),
        request_id=entry.request_id,
        time=entry.time,
        time_max=found.time_max,
        recorded_at=entry.recorded_at,
        feature=entry.feature,
        environment=entry.environment,
        provider=entry.provider,
        model=entry.model,
        api_key_id=entry.api_key_id,
        action=entry.action,
        fingerprint=bytes.fromhex(entry.fingerprint),
        rate_version=entry.rate_version,
        **FREE,
        refers_to_seq=entry.refers_to_seq,
        body=bytes(entry.body).decode(),
        leaf=b"",
    )


def _integer(text: str | None) -> int | None:
    return None if text is None else int(text)


def _integers(texts: Sequence[str]) -> list[int]:
    return [int(text) for text in texts]


def _maybe_integers(texts: Sequence[str | None]) -> list[int | None]:
    return [None if text is None else int(text) for text in texts]
