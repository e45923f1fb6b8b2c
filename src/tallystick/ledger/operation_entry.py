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
    template = _template(kind, org_id, rate_version, action, api_key_id, environment, feature, model, provider)
    return template % (body, fingerprint.hex().encode(), recorded_at, refers, _text(request_id), time)


@lru_cache(maxsize=_TEMPLATES_MAX)
def _template(
    kind: str,
    org_id: str,
    rate_version: str,
    action: str | None,
    api_key_id: str | None,
    environment: str | None,
    feature: str | None,
    model: str | None,
    provider: str | None,
) -> bytes:
    """What operations have in common, with places for the rest."""
    return b"".join(
        (
            b"{",
            _members(("action", action), ("api_key_id", api_key_id)),
            b'"body":%b,',
            _members(("environment", environment), ("feature", feature)),
            b'"fingerprint":"%b",',
            _members(("kind", kind), ("model", model), ("org_id", org_id), ("provider", provider)),
            _members(("rate_version", rate_version)),
            b'"recorded_at":%b,%b"request_id":%b,"time":%b}',
        )
    )


def _members(*members: tuple[str, str | None]) -> bytes:
    """Members in a template of an object, each with a comma after it; those without a value are left out."""
    written = [b'"%b":%b,' % (name.encode(), _text(value)) for name, value in members if value is not None]
    return b"".join(written).replace(b"%", b"%%")


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
