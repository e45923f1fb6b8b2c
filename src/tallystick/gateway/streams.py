"""A streamed answer on its way to the caller: bytes go on as they come, but its end waits until it is settled.

    head ─► pieces, as they come ─► the end is withheld ─► settled, committed ─► `: tally {…}` ─► the end

The comment line is one that every reader of server-sent events passes over. When the caller leaves, the provider's
answer is read to its end or broken off, as the route says, and what was generated is settled all the same.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from tallystick.app.cost import load_extractors
from tallystick.app.gateway_settlements import CallFigures
from tallystick.core.errors import BadInput
from tallystick.gateway.connection import UpstreamFailed
from tallystick.gateway.errors import status_of, upstream_error
from tallystick.gateway.headers import Headers, first, to_caller
from tallystick.gateway.open_call import OpenCall
from tallystick.usage.streams import UsageStream
from tallystick.wire.last_event import Tail
from tallystick.wire.outcome import Ended, Judged, judge_stream, usage_stream
from tallystick.wire.packing import Unpacker
from tallystick.wire.refusals import error_event
from tallystick.wire.usage_asked import UsageHider

END_SECONDS_MAX: Final = 1.0
"""How long a provider may keep its connection open after the end of a stream."""
DRAIN_SECONDS_MAX: Final = 120.0
DRAIN_BYTES_MAX: Final = 64 * 1024 * 1024
"""How long, and how much of an answer is read whose caller has left."""

_encode = msgspec.json.Encoder().encode


class _Passing:
    """What goes on of a stream, and when."""

    def __init__(self, *, hides_usage: bool) -> None:
        self._hider = UsageHider() if hides_usage else None
        self._tail = Tail()

    @property
    def takes_comment(self) -> bool:
        return self._tail.comment_fits

    @property
    def takes_events(self) -> bool:
        return self._tail.events

    @property
    def is_at_end(self) -> bool:
        return self._tail.is_at_end

    def feed(self, data: bytes) -> bytes:
        return self._tail.feed(data if self._hider is None else self._hider.feed(data))

    def last(self) -> tuple[bytes, bytes]:
        """What may go on before the settlement, and what only after it."""
        more = b"" if self._hider is None else self._hider.end()
        return (self._tail.feed(more) if more else b""), self._tail.rest()


class _PackedPassing:
    """Of a stream that is packed: it goes on as it came, but for the newest piece."""

    takes_comment = takes_events = is_at_end = False

    def __init__(self) -> None:
        self._newest = b""

    def feed(self, data: bytes) -> bytes:
        before, self._newest = self._newest, data
        return before

    def last(self) -> tuple[bytes, bytes]:
        return b"", self._newest


async def relay_stream(call: OpenCall) -> None:
    """Pass a stream on, and settle it.

    Raises:
        TallyError: its settlement could not be written; its end was not sent then.
    """
    exchange, connection = call.exchange, call.connection
    assert connection is not None  # noqa: S101 - its head is here
    stream = usage_stream(load_extractors(), call.asked, call.upstream.terms.provider, call.request)
    coding = (first(connection.headers, b"content-encoding") or b"").decode("latin-1")
    try:
        await exchange.begin(connection.status, _head(call))
        passing, ended, failure = await _pass_on(call, stream, coding)
        judged = _judged(call, stream, ended)
        before, rest = passing.last()
        call.sent_bytes += len(before) + len(rest)
        figures = await call.settle(judged)
    except asyncio.CancelledError:
        connection.abort()
        call.settle_unattended(_judged(call, stream, "broken"))
        raise
    if exchange.has_left:
        return
    if failure is not None and not passing.takes_comment:
        # In the middle of an event: what would be put behind it would be read as its end. The caller sees what it
        # would see of the provider: an answer that does not end.
        await exchange.send(before)
        return
    await exchange.send(before + _end(call, passing, figures, rest, failure), more=False)


def _judged(call: OpenCall, stream: UsageStream, ended: Ended) -> Judged:
    provider = call.upstream.terms.provider
    return judge_stream(load_extractors(), call.asked, provider, stream, request=call.request, ended=ended)


async def _pass_on(
    call: OpenCall, stream: UsageStream, coding: str
) -> tuple[_Passing | _PackedPassing, Ended, UpstreamFailed | None]:
    """Pass on what comes, until nothing more does; how it ended."""
    exchange, connection = call.exchange, call.connection
    assert connection is not None  # noqa: S101
    packed = coding not in ("", "identity")
    passing = _PackedPassing() if packed else _Passing(hides_usage=call.hides_usage)
    unpacker = _unpacker(coding) if packed else None
    reads = True
    drained = 0

    def leave() -> None:
        if call.terms.on_disconnect == "cancel":
            connection.abort()
        else:
            connection.hurry(DRAIN_SECONDS_MAX)

    exchange.watch(leave)
    try:
        while data := await connection.next():
            if reads:
                try:
                    stream.feed(data if unpacker is None else unpacker.feed(data))
                except BadInput as error:
                    reads = False
                    exchange.notes["not_read"] = error.code
            if exchange.has_left:
                drained += len(data)
                if drained > DRAIN_BYTES_MAX:
                    connection.abort()
                continue
            ready = passing.feed(data)
            if ready:
                call.sent_bytes += len(ready)
                await exchange.send(ready)
            if passing.is_at_end:  # all is here, also where the provider keeps its connection open
                connection.hurry(END_SECONDS_MAX)
    except UpstreamFailed as failure:
        if passing.is_at_end:
            return passing, "left" if exchange.has_left else "whole", None
        return passing, "left" if exchange.has_left else "broken", None if exchange.has_left else failure
    return passing, "left" if exchange.has_left else "whole", None


def _unpacker(coding: str) -> Unpacker | None:
    try:
        return Unpacker(coding)
    except BadInput:
        return None


def _head(call: OpenCall) -> Headers:
    """The provider's headers, and what is known of the call before it is settled."""
    assert call.connection is not None  # noqa: S101
    held = call.hold.recorded
    return [
        *to_caller(call.connection.headers, own_account=call.own_account),
        (b"x-tally-request-id", held.request_id.encode()),
        (b"x-tally-hold", b"h%d" % held.seq),
    ]


def _end(
    call: OpenCall,
    passing: _Passing | _PackedPassing,
    figures: CallFigures,
    rest: bytes,
    failure: UpstreamFailed | None,
) -> bytes:
    """The end of a stream: what it came to, then what was withheld, or the reason why there is no more of it."""
    if not passing.takes_events:
        return rest
    comment = tally_comment(figures) if passing.takes_comment else b""
    if failure is None:
        return comment + rest
    error = upstream_error(failure)
    return comment + error_event(call.asked.api, status_of(error), error.as_dict(), request_id=figures.request_id)


def tally_comment(figures: CallFigures) -> bytes:
    """What a settled stream came to, as a comment among its events."""
    return b": tally " + _encode(figures) + b"\n\n"
