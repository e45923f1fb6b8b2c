"""Cutting the bytes of a server-sent event stream into events, each with the bytes that it came as."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
EVENT_BYTES_MAX: Final = 32 * 1024 * 1024
"""A longer event is passed on as it is, and not read."""


class Event(NamedTuple):
    """One event: its bytes, and its data as decoded JSON (`DONE` for OpenAI's end mark, None for anything else)."""

    raw: bytes
    data: Any


class _Done:
    """The type of `DONE`."""


DONE: Final = _Done()


class Events:
    """Bytes in, cut anywhere; events out, whose `raw` put together is the same bytes."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._looked = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that became whole with these bytes."""
        self._held += data
        while True:
            # A line ending may be cut: look again from a few bytes before what is new.
            match = _END.search(self._held, max(0, self._looked - 3))
            if match is None:
                self._looked = len(self._held)
                break
            if match.end() == len(self._held) and self._held.endswith(b"\r"):
                self._looked = match.start()  # the line feed of this ending may come with the next bytes
                break
            raw = bytes(self._held[: match.end()])
            del self._held[: match.end()]
            self._looked = 0
            yield Event(raw, data_of(raw))
        if len(self._held) > EVENT_BYTES_MAX:
            yield from self._rest(read=False)

    def end(self) -> Iterator[Event]:
        """What is left when the stream has ended: recordings often lack the last blank line."""
        yield from self._rest(read=True)

    def _rest(self, *, read: bool) -> Iterator[Event]:
        raw = bytes(self._held)
        self._held.clear()
        self._looked = 0
        if raw:
            yield Event(raw, data_of(raw) if read else None)


def data_of(raw: bytes) -> Any:
    """The decoded data of one event."""
    lines = [line[5:].removeprefix(b" ") for line in raw.splitlines() if line.startswith(b"data:")]
    data = b"\n".join(lines).strip()
    if data == b"[DONE]":
        return DONE
    try:
        return json.loads(data) if data else None
    except (ValueError, RecursionError):
        return None
