"""Requests and answers of the server's API as values: what is sent, and what an answer means. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from tallystick_sdk.decoding import decode
from tallystick_sdk.errors import (
    BadRequest,
    Conflict,
    Denied,
    Forbidden,
    NotFound,
    TallyError,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from tallystick_sdk.results import Decision, WalletChange

VERSION: Final = "0.1.0"
_KINDS: Final[dict[int, type[TallyError]]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    425: Unavailable,
    429: Unavailable,
}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request: `body` is JSON, encoded."""

    method: str
    path: str
    body: bytes | None = None


def get(*path: str) -> Call:
    """A GET; each part of the path is escaped."""
    return Call(method="GET", path="/" + "/".join(quote(part, safe="") for part in path))


def post(path: str, body: object) -> Call:
    """A POST of JSON."""
    return Call(method="POST", path=path, body=encode(body))


def encode(value: object) -> bytes:
    """JSON, in UTF-8, without spaces.

    Raises:
        BadRequest: `not_json`, for what JSON cannot say.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(
            "not_json", f"it cannot be sent as JSON: {error}", next_step="send text, whole numbers, lists and objects"
        ) from None


def checked_base_url(url: str) -> str:
    """The server's address without a slash at its end.

    Raises:
        BadRequest: `invalid_base_url`.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise BadRequest(
            "invalid_base_url",
            "base_url is not the address of a server",
            next_step="write it as http://host:port or https://host, without a key in it",
        )
    return url.rstrip("/").removesuffix("/v1")


def headers(api_key: str | None) -> dict[str, str]:
    """What every request carries."""
    found = {
        "accept": "application/json",
        "content-type": "application/json",
        "user-agent": f"tallystick-sdk/{VERSION} python",
    }
    return found | ({"authorization": f"Bearer {api_key}"} if api_key else {})


def answer_of(status: int, sent: Mapping[str, str], body: bytes) -> Any:
    """The decoded JSON of a good answer.

    Args:
        status: of HTTP.
        sent: the answer's headers, their names in lower case.
        body: the whole body.

    Raises:
        TallyError: what any other answer says.
    """
    members = _json(body)
    if 200 <= status < 300 and members is not None:
        return members
    raise refusal_of(status, sent, members if isinstance(members, dict) else {})


def refusal_of(status: int, sent: Mapping[str, str], problem: Mapping[str, Any]) -> TallyError:
    """What an answer that is no good one says, as an exception."""
    code = problem.get("code")
    if not isinstance(code, str):
        return _foreign(status, sent)
    details: dict[str, Any] = {
        "next_step": str(problem.get("next_step") or ""),
        "status": status,
        "where": problem.get("where") or problem.get("field"),
        "problems": tuple(problem.get("errors") or problem.get("problems") or ()),
        "request_id": problem.get("request_id") or sent.get("request-id"),
        "retry_after_seconds": _seconds(sent.get("retry-after")),
    }
    detail = str(problem.get("detail") or problem.get("title") or code)
    if isinstance(problem.get("decision"), dict):
        denied = Denied(code, detail, **details)
        denied.decision = decode(Decision, problem["decision"])
        if isinstance(problem.get("wallet"), dict):
            denied.wallet = decode(WalletChange, problem["wallet"])
        return denied
    kind = _KINDS.get(status, Unavailable if status >= 500 else BadRequest)
    return kind(code, detail, **details)


def unreachable(error: Exception, base_url: str) -> Unavailable:
    """There was no answer."""
    return Unavailable(
        "server_unreachable",
        f"{base_url} gave no answer: {type(error).__name__}{f' ({error})' if str(error) else ''}",
        next_step="see whether the server runs and base_url is right; what was sent may be sent again",
    )


def _foreign(status: int, sent: Mapping[str, str]) -> TallyError:
    """An answer of something that stands between, or of no Tallystick at all."""
    details: dict[str, Any] = {
        "status": status,
        "request_id": sent.get("request-id"),
        "next_step": "see whether base_url is the address of a Tallystick server",
    }
    if status in _KINDS or status >= 500:
        kind = _KINDS.get(status, Unavailable)
        seconds = _seconds(sent.get("retry-after"))
        return kind(f"http_{status}", f"the answer was HTTP {status}", retry_after_seconds=seconds, **details)
    return UnexpectedAnswer("unexpected_answer", f"the answer (HTTP {status}) is not one of a Tallystick", **details)


def _seconds(text: str | None) -> float | None:
    # Its other form, a date, is nothing that a Tallystick sends.
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
