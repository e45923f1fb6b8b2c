"""Every request has an id and a log line; an exception nobody foresaw becomes a plain 500 and a traceback in the log.

The caller's own `Request-Id` (or `X-Request-Id`) is kept when it is well-formed, so that one id follows a
call through several systems; any other gets a new one. It is on the answer, in the problem document and in
every line that is logged while the request is served.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallystick.api.auth import KEY
from tallystick.api.problems import internal_error_response
from tallystick.core.key_shapes import without_secrets

REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@~-]{0,127}")
_ID_HEADERS = (b"request-id", b"x-request-id")
CLIENT_LEFT = 499
"""Logged, never sent: the caller left before the answer."""

_log = structlog.get_logger("tallystick.api")


def choose_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's id when it is well-formed (`REQUEST_ID`) and no token, else a new one. Names are in lower case."""
    given = {name: value for name, value in headers if name in _ID_HEADERS}
    for name in _ID_HEADERS if given else ():
        text = given.get(name, b"").decode("latin-1")
        if REQUEST_ID.fullmatch(text) and without_secrets(text) == text:
            return text
    return new_request_id()


def has_request_id(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the caller gives the request an id, well-formed or not."""
    return any(name in _ID_HEADERS for name, _ in headers)


def new_request_id() -> str:
    """An id that no other request has."""
    return "req_" + os.urandom(16).hex()


class RequestLog:
    """The outermost layer of the application; see the module."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = choose_request_id(scope["headers"])
        scope["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_LEFT
        except Exception:
            _log.exception("unexpected_error", method=scope["method"], path=scope["path"])
            if status is None:
                await internal_error_response(request_id)(scope, receive, send_with_id)
        finally:
            counted = {"events": scope["events"]} if "events" in scope else {}
            key = scope.get(KEY)
            shown = {} if key is None else {"key_id": key.key_id}
            _log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=round((time.perf_counter() - started) * 1000, 3),
                **counted,
                **shown,
            )
            structlog.contextvars.clear_contextvars()
