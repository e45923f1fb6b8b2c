"""Withholding the end of a stream until what it used is committed, and nothing before its end.

    tail = Tail()
    for piece in upstream: send(tail.feed(piece))
    ...settle, commit...
    send(tail.rest())

The end of a stream is its terminal event: OpenAI's `data: [DONE]` and `response.completed` (`.failed`, `.incomplete`,
`.cancelled`), Anthropic's `message_stop`, Gemini's event with a `finishReason`, and an event that states an error. Of a
JSON array it is the bracket that closes it. A stream of another kind has no such event: its end is that it ends.

The bytes of an event that can be no terminal one go on at once; others wait until their event is whole.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from tallystick.wire.event_cut import EventCutter, event_fields

HELD_BYTES_MAX: Final = 8 * 1024 * 1024
"""An event that is longer goes on: memory matters more than what it might say in its last bytes."""

TERMINAL_NAMES: Final = frozenset(
    {b"message_stop", b"response.completed", b"response.failed", b"response.incomplete", b"response.cancelled",
     b"error", b"done"}
)  # fmt: skip
_MARKS: Final = re.compile(
    rb"\[DONE\]|message_stop|response\.(?:completed|failed|incomplete|cancelled)|finishReason|\"error\"|event: ?error"
)
_NAME_LINE: Final = re.compile(rb"(?:^|[\r\n])event: ?([^\r\n]+)[\r\n]")
_TYPE_FIRST: Final = re.compile(rb'data: ?\{\s*"type"\s*:\s*"([^"\\]+)"')
_DATA: Final = re.compile(rb"(?:^|[\r\n])data: ?(.)", re.DOTALL)
_CHUNK: Final = re.compile(rb'"choices"\s*:\s*\[')

Verdict = Literal["on", "end", "open"]


class Tail:
    """Passes a stream on up to its terminal event, which it keeps until it is asked for the rest."""

    def __init__(self) -> None:
        self._cutter = EventCutter()
        self._inner: _EventTail | _ArrayTail | None = None
        self._head = b""

    @property
    def events(self) -> bool:
        """Whether these are server-sent events, among which a comment may be put."""
        return not isinstance(self._inner, _ArrayTail)

    @property
    def comment_fits(self) -> bool:
        """Whether a comment line may stand between what went on and `rest()`."""
        return self._inner is None or (isinstance(self._inner, _EventTail) and self._inner.at_boundary)

    def feed(self, data: bytes) -> bytes:
        """What may go on, now that these bytes have come."""
        if self._inner is None:
            head = self._head + data
            start = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
            if not start or b"\xef\xbb\xbf".startswith(head):
                self._head = head
                return b""
            data, self._head = head, b""
            self._inner = _ArrayTail() if start[:1] in b"{[" else _EventTail()
        return self._inner.feed(data)

    def rest(self) -> bytes:
        """What was withheld, and any part of an event that was left open."""
        if self._inner is None:
            head, self._head = self._head, b""
            return head
        return self._inner.rest()


class _EventTail:
    """Server-sent events."""

    def __init__(self) -> None:
        self._cutter = EventCutter()
        self._withheld = b""
        self._passed = 0  # of the open event, how many bytes have gone on
        self.at_boundary = True

    def feed(self, data: bytes) -> bytes:
        cutter = self._cutter
        if not cutter.rest and not self._withheld and data.endswith((b"\n\n", b"\r\n\r\n")) and not _MARKS.search(data):
            return data
        out: list[bytes] = []
        for event in cutter.feed(data):
            self._take(event, out)
        self._look_at_open(out)
        return b"".join(out)

    def rest(self) -> bytes:
        rest = self._withheld + self._cutter.rest[self._passed :]
        self._withheld, self._cutter.rest, self._passed = b"", b"", 0
        return rest

    def _take(self, event: bytes, out: list[bytes]) -> None:
        passed, self._passed = self._passed, 0
        if passed:
            out.append(event[passed:])
            self.at_boundary = True
            return
        if is_terminal(event):
            # Gemini ends each of several candidates: only the last end is the stream's.
            if self._withheld and b"finishReason" in self._withheld:
                out.append(self._withheld)
                self._withheld = b""
            self._withheld += event
        elif self._withheld and (b"finishReason" not in self._withheld or not event_fields(event)[1]):
            self._withheld += event  # after the end: comments, an empty line
        else:
            out += [self._withheld, event]
            self._withheld = b""

    def _look_at_open(self, out: list[bytes]) -> None:
        rest = self._cutter.rest
        if not rest or self._withheld:
            return
        if self._passed or may_go_on(rest):
            out.append(rest[self._passed :])
            self._passed = len(rest)
            self.at_boundary = False


def is_terminal(event: bytes) -> bool:
    """Whether a whole event is one after which nothing of an answer comes."""
    if not _MARKS.search(event):
        return False
    name, data = event_fields(event)
    if name in TERMINAL_NAMES or data.strip() == b"[DONE]":
        return True
    try:
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict):
        return False
    kind = value.get("type")
    if isinstance(kind, str) and kind.encode(errors="replace") in TERMINAL_NAMES:
        return True
    if value.get("error"):
        return True
    candidates = value.get("candidates")
    return isinstance(candidates, list) and any(
        isinstance(candidate, dict) and candidate.get("finishReason") is not None for candidate in candidates
    )


def may_go_on(part: bytes) -> bool:
    """Whether the beginning of an event tells already that it is no terminal one."""
    if len(part) > HELD_BYTES_MAX:
        return True
    name = _NAME_LINE.search(part)
    if name is not None:
        return name[1] not in TERMINAL_NAMES
    kind = _TYPE_FIRST.search(part)
    if kind is not None:
        return kind[1] not in TERMINAL_NAMES
    return _CHUNK.search(part) is not None and b'"error"' not in part


class _ArrayTail:
    """One JSON array of objects, as Gemini streams it without `alt=sse`: its closing bracket is withheld."""

    _STRUCTURE = re.compile(rb'["\\{}\[\]]')

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._withheld = b""

    def feed(self, data: bytes) -> bytes:
        if self._withheld:
            self._withheld += data
            return b""
        end = self._end_of(data)
        if end is None:
            return data
        self._withheld = data[end:]
        return data[:end]

    def rest(self) -> bytes:
        rest, self._withheld = self._withheld, b""
        return rest

    def _end_of(self, data: bytes) -> int | None:
        """Where the bracket or brace stands that closes the whole value."""
        plain = 0 if self._escaped else -1
        self._escaped = False
        for match in self._STRUCTURE.finditer(data):
            index, byte = match.start(), match[0]
            if index == plain:
                continue
            if self._in_string:
                if byte == b"\\":
                    plain = index + 1
                    self._escaped = plain == len(data)
                elif byte == b'"':
                    self._in_string = False
            elif byte == b'"':
                self._in_string = True
            elif byte in (b"{", b"["):
                self._depth += 1
            elif byte in (b"}", b"]"):
                self._depth -= 1
                if self._depth <= 0:
                    return index
        return None
