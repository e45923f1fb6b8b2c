"""The short ways: requests that come one by one, thousands a second, and do not pass the layers of the application.

Each belongs to an address, and takes what is plainly sound and of a usual size; its answers are those of the long way,
byte for byte. Whatever else comes goes the long way, where it is told what is wrong with it.

    a request is complete ─► read and checked at once, and handed to a writer
    the writer answers    ─► the loop is woken once for all that was answered meanwhile, and tells every caller
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Protocol

import msgspec
import structlog

from tallystick.api.auth import ANYBODY, Caller, Callers
from tallystick.api.event_answers import Answer, error_answer
from tallystick.api.logs import LineBuffer
from tallystick.api.problems import internal_error_response
from tallystick.core.errors import TallyError
from tallystick.core.json_text import has_unique_keys

BODY_BYTES_MAX = 16 * 1024
"""Larger bodies go the long way; an event has a few hundred bytes."""

KNOWN_HEADS_MAX = 1024
"""Heads of requests that are remembered: those of a few kinds of callers, with a few lengths of bodies each."""

HEAD_BYTES_MAX = 4096
"""Longer heads are not remembered: a thousand of them may be."""

Reply = Callable[[Answer], None]
"""Answers one caller; to be called once, in the loop's thread."""

_PLAIN_JSON = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
_SAYS_MORE = frozenset({b"content-encoding", b"expect", b"transfer-encoding", b"upgrade"})
"""Headers of requests that go the long way."""

_log = structlog.get_logger("tallystick.api")


class ShortWay(Protocol):
    """The short way of one address.

    Attributes:
        path: the address; the method is POST.
        scope: what a caller's key must be for.
        events: how many events a request brings, for its log line; None where that is not said.
    """

    path: str
    scope: str
    events: int | None

    def take(self, body: bytes, request_id: str, reply: Reply, org_id: str | None = None) -> bool:
        """Take a body, to reply to once what it asks for is on disk; False when it is not plainly sound.

        Args:
            body: what was sent as application/json.
            request_id: of this HTTP request, for problem documents.
            reply: is called once, in the loop's thread.
            org_id: the one org that the caller's key is for; None: it may be any.
        """
        ...


class _RequestLine(msgspec.Struct, gc=False):
    """The members of a log line, in the order in which `RequestLog` has them."""

    method: str
    path: str
    status: int
    duration_ms: float
    events: int | msgspec.UnsetType
    event: str
    request_id: str
    level: str
    timestamp: datetime
    key_id: str | msgspec.UnsetType = msgspec.UNSET


class ShortWays:
    """All short ways of one event loop, and what they have in common."""

    def __init__(
        self,
        ways: Sequence[ShortWay],
        log: LineBuffer,
        *,
        body_bytes_max: int = BODY_BYTES_MAX,
        callers: Callers | None = None,
    ) -> None:
        """`callers` finds out who calls; None: nobody asks."""
        self.body_bytes_max = min(BODY_BYTES_MAX, body_bytes_max)
        self.known_heads: dict[bytes, tuple[int, ShortWay, str | None]] = {}
        """By a whole head, its last empty line included: the length of its body, its way, and the key that it shows."""
        self._callers = callers
        self._ways = MappingProxyType({way.path: way for way in ways})
        self._log = log
        self._header_lines: tuple[object, bytes] = (None, b"")

    def way_of(self, scope: Mapping[str, Any]) -> ShortWay | None:
        """The short way that a request may go, of which only the head is known."""
        way = self._ways.get(scope["path"])
        if way is None or scope["method"] != "POST" or scope["query_string"]:
            return None
        length = media_type = None
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = value
            elif name == b"content-type" and media_type is None:
                media_type = value
            elif name in _SAYS_MORE:
                return None
        fits = length is not None and len(length) <= 6 and int(length) <= self.body_bytes_max
        return way if fits and media_type in _PLAIN_JSON else None

    def token_of(self, scope: Mapping[str, Any]) -> str | None:
        """The key that a request shows, if any."""
        return None if self._callers is None else self._callers.token_of(scope["headers"])

    def caller(self, token: str | None, way: ShortWay) -> Caller | None:
        """Who shows that key, and may go that way now; None: who calls is told the long way."""
        return ANYBODY if self._callers is None else self._callers.caller(token, way.scope)

    def remember_head(self, head: bytes, body_bytes: int, way: ShortWay, token: str | None = None) -> None:
        """A request with exactly this head, its last empty line included, may go that way, and has such a body.

        Only heads of callers who may go that way are remembered: others cannot push those out.
        """
        if len(head) > HEAD_BYTES_MAX or self.caller(token, way) is None:
            return
        if len(self.known_heads) >= KNOWN_HEADS_MAX:
            self.known_heads.clear()
        self.known_heads[head] = (body_bytes, way, token)

    def header_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The headers as they are sent; the server makes a new list of them each second."""
        if self._header_lines[0] is not headers:
            self._header_lines = headers, b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        return self._header_lines[1]

    def log(self, way: ShortWay, status: int, request_id: str, seconds: float, key_id: str | None = None) -> None:
        """Log a request that was answered with this status, as `RequestLog` logs the others."""
        now, duration_ms = datetime.now(UTC), round(seconds * 1000, 3)
        events = msgspec.UNSET if way.events is None else way.events
        line = _RequestLine("POST", way.path, status, duration_ms, events, "request", request_id, "info", now)
        if key_id is not None:
            line.key_id = key_id
        self._log.add(line)


def plain_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object of a body; None when it is none, or may name a member twice."""
    try:
        raw = msgspec.json.decode(body)
        return raw if type(raw) is dict and has_unique_keys(body, raw) else None
    except (ValueError, RecursionError):
        return None


def failure_answer(error: BaseException, request_id: str) -> Answer:
    """One of our own errors, or what a caller sees of a fault of ours, which is logged."""
    if isinstance(error, TallyError):
        return error_answer(error, request_id)
    _log.error("unexpected_error", request_id=request_id, exc_info=error)
    response = internal_error_response(request_id)
    return Answer(500, bytes(response.body), response.media_type or "")
