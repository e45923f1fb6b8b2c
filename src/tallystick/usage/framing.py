"""Cutting a byte stream into JSON values: server-sent events, JSON Lines, or one JSON array as it grows.

Bytes may arrive cut anywhere, inside a line ending or a character too; the values are the same however they
were cut. What is not JSON inside an event is counted and passed over: one garbled event must not lose the
usage that the next one states.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from tallystick.core.errors import BadInput

EVENT_BYTES_MAX = 32 * 1024 * 1024
"""The largest event; a longer one is refused rather than held in memory."""

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_STRUCTURE = re.compile(rb'["\\\\{}\[\]]')


class Framer:
    """Finds out what the stream is from its first byte, and then yields its values as they become whole."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: _Events | _Values | None = None

    @property
    def garbled(self) -> int:
        """How many events were not JSON."""
        return 0 if self._inner is None else self._inner.garbled

    def feed(self, data: bytes) -> Iterator[Any]:
        """The values that became whole with these bytes.

        Raises:
            BadInput: `event_too_large`.
        """
        if self._inner is None:
            self._head += data
            start = self._head.removeprefix(_BOM).lstrip(_SPACE)
            if not start or _BOM.startswith(self._head):
                self._head = self._head[: len(_BOM)] if not start else self._head
                return
            data, self._head = start, b""
            self._inner = _Values() if start[:1] in b"{[" else _Events()
        yield from self._inner.feed(data)

    def finish(self) -> Iterator[Any]:
        """What was still open when the stream ended, if it is whole."""
        if self._inner is not None:
            yield from self._inner.finish()


class _Buffer:
    """What an event has held so far, with its limit."""

    def __init__(self) -> None:
        self.garbled = 0

    def _decode(self, text: bytes) -> Iterator[Any]:
        try:
            yield _DECODER.decode(text)
        # msgspec's errors and UnicodeDecodeError are ValueErrors; the third is of an exponent that no number has.
        except (ValueError, RecursionError, InvalidOperation):
            self.garbled += 1

    @staticmethod
    def _check(size: int) -> None:
        if size > EVENT_BYTES_MAX:
            raise BadInput(
                "event_too_large",
                f"one event of the stream is longer than {EVENT_BYTES_MAX} bytes",
                next_step="send the stream as the provider gave it, with its line endings",
            )


class _Events(_Buffer):
    """Server-sent events (WHATWG HTML, 9.2.6): `data` lines joined, a blank line ends an event."""

    def __init__(self) -> None:
        super().__init__()
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, data: bytes) -> Iterator[Any]:
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = self._after_cr or data.endswith(b"\r")
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for part in lines[:-1]:
            self._line += part
            line, self._line = bytes(self._line), bytearray()
            yield from self._take(line)
        self._line += lines[-1]
        self._check(len(self._line) + self._size)

    def finish(self) -> Iterator[Any]:
        # A recording often lacks the last blank line; an event that was cut is not JSON and falls out.
        for line in (bytes(self._line), b""):
            yield from self._take(line)
        self._line = bytearray()

    def _take(self, line: bytes) -> Iterator[Any]:
        if not line:
            held, self._data, self._size = self._data, [], 0
            if held:
                yield from self._event(b"\n".join(held))
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value.removeprefix(b" ")
            self._size += len(value) + 1
            self._check(self._size)
            self._data.append(value)

    def _event(self, text: bytes) -> Iterator[Any]:
        if text.strip() == b"[DONE]":
            yield DONE
        elif text.strip():
            yield from self._decode(text)


class _Values(_Buffer):
    """JSON objects one after another, or the items of one array: an object ends where its braces close."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, data: bytes) -> Iterator[Any]:
        start = 0 if self._depth else None
        # A backslash makes the byte after it plain, also when that byte comes with the next piece.
        plain = 0 if self._escaped else -1
        self._escaped = False
        for match in _STRUCTURE.finditer(data):
            index, byte = match.start(), match[0]
            if self._in_string:
                if index == plain:
                    continue
                if byte == b"\\":
                    plain = index + 1
                    self._escaped = plain == len(data)
                elif byte == b'"':
                    self._in_string = False
            elif byte == b'"':
                self._in_string = self._depth > 0
            elif byte == b"{" or (byte == b"[" and self._depth):  # an array around the objects is no part of them
                start = index if self._depth == 0 else start
                self._depth += 1
            elif byte in b"}]" and self._depth:
                self._depth -= 1
                if self._depth == 0:
                    self._held += data[start or 0 : index + 1]
                    text, self._held, start = bytes(self._held), bytearray(), None
                    yield from self._decode(text)
        if start is not None:
            self._held += data[start:]
            self._check(len(self._held))

    def finish(self) -> Iterator[Any]:
        if self._held:
            self.garbled += 1
            self._held = bytearray()
        yield from ()


class _Done:
    """The type of `DONE`."""


DONE = _Done()
"""OpenAI's end mark, which is no JSON."""
