r"""The canonical form of a raw fact, and its fingerprint: what makes a repeated event the same event.

The canonical form is RFC 8785 JSON: no white space, members sorted by UTF-16 code units, text in UTF-8 with only the
escapes that JSON requires. It holds what the caller sent and nothing else (not the time of recording, no sequence
number, no price), in two parts, because one of them may have to be erased some day:

    core       the members of `UsageEvent` without `user_id`, `session_id` and `attributes`
    personal   `{"attributes": …, "session_id": …, "user_id": …}`

Members that are absent, null or have their default value are left out. `time` is RFC 3339 in UTC with `Z`,
microseconds only when there are any; quantities and `latency_ms` are JSON integers (all below 2**53);
`provider_cost_pico` is a string of digits, since it may be larger than that.

    fingerprint = SHA-256(PREFIX ‖ salt ‖ core ‖ "\n" ‖ personal)

Of an operation on an org's account (`ledger.operations`) it is

    fingerprint = SHA-256(OPERATION_PREFIX ‖ salt ‖ {"kind":…,"org_id":…,"request":R,"request_id":…} ‖ "\n" ‖ personal)

where R is what was asked for, canonical too, and members of `personal` that there are none of are left out.

The salt is 16 random bytes of the entry's own. Without it nobody can find out by trying who was meant; so once salt
and personal data are erased, what remains tells nothing about the person, and still proves that nothing was changed.
A member added to events later leaves the fingerprint of every fact without it as it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from tallystick.usage.event import UsageEvent

PREFIX = b"tallystick usage event v2\n"
OPERATION_PREFIX = b"tallystick operation v1\n"
SALT_BYTES = 16

_SUCCESS, _FINAL, _SELLER = "success", "final", "seller"
_text = msgspec.json.encode
_encode = msgspec.json.Encoder(order="deterministic").encode  # sorts the keys of a dict, by code point


class _Core(msgspec.Struct, omit_defaults=True, gc=False):
    """The core's members, in canonical order; None is left out."""

    action: str | None = None
    api_key_id: str | None = None
    environment: str | None = None
    feature: str | None = None
    latency_ms: int | None = None
    meters: Mapping[str, int] | None = None
    model: str | None = None
    org_id: str | None = None
    outcome: str | None = None
    payer: str | None = None
    price_context: Mapping[str, str] | msgspec.Raw | None = None
    provider: str | None = None
    provider_cost_pico: str | None = None
    request_id: str | None = None
    time: datetime | None = None
    usage_status: str | None = None


class _Personal(msgspec.Struct, omit_defaults=True, gc=False):
    """The personal part's members, in canonical order; None is left out."""

    attributes: Mapping[str, str] | msgspec.Raw | None = None
    session_id: str | None = None
    user_id: str | None = None


def core_json(event: UsageEvent) -> bytes:
    """The canonical JSON of what no erasure touches; the same bytes for the same content, on every machine."""
    outcome, usage_status = event.outcome, event.usage_status
    context, provider_cost_pico = event.price_context, event.provider_cost_pico
    return _encode(
        _Core(
            event.action,
            event.api_key_id,
            event.environment,
            event.feature,
            event.latency_ms,
            event.meters,
            event.model,
            event.org_id,
            None if outcome == _SUCCESS else outcome,
            None if event.payer == _SELLER else event.payer,
            canonical_table(context) if context else None,
            event.provider,
            None if provider_cost_pico is None else str(provider_cost_pico),
            event.request_id,
            event.time,
            None if usage_status == _FINAL else usage_status,
        )
    )


def personal_json(session_id: str | None, user_id: str | None, attributes: Mapping[str, str]) -> bytes:
    """The canonical JSON of what may be erased."""
    return _encode(_Personal(canonical_table(attributes) if attributes else None, session_id, user_id))


def fingerprint(salt: bytes, core: bytes, personal: bytes) -> bytes:
    """SHA-256 (32 bytes) of an event's content, with the salt of its entry."""
    return hashlib.sha256(b"%b%b%b\n%b" % (PREFIX, salt, core, personal)).digest()


def event_fingerprint(event: UsageEvent, salt: bytes) -> bytes:
    """The fingerprint of an event under a salt."""
    return fingerprint(salt, core_json(event), personal_json(event.session_id, event.user_id, event.attributes))


def operation_fingerprint(
    salt: bytes, kind: str, org_id: str, request_id: str, request: bytes, personal: bytes
) -> bytes:
    """SHA-256 (32 bytes) of what was asked of an org's account, with the salt of its entry.

    Args:
        request: R, as `ledger.operation_body` writes it.
        personal: as `personal_json` writes it.
    """
    named = (_text(kind), _text(org_id), request, _text(request_id))
    core = b'{"kind":%b,"org_id":%b,"request":%b,"request_id":%b}' % named
    return hashlib.sha256(b"%b%b%b\n%b" % (OPERATION_PREFIX, salt, core, personal)).digest()


def canonical_table(table: Mapping[str, str]) -> Mapping[str, str] | msgspec.Raw:
    """What msgspec writes canonically: the table itself, unless its keys may sort otherwise by UTF-16."""
    if "".join(table).isascii():
        return table
    return msgspec.Raw(canonical_json(table))


def canonical_json(value: Any) -> bytes:
    """RFC 8785 JSON of objects, arrays, text, integers below 2**53, booleans and null."""
    return json.dumps(_sorted(value), ensure_ascii=False, separators=(",", ":")).encode()


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value, key=_utf16)}
    if isinstance(value, list | tuple):
        return [_sorted(member) for member in value]
    return value


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-be")
