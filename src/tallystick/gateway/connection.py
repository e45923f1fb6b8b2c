"""One connection to a provider: a request goes out as it is, an answer comes in piece by piece, HTTP/1.1.

Bytes of a body are handed on as they arrive, unpacked from nothing but the transfer's chunks. What a slow reader has
not taken waits here, a little of it: beyond `HELD_BYTES_MAX` the provider is not read from until it has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal

import httptools

HELD_BYTES_MAX = 256 * 1024
"""Bytes of an answer's body that wait for whoever reads it."""
HEAD_BYTES_MAX = 256 * 1024
"""The largest status line and headers of an answer; and so much may come that is none of its body: chunks that say much
of themselves, or trailers."""

Failure = Literal["unreachable", "timeout", "reset", "garbage"]
Headers = list[tuple[bytes, bytes]]


class UpstreamFailed(Exception):
    """The provider could not be asked, or its answer broke off.

    Attributes:
        why: `unreachable`: nothing was sent; `timeout`, `reset`: it stopped answering, or closed the connection;
            `garbage`: what it sent is not HTTP.
        sent: whether it may have begun to work on the request.
    """

    def __init__(self, why: Failure, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.why: Failure = why
        self.detail = detail
        self.sent = sent


class Connection(asyncio.Protocol):
    """A connection, and the answer that comes over it; one request at a time.

    Attributes:
        status, headers: of the answer, once `head` is done. Names of headers are in lower case.
        is_free: no answer is under way, and another request may be sent, once the last one is (`is_usable`).
        idle_since: on the loop's clock, since when it has been free.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.is_free = True
        self.idle_since = 0.0
        self.status = 0
        self.headers: Headers = []
        self._pieces: deque[bytes] = deque()
        self._held_bytes = 0
        self._bytes_beside = 0  # what has come since the last of the body
        self._head_done = self._ended = self._ends_with_connection = False
        self._is_paused = self._stays_open = False
        self._error: UpstreamFailed | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waits_since = 0.0
        self._silence_seconds = self._total_until = 0.0

    # ── what its user does ──────────────────────────────────────────────────────────────────────

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_usable(self) -> bool:
        """Whether it can take another request: it is open, and nothing of the last one waits to be sent."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not transport.get_write_buffer_size()

    async def ask(self, request: bytes, body: bytes, *, silence_seconds: float, total_seconds: float) -> None:
        """Send a request, and wait until the head of its answer is there.

        Args:
            silence_seconds: how long the provider may send nothing, now and in the middle of its answer.
            total_seconds: how long all of it may take.

        Raises:
            UpstreamFailed
        """
        transport = self._transport
        assert transport is not None  # noqa: S101 - it is connected
        self.is_free = False
        self.status, self.headers = 0, []
        self._pieces.clear()
        self._held_bytes = self._bytes_beside = 0
        self._head_done = self._ended = self._ends_with_connection = False
        self._error = None
        now = self._loop.time()
        self._waits_since, self._silence_seconds, self._total_until = now, silence_seconds, now + total_seconds
        self._timer = self._loop.call_later(min(silence_seconds, total_seconds), self._look_at_time)
        if len(body) < HELD_BYTES_MAX:
            transport.write(request + body)
        else:
            transport.write(request)
            transport.write(body)
        while not self._head_done:
            await self._more()

    async def next(self) -> bytes:
        """The next bytes of the body, all that are there; b"" once it is complete.

        Raises:
            UpstreamFailed: the answer broke off; what had come before was handed out.
        """
        while not self._pieces:
            if self._ended:
                return b""
            await self._more()
        pieces = self._pieces
        data = pieces.popleft() if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._held_bytes = 0
        if self._is_paused:
            self._is_paused = False
            self._waits_since = self._loop.time()
            if self._transport is not None:
                self._transport.resume_reading()
        return data

    def hurry(self, seconds: float) -> None:
        """The answer has so long to end, if it has not less already."""
        self._total_until = min(self._total_until, self._loop.time() + seconds)
        if self._timer is not None:
            self._timer.cancel()
            self._look_at_time()

    def abort(self) -> None:
        """Close at once, whatever is under way; whoever waits is told `reset`."""
        self._fail(UpstreamFailed("reset", "the connection to the provider was closed here", sent=True))

    def close(self) -> None:
        """Close a free connection."""
        if self._transport is not None:
            self._transport.close()

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None
        self._raise_unless_pieces()

    def _raise_unless_pieces(self) -> None:
        if self._error is not None and not self._pieces:
            raise self._error

    # ── what the loop tells ─────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is connected."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        if self.is_free:  # nobody asked
            self.close()
            return
        self._waits_since = self._loop.time()
        self._bytes_beside += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(UpstreamFailed("garbage", f"what the provider sent is not HTTP: {error}", sent=True))
            return
        except httptools.HttpParserUpgrade:
            self._fail(UpstreamFailed("garbage", "the provider wants to speak another protocol", sent=True))
            return
        if self._bytes_beside > HEAD_BYTES_MAX and not self._ended:
            self._fail(UpstreamFailed("garbage", "the provider's headers do not end", sent=True))
            return
        if self._ended:
            self._finish()
        elif self._held_bytes > HELD_BYTES_MAX and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone: some answers end so, others are cut by it."""
        self._transport = None
        if self.is_free:
            return
        if self._head_done and self._ends_with_connection and exc is None:
            self._ended = True
            self._finish()
            self._wake()
        else:
            said = "" if exc is None else f": {exc}"
            where = "in the middle of its answer" if self._head_done else "before it answered"
            self._fail(UpstreamFailed("reset", f"the provider closed the connection {where}{said}", sent=True))

    # ── what the parser tells ───────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        """An answer begins; one that nobody asked for is not read, and what comes after it is not trusted either."""
        if self._ended:
            self._stays_open = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is not handed on."""
        if not self._head_done:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head of an answer, perhaps of one that only says that another is to come."""
        if self._ended:
            return
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer
            self.headers = []
            return
        self.status, self._head_done = status, True
        framed = any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
        self._ends_with_connection = not framed and status not in (204, 304)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._ended:
            return
        self._pieces.append(body)
        self._held_bytes += len(body)
        self._bytes_beside = 0

    def on_message_complete(self) -> None:
        """The answer is complete."""
        if self._ended:
            return
        self._ended = self._head_done
        self._stays_open = self._parser.should_keep_alive()  # what the parser knows only now

    # ── in between ──────────────────────────────────────────────────────────────────────────────

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _finish(self) -> None:
        """The answer is here to its end: the connection may be used again, where it stays open."""
        self._stop_timer()
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        self.is_free = True
        self.idle_since = self._loop.time()
        if not self._stays_open:
            self.close()

    def _fail(self, error: UpstreamFailed) -> None:
        self._stop_timer()
        if self._error is None and not self._ended:
            self._error = error
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at_time(self) -> None:
        """One timer for each request, however many pieces come: it looks again when the time could be up."""
        now = self._loop.time()
        if self._is_paused:  # it is we who are not reading
            self._waits_since = now
        silent_until = self._waits_since + self._silence_seconds
        if now >= self._total_until:
            self._fail(UpstreamFailed("timeout", "the provider did not end its answer in the time for it", sent=True))
        elif now >= silent_until:
            seconds = f"{self._silence_seconds:g}"
            self._fail(UpstreamFailed("timeout", f"the provider sent nothing for {seconds} seconds", sent=True))
        else:
            self._timer = self._loop.call_later(min(silent_until, self._total_until) - now, self._look_at_time)
