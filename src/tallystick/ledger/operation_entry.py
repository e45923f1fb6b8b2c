"""An operation's entry as the bytes that its leaf covers, and the parts of its body; `ledger.entry` says the form."""

from __future__ import annotations

from functools import lru_cache

import msgspec

_TEMPLATES_MAX = 1 << 14
_text = msgspec.json.encode


def operation_json(
    kind: str,
    org_id: str,
    request_id: str,
    body: bytes,
    fingerprint: bytes,
    rate_version: str,
    recorded_at: bytes,
    time: bytes,
    refers_to_seq: int | None = None,
    *,
    action: str | None = None,
    api_key_id: str | None = None,
    environment: str | None = None,
    feature: str | None = None,
    model: str | None = None,
    provider: str | None = None,
) -> bytes:
    """E of an operation. `body` is as `operation_body` writes it, instants are as `instant_json` gives them."""
    refers = b"" if refers_to_seq is None else b'"refers_to_seq":%d,' % refers_to_seq
    return b"".join(
        (
            _operation_start(action, api_key_id),
            body,
            _operation_middle(environment, feature),
            fingerprint.hex().encode(),
            _operation_end(kind, model, org_id, provider, rate_version),
            recorded_at,
            b",",
            refers,
            b'"request_id":',
            _text(request_id),
            b',"time":',
            time,
            b"}",
        )
    )


@lru_cache(maxsize=_TEMPLATES_MAX)
def _operation_start(action: str | None, api_key_id: str | None) -> bytes:
    return b"{" + _members(("action", action), ("api_key_id", api_key_id)) + b'"body":'


@lru_cache(maxsize=_TEMPLATES_MAX)
def _operation_middle(environment: str | None, feature: str | None) -> bytes:
    return b"," + _members(("environment", environment), ("feature", feature)) + b'"fingerprint":"'


@lru_cache(maxsize=_TEMPLATES_MAX)
def _operation_end(kind: str, model: str | None, org_id: str, provider: str | None, rate_version: str) -> bytes:
    members = (("kind", kind), ("model", model), ("org_id", org_id), ("provider", provider))
    return b'",' + _members(*members, ("rate_version", rate_version)) + b'"recorded_at":'


def _members(*members: tuple[str, str | None]) -> bytes:
    """Members of an object, each with a comma after it; those without a value are left out."""
    return b"".join(b'"%b":%b,' % (name.encode(), _text(value)) for name, value in members if value is not None)


def body_request(body: bytes) -> bytes:
    """The canonical JSON of what an operation's body says was asked for, as it stands in it.

    Raises:
        ValueError: it is no body of an operation.
    """
    return bytes(body_parts(body).request)


class BodyParts(msgspec.Struct, forbid_unknown_fields=True):
    """The two members of an operation's body, as they stand in it."""

    request: msgspec.Raw
    result: msgspec.Raw


body_parts = msgspec.json.Decoder(BodyParts).decode
