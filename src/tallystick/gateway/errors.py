"""What is refused, and with which status: in the shape of the provider that was called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tallystick.app.decision_answers import seconds_until_reset
from tallystick.app.gateway_calls import denial_members
from tallystick.contract.policy import DENIALS, HTTP_STATUS
from tallystick.core.errors import (
    BadInput,
    Conflict,
    Forbidden,
    NotFound,
    Problems,
    TallyError,
    Unauthorized,
    Unavailable,
)
from tallystick.gateway.charges import Denial
from tallystick.gateway.connection import Failure, UpstreamFailed
from tallystick.wire.refusals import ERRORS_MAX, Refusal, refusal_of
from tallystick.wire.routes import Flavor

_STATUS_OF_CODE: Final = {
    "body_too_large": 413,
    "unsupported_content_encoding": 415,
    "journal_busy": 429,
    "method_not_allowed": 405,
    "upstream_unreachable": 502,
    "upstream_broke_off": 502,
    "upstream_garbage": 502,
    "upstream_timeout": 504,
    "answer_too_large": 502,
}
_STATUS_OF_CLASS: Final[Mapping[type[TallyError], int]] = {
    BadInput: 400,
    NotFound: 404,
    Conflict: 409,
    Unauthorized: 401,
    Forbidden: 403,
    Unavailable: 503,
}
_encode = msgspec.json.Encoder().encode
_RETRIED: Final = frozenset({"request_in_flight"})
"""Conflicts that pass by themselves."""


def status_of(error: TallyError) -> int:
    """The status of one of our errors, as a provider would have it: 400 for what is wrong with a request."""
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    return next((status for kind, status in _STATUS_OF_CLASS.items() if isinstance(error, kind)), 500)


def refused(flavor: Flavor | None, error: TallyError, request_id: str) -> Refusal:
    """The answer to a call that is refused because of an error."""
    status = status_of(error)
    if error.code in _RETRIED:
        members = error.as_dict()
        return _refusal(flavor, status, members, request_id, retry_after_seconds=2, may_retry=True)
    may_retry = None if isinstance(error, Unavailable) else False
    return _refusal(
        flavor, status, _members(error), request_id, may_retry=may_retry, retry_after_seconds=_seconds(error)
    )


def denied(flavor: Flavor | None, denial: Denial, request_id: str) -> Refusal:
    """The answer to a call that the policy does not allow; with the decision in it."""
    decision = denial.result.decision
    kind = DENIALS[decision.code]
    members: dict[str, Any] = {
        "code": decision.code,
        "detail": decision.message,
        "next_step": decision.next_step.text,
        **denial_members(denial.recorded),
    }
    seconds = seconds_until_reset(denial.recorded, decision) if kind == "limited" else None
    return _refusal(flavor, HTTP_STATUS[kind], members, request_id, retry_after_seconds=seconds)


def internal_error(flavor: Flavor | None, request_id: str) -> Refusal:
    """The answer when something went wrong here: no internals."""
    members = {
        "code": "internal_error",
        "detail": "something went wrong on our side; the log has the particulars under this request id",
        "next_step": "try again; if it happens again, report the request id",
    }
    return _refusal(flavor, 500, members, request_id)


def _members(error: TallyError) -> dict[str, Any]:
    members: dict[str, Any] = dict(error.as_dict())
    if isinstance(error, Problems):
        members["errors"] = [problem.as_dict() for problem in error.problems[:ERRORS_MAX]]
    return members


def _seconds(error: TallyError) -> int | None:
    return error.retry_after_seconds if isinstance(error, Unavailable) else None


def _refusal(
    flavor: Flavor | None,
    status: int,
    members: Mapping[str, Any],
    request_id: str,
    *,
    retry_after_seconds: int | None = None,
    may_retry: bool | None = None,
) -> Refusal:
    """In a provider's shape; where no provider's is spoken, a problem document, as the rest of the API has it."""
    shaped = refusal_of(
        flavor or "openai",
        status,
        members,
        request_id=request_id,
        retry_after_seconds=retry_after_seconds,
        may_retry=may_retry,
    )
    if flavor is not None:
        return shaped
    code = members["code"]
    title = code.replace("_", " ").capitalize()
    document = {"type": f"urn:tallystick:error:{code}", "title": title, "status": status, **members}
    body = _encode({**document, "request_id": request_id})
    own = {"content-type": "application/problem+json", "content-length": str(len(body))}
    headers = tuple((name, own.get(name, value)) for name, value in shaped.headers)
    return msgspec.structs.replace(shaped, headers=headers, body=body)


_FAILURE_CODES: Final[Mapping[Failure, str]] = {
    "unreachable": "upstream_unreachable",
    "timeout": "upstream_timeout",
    "reset": "upstream_broke_off",
    "garbage": "upstream_garbage",
}


def upstream_error(failure: UpstreamFailed) -> Unavailable:
    """What a caller is told of a provider that did not answer, or not to the end."""
    charged = "" if failure.sent else "; nothing was sent, and nothing is charged"
    return Unavailable(
        _FAILURE_CODES[failure.why],
        failure.detail + charged,
        next_step="send the call again; the provider's status page may say more",
    )
