"""One exchange with a caller: what it sends, what it is answered, and the line of the log about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Final

import msgspec
from starlette.types import Message, Receive, Scope, Send

from tallystick.app.body_budget import BodyBudget
from tallystick.core.errors import BadInput
from tallystick.core.key_shapes import line_without_secrets
from tallystick.gateway.headers import Headers, first

CLIENT_LEFT: Final = 499
"""Logged, never sent: the caller left before the answer."""

_WITHOUT_BODY: Final = frozenset({204, 304})

_encode = msgspec.json.Encoder().encode


class CallerLeft(Exception):
    """The caller went away while it was still sending."""


class Exchange:
    """A request of a caller and its answer, over ASGI.

    Attributes:
        headers: of the request; names are in lower case.
        request_id: by which the caller, the log and the ledger know the call; empty until it is known.
        notes: further members of the log line.
        is_begun: whether the answer's head is sent.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, budget: BodyBudget) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.query: bytes = scope["query_string"]
        self.headers: Headers = scope["headers"]
        self.request_id = ""
        self.notes: dict[str, Any] = {}
        self.is_begun = False
        self.has_left = False
        self._is_over = False
        self._status: int | None = None
        self._receive = receive
        self._send = send
        self._started = perf_counter()
        self._watch: asyncio.Task[None] | None = None
        self._budget = budget
        self._body_bytes = 0

    # ── what the caller sends ───────────────────────────────────────────────────────────────────

    async def body(self, bytes_max: int) -> bytes:
        """The whole body.

        Raises:
            BadInput: `body_too_large`.
            Unavailable: `busy`.
            CallerLeft
        """
        declared = first(self.headers, b"content-length")
        if declared is not None and int(declared) > bytes_max:  # the server has seen that it is a number
            raise _too_large(bytes_max)
        pieces: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.has_left = True
                raise CallerLeft
            piece = message.get("body", b"")
            if self._body_bytes + len(piece) > bytes_max:
                raise _too_large(bytes_max)
            self._budget.take(len(piece))
            self._body_bytes += len(piece)
            if not message.get("more_body", False):
                return b"".join([*pieces, piece]) if pieces else piece
            pieces.append(piece)

    def watch(self, on_leaving: Callable[[], None]) -> None:
        """From now on, once the whole body is here: have `on_leaving` called when the caller goes away."""

        async def wait() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            if self._status is None or not self._is_over:
                self.has_left = True
                on_leaving()

        self._watch = asyncio.create_task(wait())

    def close(self) -> None:
        """The answer is complete, or given up."""
        self._is_over = True
        self._budget.give_back(self._body_bytes)
        self._body_bytes = 0
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    # ── what it is answered ─────────────────────────────────────────────────────────────────────

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the head."""
        self._status = status
        self.is_begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, data: bytes, *, more: bool = True) -> None:
        """Send a piece of the body, or the last one."""
        message: Message = {"type": "http.response.body", "body": data, "more_body": more}
        if not more:
            self._is_over = True
        await self._send(message)

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        if status in _WITHOUT_BODY:
            await self.begin(status, headers)
            await self.send(b"", more=False)
            return
        await self.begin(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.send(body, more=False)

    # ── what is logged ──────────────────────────────────────────────────────────────────────────

    def log_line(self) -> bytes:
        """The line about it, as those of all other requests have it, with what the gateway knows besides."""
        line = _encode(
            {
                "method": self.method,
                "path": self.path,
                "status": CLIENT_LEFT if self.has_left else self._status,
                "duration_ms": round((perf_counter() - self._started) * 1000, 3),
                **self.notes,
                "event": "request",
                "request_id": self.request_id,
                "level": "info",
                "timestamp": datetime.now(UTC),
            }
        )
        return line_without_secrets(line)


def _too_large(bytes_max: int) -> BadInput:
    return BadInput(
        "body_too_large",
        f"the body has more than {bytes_max:,} bytes, the most that is taken",
        next_step="send less in one request",
    )
