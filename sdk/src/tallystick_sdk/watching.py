"""Reading along while a caller reads an answer: its bytes, or the objects that a client library makes of them."""

from __future__ import annotations

import json
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from tallystick_sdk.recorder import Call
from tallystick_sdk.usage.reading import UsageUnreadable, items_of, part
from tallystick_sdk.usage.sse import Event, Events
from tallystick_sdk.usage.streams import StreamFold

log: Final = logging.getLogger("tallystick_sdk")

BODY_BYTES_MAX: Final = 64 * 1024 * 1024


class StreamSink:
    """What a stream's events come to; recorded once, however the stream ends. Nothing in here raises."""

    def __init__(self, call: Call, *, hides_usage: bool) -> None:
        """`hides_usage`: the chunk that states it was asked for by us, and is kept from the caller."""
        self._call = call
        self._hides = hides_usage
        self._events = Events()
        self._fold = StreamFold(call.provider, call.request)
        self._lock = threading.RLock()  # a collected response may end here in the middle of anything
        self._is_done = False

    def feed(self, data: bytes) -> bytes:
        """Bytes of the stream, cut anywhere; what the caller is to see of them now."""
        try:
            events = list(self._events.feed(data))
            seen = b"".join(event.raw for event in events if self._take(event))
        except Exception:
            log.exception("a stream could not be read along")
            return data
        return seen if self._hides else data

    def take(self, event: Any) -> bool:
        """An event as an object; whether the caller is to see it."""
        try:
            return self._take(Event(b"", event))
        except Exception:
            log.exception("a stream could not be read along")
            return True

    def end(self) -> bytes:
        """No more bytes come; what is left for the caller."""
        try:
            seen = b"".join(event.raw for event in self._events.end() if self._take(event))
        except Exception:
            log.exception("a stream could not be read along")
            seen = b""
        self.finish()
        return seen if self._hides else b""

    def finish(self, error: BaseException | None = None) -> None:
        """The stream is at its end, broke off with an error, or nobody reads it any more."""
        with self._lock:
            if self._is_done:
                return
            self._is_done = True
        try:
            used = self._fold.finish()
        except UsageUnreadable as unreadable:
            if unreadable.code == "provider_error":
                self._call.failed("the stream broke off")
            else:
                self._call.answered({})
        except Exception:
            log.exception("a stream's usage could not be recorded")
        else:
            broke = self._fold.refusal or (error is not None and not isinstance(error, GeneratorExit))
            self._call.used(used, **({"outcome": "failure"} if broke else {}))

    def _take(self, event: Event) -> bool:
        self._fold.take(event.data)
        return not (self._hides and _is_usage_alone(event.data))


class BodySink:
    """A whole answer, put together as a caller reads it."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._held = bytearray()
        self._is_done = False

    def feed(self, data: bytes) -> bytes:
        """The next bytes, which the caller sees as they are."""
        if len(self._held) <= BODY_BYTES_MAX:
            self._held += data
        return data

    def end(self) -> bytes:
        """No more bytes come."""
        self.finish()
        return b""

    def finish(self, error: BaseException | None = None) -> None:
        """It is whole, or nobody reads it any more."""
        if self._is_done:
            return
        self._is_done = True
        try:
            answer = json.loads(self._held)
        except (ValueError, RecursionError):
            answer = {}
        self._call.answered(answer)


Sink = StreamSink | BodySink


def watch_response(response: Any, sink: Sink) -> None:
    """Read along whatever is read of an HTTP response (of httpx or httpx2) from now on."""
    inside = _Inside()
    _watch_blocking(response, sink, inside)
    if hasattr(response, "aiter_bytes"):
        _watch_async(response, sink, inside)
    weakref.finalize(response, sink.finish)


class _Inside:
    """Whether a response is being asked for its next bytes: it closes itself once it is read, before the last of them
    are given out.
    """

    is_true = False


def _watch_blocking(response: Any, sink: Sink, inside: _Inside) -> None:
    iter_bytes, close = response.iter_bytes, response.close

    def read(chunk_size: int | None = None) -> Iterator[bytes]:
        pieces = iter_bytes(chunk_size)
        try:
            while True:
                inside.is_true = True
                try:
                    piece = next(pieces, None)
                finally:
                    inside.is_true = False
                if piece is None:
                    break
                if seen := sink.feed(piece):
                    yield seen
            if rest := sink.end():
                yield rest
        except BaseException as error:
            sink.finish(error)
            raise

    def closed() -> None:
        close()
        if not inside.is_true:
            sink.finish()

    response.iter_bytes, response.close = read, closed


def _watch_async(response: Any, sink: Sink, inside: _Inside) -> None:
    iter_bytes, close = response.aiter_bytes, response.aclose

    async def read(chunk_size: int | None = None) -> AsyncIterator[bytes]:
        pieces = iter_bytes(chunk_size)
        try:
            while True:
                inside.is_true = True
                try:
                    piece = await anext(pieces, None)
                finally:
                    inside.is_true = False
                if piece is None:
                    break
                if seen := sink.feed(piece):
                    yield seen
            if rest := sink.end():
                yield rest
        except BaseException as error:
            sink.finish(error)
            raise

    async def closed() -> None:
        await close()
        if not inside.is_true:
            sink.finish()

    response.aiter_bytes, response.aclose = read, closed


class WatchedStream:
    """A stream of objects that is read along; everything else is the stream's own."""

    def __init__(self, stream: Any, sink: StreamSink) -> None:
        self._stream = stream
        self._sink = sink
        self._items: Any = None
        weakref.finalize(self, sink.finish)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._items is None:
            self._items = iter(self._stream)
        while True:
            try:
                item = next(self._items)
            except StopIteration:
                self._sink.finish()
                raise
            except BaseException as error:
                self._sink.finish(error)
                raise
            if self._sink.take(item):
                return item

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._items is None:
            self._items = aiter(self._stream)
        while True:
            try:
                item = await anext(self._items)
            except StopAsyncIteration:
                self._sink.finish()
                raise
            except BaseException as error:
                self._sink.finish(error)
                raise
            if self._sink.take(item):
                return item

    def __enter__(self) -> WatchedStream:
        enter = getattr(self._stream, "__enter__", None)
        if enter is not None:
            enter()
        return self

    def __exit__(self, *error: Any) -> Any:
        leave = getattr(self._stream, "__exit__", None)
        try:
            return leave(*error) if leave is not None else None
        finally:
            self._sink.finish()

    async def __aenter__(self) -> WatchedStream:
        enter = getattr(self._stream, "__aenter__", None)
        if enter is not None:
            await enter()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        leave = getattr(self._stream, "__aexit__", None)
        try:
            return await leave(*error) if leave is not None else None
        finally:
            self._sink.finish()


def _is_usage_alone(event: Any) -> bool:
    choices = part(event, "choices")
    return isinstance(choices, (list, tuple)) and not items_of(choices) and part(event, "usage") is not None
