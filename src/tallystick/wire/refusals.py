"""Our refusals in the shape of a provider's own errors, so that its official clients raise what they always raise.

    refusal = refusal_of("openai", 429, error.as_dict(), request_id="req_1", retry_after_seconds=30)
    send(refusal.status, refusal.headers, refusal.body)

    OpenAI       {"error": {"message", "type", "param", "code", "tallystick"}, "tallystick": {…}}
    Anthropic    {"type": "error", "error": {"type", "message"}, "request_id", "tallystick": {…}}
    Gemini       {"error": {"code", "message", "status", "details": []}, "tallystick": {…}}

`tallystick` has our own members: `code`, `detail`, `next_step`, `request_id`, `where` and `decision` where there are
any. OpenAI's client keeps of a body only what is inside `error`, so that it stands there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from tallystick.wire.routes import Flavor

RETRY_SECONDS_MAX: Final = 60
"""How long the official clients wait at most because of `Retry-After`; what takes longer is not worth their retry."""
ERRORS_MAX: Final = 20
"""How many faults of a request are listed."""

_OPENAI_TYPES: Final = MappingProxyType(
    {401: "authentication_error", 402: "insufficient_quota", 403: "permission_error", 404: "not_found_error",
     409: "conflict_error", 429: "rate_limit_error"}
)  # fmt: skip
_ANTHROPIC_TYPES: Final = MappingProxyType(
    {401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
     413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error",
     503: "overloaded_error"}
)  # fmt: skip
_GEMINI_STATUSES: Final = MappingProxyType(
    {401: "UNAUTHENTICATED", 402: "FAILED_PRECONDITION", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED",
     429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
)  # fmt: skip


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of ours in a provider's shape.

    Attributes:
        headers: with lower-case names, content type and length among them.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def refusal_of(
    flavor: Flavor,
    status: int,
    members: Mapping[str, Any],
    *,
    request_id: str,
    retry_after_seconds: int | None = None,
    may_retry: bool | None = None,
) -> Refusal:
    """A refusal.

    Args:
        flavor: in whose shape; the request's `Asked.api`.
        status: the HTTP status.
        members: `code`, `detail`, `next_step`, and whatever else is known (`where`, `decision`, `entry`, …).
        request_id: of the call.
        retry_after_seconds: when trying again is likely to do better.
        may_retry: whether the same call again can have another answer; left out, it can when it says within
            `RETRY_SECONDS_MAX` when, or when it is the server's fault.
    """
    ours = {**members, "request_id": request_id}
    body = msgspec.json.encode(_document(flavor, status, ours))
    headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
    if retry_after_seconds is not None:
        headers.append(("retry-after", str(retry_after_seconds)))
    if may_retry is None:
        soon = retry_after_seconds is not None and retry_after_seconds <= RETRY_SECONDS_MAX
        may_retry = soon if status < 500 else retry_after_seconds is None or soon
    headers.append(("x-should-retry", "true" if may_retry else "false"))
    return Refusal(status=status, headers=tuple(headers), body=body)


def error_event(flavor: Flavor, status: int, members: Mapping[str, Any], *, request_id: str) -> bytes:
    """A server-sent event that ends a stream with an error of ours, in the provider's shape."""
    data = msgspec.json.encode(_document(flavor, status, {**members, "request_id": request_id}))
    return (b"event: error\ndata: " if flavor == "anthropic" else b"data: ") + data + b"\n\n"


def _document(flavor: Flavor, status: int, ours: Mapping[str, Any]) -> dict[str, Any]:
    message = f"{_sentence(ours['detail'])} {_sentence(ours['next_step'])}"
    match flavor:
        case "openai":
            kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
            error = {"message": message, "type": kind, "param": ours.get("where"), "code": ours["code"]}
            return {"error": {**error, "tallystick": ours}, "tallystick": ours}
        case "anthropic":
            kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
            named = {"type": kind, "message": message}
            return {"type": "error", "error": named, "request_id": ours["request_id"], "tallystick": ours}
        case _:
            word = _GEMINI_STATUSES.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
            error = {"code": status, "message": message, "status": word, "details": []}
            return {"error": error, "tallystick": ours}


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
