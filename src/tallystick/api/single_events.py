"""Events that come one by one, from many connections at once: each turn of the event loop hands them on together.

This is the short way of `POST /v1/events`, for sound events of a usual size; its answers are those of the long way,
byte for byte. Whatever is not plainly sound goes the long way, where it is told what is wrong with it.

    a request is complete ─► read and checked at once ─► gathered until the loop's turn ends
    the turn ends         ─► one `submit` for all of them (priced and encoded here, written by the journal's thread)
    the journal answers   ─► the loop is woken once, and answers every caller
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import msgspec
import structlog

from tallystick.api.event_answers import Answer, answer_one, error_answer
from tallystick.api.event_schema import EVENTS_PATH
from tallystick.api.logs import LineBuffer
from tallystick.api.problems import internal_error_response
from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError
from tallystick.core.json_text import has_unique_keys
from tallystick.ledger.receipt import Receipt
from tallystick.usage.checks import sound_event
from tallystick.usage.event import UsageEvent

BODY_BYTES_MAX = 16 * 1024
"""Larger bodies go the long way; an event has a few hundred bytes."""

KNOWN_HEADS_MAX = 1024
"""Heads of requests that are remembered: those of a few kinds of callers, with a few lengths of bodies each."""

_PLAIN_JSON = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
_SAYS_MORE = frozenset({b"content-encoding", b"expect", b"transfer-encoding", b"upgrade"})
"""Headers of requests that go the long way."""

_log = structlog.get_logger("tallystick.api")
_encode = msgspec.json.Encoder().encode


def goes_the_short_way(scope: Mapping[str, Any], body_bytes_max: int) -> bool:
    """Whether a request, of which only the head is known, may be a single event of a usual size."""
    if scope["path"] != EVENTS_PATH or scope["method"] != "POST" or scope["query_string"]:
        return False
    length = media_type = None
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = value
        elif name == b"content-type" and media_type is None:
            media_type = value
        elif name in _SAYS_MORE:
            return False
    return media_type in _PLAIN_JSON and length is not None and len(length) <= 6 and int(length) <= body_bytes_max


class Waiting(NamedTuple):
    """One caller who waits for an answer."""

    event: UsageEvent
    request_id: str
    reply: Callable[[Answer], None]


class _RequestLine(msgspec.Struct, gc=False):
    """The members of a log line, in the order in which `RequestLog` has them."""

    method: str
    path: str
    status: int
    duration_ms: float
    events: int
    event: str
    request_id: str
    level: str
    timestamp: datetime


class SingleEvents:
    """The short way, for one event loop; see the module. Everything but `_done` runs in that loop's thread."""

    def __init__(self, runtime: Runtime, log: LineBuffer) -> None:
        self.runtime = runtime
        self.body_bytes_max = min(BODY_BYTES_MAX, runtime.settings.body_bytes_max)
        self._log = log
        self.known_heads: dict[bytes, int] = {}
        self._header_lines: tuple[object, bytes] = (None, b"")
        self.loop = asyncio.get_running_loop()
        self._gathered: list[Waiting] = []
        self._answered: deque[tuple[Sequence[Waiting], Future[list[Receipt]]]] = deque()
        self._is_woken = False

    def remember_head(self, head: bytes, body_bytes: int) -> None:
        """A request with exactly this head, its last empty line included, may go the short way, and has such a body."""
        if len(self.known_heads) >= KNOWN_HEADS_MAX:
            self.known_heads.clear()
        self.known_heads[head] = body_bytes

    def header_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The headers as they are sent; the server makes a new list of them each second."""
        if self._header_lines[0] is not headers:
            self._header_lines = headers, b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        return self._header_lines[1]

    def take(self, body: bytes, request_id: str, reply: Callable[[Answer], None]) -> bool:
        """Take a body, to `reply` to once it is on disk; False when it is not plainly one sound event.

        Args:
            body: what was sent as application/json.
            request_id: of this HTTP request, for problem documents.
            reply: is called once, in the loop's thread.
        """
        event = self._read(body)
        if event is None:
            return False
        if not self._gathered:
            self.loop.call_soon(self._submit_gathered)
        self._gathered.append(Waiting(event, request_id, reply))
        return True

    def log(self, status: int, request_id: str, seconds: float) -> None:
        """Log a request that was answered with this status, as `RequestLog` logs the others."""
        now = datetime.now(UTC)
        self._log.add(
            _encode(
                _RequestLine(
                    "POST", EVENTS_PATH, status, round(seconds * 1000, 3), 1, "request", request_id, "info", now
                )
            )
        )

    def _read(self, body: bytes) -> UsageEvent | None:
        try:
            raw = msgspec.json.decode(body)
            if type(raw) is not dict or not has_unique_keys(body, raw):
                return None
        except (ValueError, RecursionError):
            return None
        runtime = self.runtime
        return sound_event(raw, now=runtime.clock(), known_meters=runtime.known_meters())

    def _submit_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        self._submit(gathered)

    def _submit(self, gathered: Sequence[Waiting]) -> None:
        try:
            future = self.runtime.submit([waiting.event for waiting in gathered])
        except Exception as error:
            self._refuse(gathered, error)
            return
        future.add_done_callback(partial(self._done, gathered))

    def _done(self, gathered: Sequence[Waiting], future: Future[list[Receipt]]) -> None:
        """In the journal's thread: leave the receipts for the loop, and wake it unless that is under way."""
        self._answered.append((gathered, future))
        if not self._is_woken:
            self._is_woken = True
            self.loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._is_woken = False  # before looking, so that what is left after the last look wakes the loop again
        while self._answered:
            gathered, future = self._answered.popleft()
            error = future.exception()
            if error is not None:
                self._refuse(gathered, error)
                continue
            for waiting, receipt in zip(gathered, future.result(), strict=True):
                waiting.reply(answer_one(receipt, waiting.request_id))

    def _refuse(self, gathered: Sequence[Waiting], error: BaseException) -> None:
        if len(gathered) > 1 and not isinstance(error, TallyError):
            # Only one of them may be to blame, and chance has put them together.
            for waiting in gathered:
                self._submit([waiting])
            return
        for waiting in gathered:
            if isinstance(error, TallyError):
                waiting.reply(error_answer(error, waiting.request_id))
                continue
            _log.error("unexpected_error", request_id=waiting.request_id, exc_info=error)
            response = internal_error_response(waiting.request_id)
            waiting.reply(Answer(500, bytes(response.body), response.media_type or ""))
