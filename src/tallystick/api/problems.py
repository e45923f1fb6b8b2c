"""Errors as problem documents (RFC 9457): one shape for every refusal, whoever noticed it.

    {"type": "urn:tallystick:error:invalid_month", "title": "Invalid month", "status": 422,
     "code": "invalid_month", "detail": "'2026-13' is not a month", "next_step": "write it as YYYY-MM, …",
     "request_id": "req_…"}

`where` names the field, line or key at fault when there is one, and `errors` lists several faults that
were found in one pass. Programs branch on `code`; `docs/errors.md` lists them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

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
from tallystick.core.key_shapes import without_secrets

PROBLEM_TYPE = "application/problem+json"
ERRORS_MAX = 100
"""How many faults one document lists; when there are more, `error_count` says how many."""

_STATUS_OF_CODE = {
    # The body could not even be read: nothing in it has a meaning yet.
    "empty_body": 400,
    "malformed_json": 400,
    "malformed_gzip": 400,
    "invalid_utf8": 400,
    "duplicate_key": 400,
    "nested_too_deep": 400,
    "number_out_of_range": 400,
    "invalid_signature": 400,
    "invalid_callback": 400,
    "body_too_large": 413,
    "too_many_events": 413,
    "too_many_values": 413,
    "unsupported_media_type": 415,
    "unsupported_content_encoding": 415,
    # There is nothing wrong, but more is coming in than is being written: the sender is to slow down.
    "journal_busy": 429,
    "spool_full": 429,
}
_STATUS_OF_CLASS: Mapping[type[TallyError], int] = {
    BadInput: 422,
    NotFound: 404,
    Conflict: 409,
    Unauthorized: Unauthorized.status,
    Forbidden: Forbidden.status,
    Unavailable: 503,
}
_HTTP_PROBLEMS = {
    404: ("not_found", "there is nothing at this address", "see /openapi.json for the addresses there are"),
    405: ("method_not_allowed", "this address does not take this method", "use one of the methods in the Allow header"),
}


def status_of(error: TallyError) -> int:
    """The HTTP status an error is answered with: by its code where one is fixed, else by its class."""
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    for kind, status in _STATUS_OF_CLASS.items():
        if isinstance(error, kind):
            return status
    return 500


def request_id_of(request: Request) -> str:
    """The id of this request, as its answer and its log lines carry it."""
    return str(request.scope.get("request_id", ""))


def problem(
    status: int,
    code: str,
    detail: str,
    next_step: str,
    *,
    request_id: str,
    where: str | None = None,
    errors: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The members of one problem document."""
    document: dict[str, Any] = {
        "type": f"urn:tallystick:error:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
        "next_step": next_step,
        "request_id": request_id,
    }
    if where is not None:
        document["where"] = where
    if errors:
        document["errors"] = list(errors[:ERRORS_MAX])
    if len(errors) > ERRORS_MAX:
        document["error_count"] = len(errors)
        document["detail"] = f"{len(errors):,} faults were found; the first {ERRORS_MAX} are listed"
    return document


def problem_response(document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """The document as an answer with its own status."""
    return Response(
        msgspec.json.encode(document), status_code=document["status"], headers=headers, media_type=PROBLEM_TYPE
    )


def error_response(error: TallyError, request_id: str, **more: Any) -> Response:
    """Any of our own errors as a problem document; `Retry-After` where trying again is the remedy.

    `more` are further members of the document, known to this kind of problem.
    """
    status = status_of(error)
    errors = [each.as_dict() for each in error.problems] if isinstance(error, Problems) else []
    document = problem(
        status, error.code, error.detail, error.next_step, request_id=request_id, where=error.where, errors=errors
    )
    document |= more
    return problem_response(document, _headers_of(error))


def _headers_of(error: TallyError) -> dict[str, str] | None:
    if isinstance(error, Unavailable):
        return {"Retry-After": str(error.retry_after_seconds)}
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    return None


def internal_error_response(request_id: str) -> Response:
    """What a caller sees of a fault of ours: that it was ours, and the id to ask about. No internals."""
    document = problem(
        500,
        "internal_error",
        "something went wrong on our side; the log has the particulars under this request id",
        "try again; if it happens again, report the request id",
        request_id=request_id,
    )
    return problem_response(document)


async def answer_tally_error(request: Request, error: Exception) -> Response:
    """Handler for `TallyError`."""
    assert isinstance(error, TallyError)  # noqa: S101 - registered for this class
    return error_response(error, request_id_of(request))


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Handler for what the framework itself refuses: an unknown address, a method that is not taken."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    if isinstance(error.__cause__, TallyError):  # a body that `StrictRequest` refused
        return error_response(error.__cause__, request_id_of(request))
    phrase = HTTPStatus(error.status_code).phrase
    code, detail, next_step = _HTTP_PROBLEMS.get(
        error.status_code,
        (phrase.lower().replace(" ", "_"), str(error.detail), "see /openapi.json for what is taken here"),
    )
    document = problem(error.status_code, code, detail, next_step, request_id=request_id_of(request))
    return problem_response(document, error.headers)


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """Handler for parameters and bodies that do not fit their documented shape: every fault, with its place."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    faults = [
        {
            "code": _CODE_OF_VALIDATION.get(str(fault["type"]), "invalid_value"),
            "detail": str(fault["msg"]),
            "next_step": "see /openapi.json for what is taken here",
            "where": without_secrets(".".join(str(part) for part in fault["loc"])),
        }
        for fault in error.errors()
    ]
    detail = "; ".join(f"{fault['where']}: {fault['detail']}" for fault in faults)
    next_step = "mend what is named and send it again; /openapi.json describes what is taken here"
    where = faults[0]["where"] if len(faults) == 1 else None
    document = problem(
        422, "invalid_request", detail, next_step, request_id=request_id_of(request), where=where, errors=faults
    )
    return problem_response(document)


_CODE_OF_VALIDATION = {"missing": "missing_field", "extra_forbidden": "unknown_field"}


async def answer_unexpected(request: Request, _error: Exception) -> Response:
    """Handler for everything else; the request log has the traceback (see `request_log`)."""
    return internal_error_response(request_id_of(request))
