"""The server's HTTP protocol: uvicorn's, with limits on how long callers may take, and short ways.

What is not HTTP at all is answered like every other refusal: a problem document, with an id that is in the log. So is
a caller whose head is too large, or who takes too long to send what they announced. One who does not read their
answers is left after a while.

A single event or decision of a usual size does not pass through the layers of the application (see `short_ways`):
they would take longer than everything else that is done for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from functools import partial
from time import perf_counter
from typing import Any

import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tallystick.api.event_answers import Answer
from tallystick.api.http_refusals import HEAD_TOO_LARGE, MALFORMED, NO_UPGRADE, TOO_SLOW
from tallystick.api.problems import problem, problem_response
from tallystick.api.request_log import CLIENT_LEFT, choose_request_id, has_request_id, new_request_id
from tallystick.api.short_ways import ShortWay, ShortWays
from tallystick.api.unchunked import without_chunks

HEAD_BYTES_MAX = 64 * 1024
"""The largest first line and headers together."""
HEAD_SECONDS_MAX = 10
"""How long a head may take, and how long a new connection may stay silent."""
BODY_SECONDS_MAX = 30
"""How long a body may take, and a second more for each `BODY_BYTES_PER_SECOND` of it that have come."""
BODY_BYTES_PER_SECOND = 4096
IDLE_SECONDS_MAX = 5
"""How long a connection may stay without a request after an answer."""
UNREAD_SECONDS_MAX = 60
"""How long an answer may stay unread by a caller whose connection can hold no more of it."""
_LOOK_SECONDS = 1.0

_log = structlog.get_logger("tallystick.api")


class _Flow(FlowControl):
    """Reads on only when nothing that was read still waits for its turn.

    Who sends request after request without waiting would otherwise fill the memory with them.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, unless requests wait."""
        if not self._waiting:
            super().resume_reading()


class _Trailers(list[tuple[bytes, bytes]]):
    """Headers behind a body: they would pass for those that were looked at before, so that none is kept."""

    def append(self, _header: tuple[bytes, bytes], /) -> None: ...


class _KnownRequest(RequestResponseCycle):
    """A request whose head was known byte for byte, so that nothing of it is kept but what an answer needs."""

    _nobody_waits = asyncio.Event()

    def __init__(self, default_headers: list[tuple[bytes, bytes]]) -> None:
        self.default_headers = default_headers
        self.message_event = self._nobody_waits
        self.keep_alive = True
        self.disconnected = self.response_started = self.response_complete = False


class TallyHttpProtocol(HttpToolsProtocol):
    """One connection; see the module. `app_state["short_ways"]` are the short ways, where there are any."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.short_ways: ShortWays | None = app_state.get("short_ways")
        self._short: tuple[RequestResponseCycle, ShortWay] | None = None
        self._is_in_message = False
        self._after_writing: Callable[[], None] | None = None
        self._head_since: float | None = self.loop.time()
        self._head_bytes = 0
        self._heads_begun = 0
        self._body_since: float | None = None
        self._body_bytes = 0
        self._bytes_beside = 0  # what has come since the last of a body
        self._unread_since: float | None = None
        self._idle_since = 0.0
        self._is_refused = False
        if not getattr(server_state, "looks_for_slow_callers", False):
            server_state.looks_for_slow_callers = True  # type: ignore[attr-defined]
            self.loop.call_later(_LOOK_SECONDS, _refuse_slow_callers, server_state, self.loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller has connected."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)

    # ── what arrives ────────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        """Parse what has come; a head that does not end is not kept."""
        begins = self._head_since is None and not self._is_in_message and self.cycle.response_complete
        if begins:
            if self.short_ways is not None and self._take_known(data, self.short_ways):
                return
            self._head_since = self.loop.time()
        # Whether all of it is of the head that it leaves open: one that begins behind something else is counted from
        # the next data on.
        self._heads_begun = 1 if self._is_in_message else 0
        self._bytes_beside += len(data)
        super().data_received(data)
        if begins:
            self._learn(data)
        if self._head_since is not None and self._heads_begun <= 1:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
                self._refuse(*HEAD_TOO_LARGE)
        elif self._body_since is not None and self._bytes_beside > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refuse(*HEAD_TOO_LARGE)  # chunks that say much of themselves, or trailers that do not end

    def on_message_begin(self) -> None:
        """The first byte of a request is there."""
        self._is_in_message = True
        self._heads_begun += 1
        if self._head_since is None:  # it came with the end of the one before
            self._head_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there, and the body is to come."""
        if self.parser.should_upgrade() and self._needs_upgrade():
            self._is_refused = True
            self._refuse(*NO_UPGRADE)
            return
        self._head_since, self._head_bytes = None, 0
        self._body_since, self._body_bytes, self._bytes_beside = self.loop.time(), 0, 0
        super().on_headers_complete()
        if self.parser.should_upgrade():  # what came with it is not read any more
            self.cycle.keep_alive = False
        self.headers = _Trailers()  # the request keeps its headers; what follows its body is none of them

    def _unsupported_upgrade_warning(self) -> None:
        """It is served as if it wanted none, or was refused, which is in the log."""

    def _needs_upgrade(self) -> bool:
        """Whether it cannot be served as if it wanted nothing: what follows its head would not be read as its body."""
        names = {name for name, _ in self.headers}
        return self._get_upgrade() == b"websocket" or b"transfer-encoding" in names or _announces_body(self.headers)

    def on_body(self, body: bytes) -> None:
        """A part of the body is there."""
        self._body_bytes += len(body)
        self._bytes_beside = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there; if it is one for the short way, it goes."""
        self._is_in_message = False
        self._body_since = None
        if self._is_refused:
            return
        super().on_message_complete()
        if self.cycle.response_complete:  # it was refused before it was all here; the next is awaited from now
            self._head_since = self.loop.time()
        if self._short is not None and self._short[0] is self.cycle:
            self._go_the_short_way(*self._short)

    def send_400_response(self, msg: str) -> None:
        """Answer with `malformed_http` and close the connection: where the next request would begin is not known."""
        self._refuse(*MALFORMED, reason=msg)

    def _refuse(self, status: int, code: str, detail: str, next_step: str, *, reason: str | None = None) -> None:
        """Answer what is not, or not wholly, a request, and close; in the middle of another answer only close."""
        request_id = new_request_id()
        if not self._is_answering():
            document = problem(status, code, detail, next_step, request_id=request_id)
            response = problem_response(document, {"Request-Id": request_id, "Connection": "close"})
            head = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
            self.transport.write(STATUS_LINE[status] + head + b"\r\n" + bytes(response.body))
        self.transport.close()
        _log.warning("request_not_read", request_id=request_id, status=status, reason=reason or detail)

    def _is_answering(self) -> bool:
        """Whether bytes written now could land in the middle of another answer, or before it."""
        cycle: RequestResponseCycle | None = getattr(self, "cycle", None)  # there is none before the first request
        if cycle is None or cycle.response_complete:
            return False
        return cycle.response_started or bool(self.pipeline) or self._body_since is None

    def on_response_complete(self) -> None:
        """An answer is on its way: the next request that is there begins, or one is awaited for a while."""
        # A timer for each answer, as uvicorn has it, would cost more than all that is asked here of its connection.
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since = self.loop.time()

    # ── slow callers ────────────────────────────────────────────────────────────────────────────

    def pause_writing(self) -> None:
        """The connection can hold no more of the answer."""
        self._unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The caller has read on; what was put off until then follows."""
        self._unread_since = None
        super().resume_writing()
        after, self._after_writing = self._after_writing, None
        if after is not None:
            after()

    def refuse_if_slow(self, now: float) -> None:
        """Refuse a request that takes too long to arrive; leave a caller who does not read, or asks nothing more."""
        if self.transport.is_closing():
            return
        if self._unread_since is not None and now - self._unread_since > UNREAD_SECONDS_MAX:
            self.transport.abort()
        elif self._head_since is not None:
            if self.flow.read_paused:  # it is we who are not reading
                self._head_since = now
            elif now - self._head_since > HEAD_SECONDS_MAX:
                self._refuse(*TOO_SLOW) if self._head_bytes else self.transport.close()
        elif self._body_since is not None:
            if self.flow.read_paused:  # it is we who are not reading
                self._body_since, self._body_bytes = now, 0
            elif now - self._body_since > BODY_SECONDS_MAX + self._body_bytes / BODY_BYTES_PER_SECOND:
                self._refuse(*TOO_SLOW)
        elif self._unread_since is not None or not self.cycle.response_complete:
            return
        elif now - self._idle_since > IDLE_SECONDS_MAX:
            self.transport.close()

    # ── the short ways ──────────────────────────────────────────────────────────────────────────

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        way = None if self.short_ways is None else self.short_ways.way_of(cycle.scope)
        if cycle.scope["http_version"] == "1.0":
            super()._start_asgi_task(cycle, partial(without_chunks, app, cycle))
        elif way is None:
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self._short = (cycle, way)
            self.flow.resume_reading()  # it may have waited behind others, and be the last of them
        else:
            self._go_the_short_way(cycle, way)

    def _go_the_short_way(self, cycle: RequestResponseCycle, way: ShortWay) -> None:
        self._short = None
        ways = self.short_ways
        assert ways is not None  # noqa: S101 - one of them is to be gone
        caller = ways.caller(ways.token_of(cycle.scope), way)
        if caller is not None:
            request_id = choose_request_id(cycle.scope["headers"])
            reply = partial(self._reply, cycle, way, request_id, perf_counter(), caller.key_id)
            if way.take(bytes(cycle.body), request_id, reply, caller.org_id):
                return
        super()._start_asgi_task(cycle, self.app)

    def _learn(self, data: bytes) -> None:
        """Remember the head of a whole request that may go a short way: callers send the same one again and again."""
        ways, cycle = self.short_ways, self.cycle
        if (
            ways is None
            or self._is_in_message
            or self._is_refused
            or not cycle.keep_alive
            or isinstance(cycle, _KnownRequest)
        ):
            return
        if not data.startswith(b"POST "):  # what is left of something else
            return
        end = data.find(b"\r\n\r\n") + 4
        if len(data) != end + len(cycle.body) or has_request_id(cycle.scope["headers"]):
            return
        way = ways.way_of(cycle.scope)
        if way is not None and cycle.scope["http_version"] == "1.1":
            ways.remember_head(data[:end], len(cycle.body), way, ways.token_of(cycle.scope))

    def _take_known(self, data: bytes, ways: ShortWays) -> bool:
        """Take a whole request whose head is remembered; False when it is to be parsed."""
        end = data.find(b"\r\n\r\n") + 4
        known = ways.known_heads.get(data[:end])
        if known is None or len(data) != end + known[0]:
            return False
        _, way, token = known
        caller = ways.caller(token, way)  # asked each time: a key ends, whatever was remembered of it
        if caller is None:
            return False
        cycle = _KnownRequest(self.server_state.default_headers)
        request_id = new_request_id()
        reply = partial(self._reply, cycle, way, request_id, perf_counter(), caller.key_id)
        if not way.take(data[end:], request_id, reply, caller.org_id):
            return False
        self.cycle = cycle
        return True

    def _reply(
        self,
        cycle: RequestResponseCycle,
        way: ShortWay,
        request_id: str,
        started: float,
        key_id: str | None,
        answer: Answer,
    ) -> None:
        ways = self.short_ways
        assert ways is not None  # noqa: S101 - one of them replies
        # Of the requests that wait on a connection only the last one learns that it is gone.
        is_gone = cycle.disconnected or self.transport.is_closing()
        ways.log(way, CLIENT_LEFT if is_gone else answer.status, request_id, perf_counter() - started, key_id)
        if is_gone:
            return
        more = b""
        if answer.headers:
            more = "".join([f"{name}: {value}\r\n" for name, value in answer.headers.items()]).encode("latin-1")
        self.transport.write(
            b"%b%b%bcontent-length: %d\r\ncontent-type: %b\r\nrequest-id: %b\r\n%b\r\n%b"
            % (
                STATUS_LINE[answer.status],
                ways.header_lines(cycle.default_headers),
                more,
                len(answer.body),
                answer.media_type.encode(),
                request_id.encode(),
                b"" if cycle.keep_alive else b"connection: close\r\n",
                answer.body,
            )
        )
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        if self.flow.write_paused:  # the next request waits until this answer is read
            self.flow.pause_reading()
            self._after_writing = self.on_response_complete
        else:
            self.on_response_complete()


def _announces_body(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-length" and value.strip(b"0") for name, value in headers)


def _refuse_slow_callers(server_state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
    now = loop.time()
    for connection in list(server_state.connections):
        if isinstance(connection, TallyHttpProtocol):
            connection.refuse_if_slow(now)
    loop.call_later(_LOOK_SECONDS, _refuse_slow_callers, server_state, loop)
