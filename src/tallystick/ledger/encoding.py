"""The canonical form of a raw fact, and its fingerprint: what makes a repeated event the same event.

The canonical form is JSON in the manner of RFC 8785: no whitespace, members sorted by code point, text in
UTF-8 with only the escapes that JSON requires. It holds what the caller sent and nothing else (not the time
of recording, no sequence number, no price). Members:

    those of `UsageEvent`; one that is absent, null or has its default value is left out
    `time` is RFC 3339 in UTC with `Z`, microseconds only when there are any
    quantities and `latency_ms` are JSON integers (all below 2**53)
    `provider_cost_pico` is a string of digits, since it may be larger than that

The fingerprint is SHA-256 over the bytes of `PREFIX` followed by the canonical form. A member added to
events later leaves the fingerprint of every fact without it as it was.
"""

from __future__ import annotations

import hashlib

import msgspec

from tallystick.usage.event import UsageEvent

PREFIX = b"tallystick usage event v1\n"

_encode = msgspec.json.Encoder(order="sorted").encode
_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(UsageEvent)}
_SUCCESS, _FINAL = _DEFAULTS["outcome"], _DEFAULTS["usage_status"]


def canonical_fact(event: UsageEvent) -> bytes:
    """The canonical JSON of the event; the same bytes for the same content, on every machine."""
    if event.outcome is not _SUCCESS or event.usage_status is not _FINAL:
        event = _with_own_defaults(event)
    if event.provider_cost_pico is None:
        return _encode(event)
    members = msgspec.to_builtins(event)
    members["provider_cost_pico"] = str(event.provider_cost_pico)
    return _encode(members)


def _with_own_defaults(event: UsageEvent) -> UsageEvent:
    # msgspec knows a default by its identity, and text from a database only equals it.
    outcome = _SUCCESS if event.outcome == _SUCCESS else event.outcome
    usage_status = _FINAL if event.usage_status == _FINAL else event.usage_status
    return msgspec.structs.replace(event, outcome=outcome, usage_status=usage_status)


def fingerprint(event: UsageEvent) -> bytes:
    """SHA-256 (32 bytes) of the event's content."""
    return hashlib.sha256(PREFIX + canonical_fact(event)).digest()
