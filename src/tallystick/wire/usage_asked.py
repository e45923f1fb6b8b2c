"""Asking a stream of OpenAI's shape for its usage where the caller did not, and hiding what comes of it.

    asked = with_usage_asked(body)          # `stream_options.include_usage` is true in it, every other byte as it was
    hider = UsageHider()                    # when `asked` differs from `body`
    for piece in upstream: send(hider.feed(piece))
    send(hider.end())

With `include_usage` the upstream sends one chunk more, before `[DONE]`: its `choices` are empty and its `usage` is not.
That chunk is hidden, and nothing else. (The other chunks then carry `"usage": null`, which every client lets through.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tallystick.wire.event_sieve import EventSieve, event_fields

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},:]', re.DOTALL)
_SPACE: Final = b" \t\r\n"
_FIELD: Final = b'"stream_options":{"include_usage":true}'
_MEMBER: Final = b'"include_usage":true'

_EMPTY_CHOICES: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_FULL_CHOICES: Final = re.compile(rb'(?:^|[\r\n])data: ?\{[^{\[\r\n]*"choices"\s*:\s*\[\s*[^\]\s]')


def with_usage_asked(body: bytes) -> bytes:
    """The request with its stream's usage asked for, every other byte as it was.

    A body that asks already is given back as it is, and so is one that is no JSON object.
    """
    try:
        request = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return body
    options = request.get("stream_options") if isinstance(request, dict) else None
    asks = isinstance(options, dict) and options.get("include_usage") is True
    return body if asks or not isinstance(request, dict) else _ask(body, request, options)


def _ask(body: bytes, request: dict[str, Any], options: object) -> bytes:
    begin = body.index(b"{")
    is_named = "stream_options" in request  # where it is not, nothing has to be searched
    span = _member(body, begin, "stream_options") if is_named else None
    if span is None:
        return body[: begin + 1] + _FIELD + (b"," if request else b"") + body[begin + 1 :]
    start, end = span
    if not isinstance(options, dict):
        return body[:start] + b'{"include_usage":true}' + body[end:]
    inner = _member(body, start, "include_usage")
    if inner is None:
        return body[: start + 1] + _MEMBER + (b"," if options else b"") + body[start + 1 :]
    return body[: inner[0]] + b"true" + body[inner[1] :]


def _member(text: bytes, begin: int, name: str) -> tuple[int, int] | None:
    """Where the value of the last member of that name stands, in the object that begins at `begin`."""
    found = None
    for key, start, end in _members(text, begin):
        if msgspec.json.decode(key) == name:
            found = (start, end)
    return found


def _members(text: bytes, begin: int) -> Iterator[tuple[bytes, int, int]]:
    """Each member of a valid JSON object: its name as it is written, and from where to where its value stands."""
    depth, key, value_from, expects_key = 0, b"", 0, False
    for token in _TOKEN.finditer(text, begin):
        match token[0]:
            case b"{" | b"[":
                depth += 1
                expects_key = expects_key if depth > 1 else True
            case b"}" | b"]":
                depth -= 1
                if depth == 0:
                    if key:
                        yield key, *_trimmed(text, value_from, token.start())
                    return
            case b"," if depth == 1:
                yield key, *_trimmed(text, value_from, token.start())
                key, expects_key = b"", True
            case b":" if depth == 1 and not expects_key and value_from < 0:
                value_from = token.end()
            case other if depth == 1 and expects_key and other.startswith(b'"'):
                key, expects_key, value_from = other, False, -1


def _trimmed(text: bytes, start: int, end: int) -> tuple[int, int]:
    value = text[start:end]
    return start + len(value) - len(value.lstrip(_SPACE)), end - (len(value) - len(value.rstrip(_SPACE)))


class UsageHider(EventSieve):
    """Passes a stream on without the chunk that only states the usage."""

    def end(self) -> bytes:
        """What is left when no more bytes come."""
        rest = self.rest()
        return b"" if rest and self._is_extra(rest) else rest

    def is_plain(self, data: bytes) -> bool:
        """See `EventSieve`."""
        return not _EMPTY_CHOICES.search(data)

    def take(self, event: bytes, out: list[bytes]) -> None:
        """See `EventSieve`."""
        if not self._is_extra(event):
            out.append(event)

    def may_go_on(self, head: bytes) -> bool:
        """See `EventSieve`."""
        return _FULL_CHOICES.search(head) is not None

    def _is_extra(self, event: bytes) -> bool:
        if not _EMPTY_CHOICES.search(event) or b"usage" not in event:
            return False
        try:
            chunk: Any = msgspec.json.decode(event_fields(event)[1])
        except (ValueError, RecursionError):
            return False
        return isinstance(chunk, dict) and chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict)
