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
from typing import Any, Final

import msgspec

from tallystick.wire.event_sieve import HEAD_BYTES, EventSieve, event_fields

TERMINAL_NAMES: Final = frozenset(
    {b"message_stop", b"response.completed", b"response.failed", b"response.incomplete", b"response.cancelled",
     b"transcript.text.done", b"speech.audio.done", b"image_generation.completed", b"image_edit.completed", b"error",
     b"done"}
)  # fmt: skip
_BOM: Final = b"\xef\xbb\xbf"
_DONE: Final = b"[DONE]"
_FINISH: Final = b"finishReason"
_OF_SEVERAL: Final = frozenset({_FINISH, b"image_generation.completed", b"image_edit.completed"})
# Without one of these in it, no event is terminal.
_MARKS: Final = re.compile(
    rb"\[DONE\]|message_stop|(?:transcript\.text|speech\.audio)\.done|image_[a-z]+\.completed"
    rb"|response\.(?:completed|failed|incomplete|cancelled)|finishReason|\"error\""
    rb"|event: ?(?:error|done)"
)
_NAME_LINE: Final = re.compile(rb"(?:^|[\r\n])event: ?([^\r\n]+)[\r\n]")
_TYPE_FIRST: Final = re.compile(rb'(?:^|[\r\n])data: ?\{\s*"type"\s*:\s*"([^"\\]+)"')
_CHUNK: Final = re.compile(rb'(?:^|[\r\n])data: ?\{[^{\[\r\n]*"choices"\s*:\s*\[')
"""A chunk of a chat: nothing stands before its choices that could be an error, or another object's choices."""
_PLAIN: Final = re.compile(
    rb'data: ?\{[^{\[\r\n]*"choices"\s*:\s*\[|event: ?(?:content_block_|response\.[a-z_]+\.|message_delta|ping)'
)
"""How the events begin of which a stream mostly consists, and which are no terminal ones."""
_STRUCTURE: Final = re.compile(rb'["\\{}\[\]]')


class Tail:
    """Passes a stream on up to its terminal event, which it keeps until it is asked for the rest."""

    def __init__(self) -> None:
        self._inner: _EventTail | _ArrayTail | None = None
        self._head = b""

    @property
    def events(self) -> bool:
        """Whether these are server-sent events, as far as is known yet."""
        return not isinstance(self._inner, _ArrayTail)

    @property
    def is_at_end(self) -> bool:
        """Whether the end is withheld already, so that nothing of the answer is still to come."""
        inner = self._inner
        return inner is not None and inner.is_at_end

    @property
    def comment_fits(self) -> bool:
        """Whether these are server-sent events, and a comment may stand between what went on and `rest()`."""
        return isinstance(self._inner, _EventTail) and not self._inner.passing

    def feed(self, data: bytes) -> bytes:
        """What may go on, now that these bytes have come."""
        if self._inner is None:
            data, self._head = self._head + data, b""
            start = data.removeprefix(_BOM).lstrip(b" \t\r\n")
            if _BOM.startswith(data):  # it may be half of one
                self._head = data
                return b""
            if not start:  # what comes before the first event is of none
                return data
            self._inner = _ArrayTail() if start[:1] in b"{[" else _EventTail()
        return self._inner.feed(data)

    def rest(self) -> bytes:
        """What was withheld, and the part of an event that was left open."""
        head, self._head = self._head, b""
        return head if self._inner is None else self._inner.rest()


class _EventTail(EventSieve):
    """Server-sent events."""

    def __init__(self) -> None:
        super().__init__()
        self._withheld: list[bytes] = []
        self._may_continue = False

    @property
    def is_at_end(self) -> bool:
        """Whether an event is withheld after which no other comes; an open one may still grow."""
        return bool(self._withheld) and not self._may_continue and not self._open

    def is_plain(self, data: bytes) -> bool:
        if self._withheld:
            return False
        begin, end = 0, len(data)
        while begin < end and _PLAIN.match(data, begin):
            begin = data.find(b"\n\n", begin) + 2
            if begin < 2:
                break
        else:
            return begin >= end
        return not _MARKS.search(data)

    def take(self, event: bytes, out: list[bytes]) -> None:
        if not self._withheld and _PLAIN.match(event):
            out.append(event)
            return
        terminal = _terminal_mark(event)
        # Each of several candidates or pictures has an end, with more of the others behind it: only the last is the
        # stream's.
        if self._withheld and self._may_continue and (terminal or event_fields(event)[1]):
            out += self._withheld
            self._withheld = []
        if terminal or self._withheld:
            self._withheld.append(event)
            self._may_continue = terminal in _OF_SEVERAL if terminal else self._may_continue
        else:
            out.append(event)

    def may_go_on(self, head: bytes) -> bool:
        return not self._withheld and _is_no_end(head)

    def rest(self) -> bytes:
        rest = b"".join(self._withheld) + super().rest()
        self._withheld = []
        return rest

    def _look_at_open(self, out: list[bytes]) -> None:
        if self._withheld or _ends_stream(self._open):  # it is kept, however long it gets
            return
        super()._look_at_open(out)


def _is_no_end(head: bytes) -> bool:
    """Whether the beginning of an event, or all of it, tells by its name or its form that it is no terminal one."""
    named = _NAME_LINE.search(head) or _TYPE_FIRST.search(head)
    if named is not None:
        return named[1] not in TERMINAL_NAMES
    return _CHUNK.search(head) is not None


def _ends_stream(head: bytearray) -> bool:
    named = _NAME_LINE.search(head, 0, 256) or _TYPE_FIRST.search(head, 0, 256)
    return named is not None and named[1] in TERMINAL_NAMES


def _terminal_mark(event: bytes) -> bytes | None:
    """What makes a whole event one after which nothing of an answer comes; None for another."""
    if not _MARKS.search(event) or _is_no_end(event[:HEAD_BYTES]):
        return None
    name, data = event_fields(event)
    if name in TERMINAL_NAMES or data.strip() == _DONE:
        return name or _DONE
    try:
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return None
    return _mark_of(value) if isinstance(value, dict) else None


def _mark_of(value: dict[str, Any]) -> bytes | None:
    kind = value.get("type")
    if isinstance(kind, str) and kind.encode(errors="replace") in TERMINAL_NAMES:
        return kind.encode()
    if value.get("error"):
        return b"error"
    candidates = value.get("candidates")
    if isinstance(candidates, list) and any(
        isinstance(candidate, dict) and candidate.get("finishReason") is not None for candidate in candidates
    ):
        return _FINISH
    return None


class _ArrayTail:
    """One JSON value, as Gemini streams an array without `alt=sse`: the bracket that closes it is withheld."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._withheld: list[bytes] = []

    @property
    def is_at_end(self) -> bool:
        return bool(self._withheld)

    def feed(self, data: bytes) -> bytes:
        if self._withheld:
            self._withheld.append(data)
            return b""
        end = self._end_of(data)
        if end is None:
            return data
        self._withheld = [data[end:]]
        return data[:end]

    def rest(self) -> bytes:
        rest = b"".join(self._withheld)
        self._withheld = []
        return rest

    def _end_of(self, data: bytes) -> int | None:
        """Where the bracket or brace stands that closes the whole value."""
        plain = 0 if self._escaped else -1  # the byte after a backslash, which may come with the next piece
        self._escaped = False
        for match in _STRUCTURE.finditer(data):
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
