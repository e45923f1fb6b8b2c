"""Which answers a file holds: one body, JSON Lines of them, or lines that say more than the answer itself.

A line may be an answer as the provider gave it, or an envelope around one:

    {"body": {…} or "…", "provider", "flavor", "model", "at", "request", "host", "status", "price_context"}
    {"sse": "…", …}                                   a recorded event stream instead of a body
    {"custom_id", "response": {"status_code", "body"}}      a line of OpenAI's batch output
    {"custom_id", "result": {"type": "succeeded", "message": {…}}}   a line of Anthropic's
    {"key", "response": {"usageMetadata"}}                  a line of Gemini's

Members that are not named here are let through, so that recordings with notes of their own can be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from typing import Any, BinaryIO

from tallystick.core.errors import BadInput
from tallystick.core.instants import parse_instant
from tallystick.usage.detect import provider_of_host
from tallystick.usage.extract import decode_body

BODY_BYTES_MAX = 16 * 1024 * 1024
"""The largest answer; a longer one is refused without being held in memory."""

_BLOCK = 256 * 1024
_STREAM_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
_RECORDED_STREAM = re.compile(rb'\s*\{[^\n]{0,65536}?"sse"\s*:\s*"')


@dataclass(frozen=True, slots=True)
class Terms:
    """What the caller says about an answer besides the answer; what is None is found out or left at its usual."""

    provider: str | None = None
    flavor: str | None = None
    model: str | None = None
    at: datetime | None = None
    price_context: Mapping[str, str] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of input; `text` is None when it is longer than BODY_BYTES_MAX."""

    number: int
    text: bytes | None


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a file: one (`is_single`), or one a line."""

    is_single: bool
    lines: Iterator[Line]


def find_answers(blocks: Iterable[bytes]) -> Answers:
    """Whether a file, given in blocks, is one body over however many lines, or one answer a line.

    Raises:
        BadInput: `empty_input`, `event_stream` for a stream that was not said to be one, or `body_too_large`
            for one body over many lines.
    """
    lines = (line for line in _lines(blocks) if line.text is None or line.text.strip())
    head = next(lines, None)
    if head is None:
        raise BadInput("empty_input", "there is nothing to read", next_step="send one JSON object, or one a line")
    if head.text is not None and head.text.startswith(_STREAM_STARTS):
        raise BadInput("event_stream", "this is a stream of events, not an answer", next_step="add --stream")
    if head.text is None or _is_json(head.text):
        second = next(lines, None)
        if second is None:
            return Answers(True, iter([head]))
        return Answers(False, chain([head, second], lines))
    # The first line alone is no JSON: a body over many lines, or lines of which the first is broken.
    held, size = [head], len(head.text)
    for line in lines:
        held.append(line)
        size += len(line.text or b"") + 1
        if line.text is None or _is_object(line.text):
            return Answers(False, chain(held, lines))
        if size > BODY_BYTES_MAX:
            raise too_large()
    whole = b"\n".join(line.text or b"" for line in held)
    if len(held) > 1 and not _begins_a_body(head.text) and not _is_json(whole):
        return Answers(False, iter(held))  # every line is broken, and is told so in its place
    return Answers(True, iter([Line(head.number, whole)]))


def read_blocks(file: BinaryIO, advance: Callable[[int], object] = lambda _: None) -> Iterator[bytes]:
    """A file in blocks; `advance` is told how many bytes each took."""
    while block := file.read(_BLOCK):
        advance(len(block))
        yield block


def hold_recorded_streams(blocks: Iterator[bytes]) -> tuple[bool, Iterator[bytes]]:
    """Whether the blocks are lines of envelopes with an `sse` member, and the blocks again."""
    head = next(blocks, b"")
    return bool(_RECORDED_STREAM.match(head)), chain([head], blocks)


def too_large() -> BadInput:
    """The refusal of a body above the limit."""
    return BadInput(
        "body_too_large",
        f"one answer is longer than {BODY_BYTES_MAX} bytes",
        next_step="send one answer a line; leave generated pictures and sound out of it",
    )


def open_envelope(value: Mapping[str, Any], terms: Terms) -> tuple[Mapping[str, Any] | bytes, Terms]:
    """The answer inside of an envelope (a body, or the bytes of a stream), and what the envelope adds to the terms.

    An answer without an envelope is given back as it is. What the envelope says prevails over the command line.

    Raises:
        BadInput: `invalid_envelope` or `invalid_time`, naming the member; `provider_error` when the envelope
            says that the provider refused the request; or what decoding the body raises.
    """
    value, terms = _batch_line(value, terms)
    if "sse" not in value and "body" not in value:
        return value, terms
    terms = replace(
        terms,
        provider=_text(value, "provider") or _host_provider(value) or terms.provider,
        flavor=_text(value, "flavor") or terms.flavor,
        model=_text(value, "model") or terms.model,
        at=_instant(value) or terms.at,
        price_context={**terms.price_context, **_context(value)},
        request=_object(value, "request") or terms.request,
    )
    if "sse" in value:
        stream = value["sse"]
        if not isinstance(stream, str):
            raise _invalid("sse", "the text of a stream")
        return stream.encode(errors="replace"), terms
    body = value["body"]
    if isinstance(body, str):
        body = decode_body(body.encode(errors="replace"))
    if not isinstance(body, Mapping):
        raise _invalid("body", "a JSON object, or the text of one")
    return body, terms


def _batch_line(value: Mapping[str, Any], terms: Terms) -> tuple[Mapping[str, Any], Terms]:
    """What a line of a batch's output holds, at the price of batches."""
    if not {"custom_id", "key"} & set(value):
        return value, terms
    response, result = value.get("response"), value.get("result")
    if not isinstance(response, Mapping) and not isinstance(result, Mapping):
        return value, terms  # an id of the caller's own beside an answer makes no batch of it
    terms = replace(terms, price_context={"service_tier": "batch", **terms.price_context})
    if isinstance(response, Mapping):
        return {"body": response.get("body", response)}, terms
    if isinstance(result, Mapping) and isinstance(result.get("message"), Mapping):
        return {"body": result["message"]}, terms
    return {"body": result}, terms


def _lines(blocks: Iterable[bytes]) -> Iterator[Line]:
    """The lines of a file with their numbers; one that is too long is passed over without being held."""
    number, held, is_long = 1, bytearray(), False
    for block in blocks:
        *whole, rest = block.split(b"\n")
        for part in whole:
            is_long = is_long or len(held) + len(part) > BODY_BYTES_MAX
            yield Line(number, None if is_long else bytes(held + part))
            number, is_long = number + 1, False
            held.clear()
        is_long = is_long or len(held) + len(rest) > BODY_BYTES_MAX
        if is_long:
            held.clear()
        else:
            held += rest
    if is_long or held:
        yield Line(number, None if is_long else bytes(held))


def _is_json(text: bytes) -> bool:
    try:
        decode_body(text)
    except BadInput as error:
        return error.code == "not_an_object"
    return True


def _begins_a_body(line: bytes) -> bool:
    """Whether a line that is no JSON itself can be the first of a body over many lines."""
    text = line.strip()
    return text.startswith((b"{", b"[", b"\xef\xbb\xbf")) and not text.endswith(b"}")


def _is_object(text: bytes) -> bool:
    """Whether a line is an object of its own, and not a line inside of a larger one (which is indented)."""
    return text.startswith(b"{") and text.rstrip().endswith(b"}") and _is_json(text)


def _text(value: Mapping[str, Any], name: str) -> str | None:
    found = value.get(name)
    if found is not None and not isinstance(found, str):
        raise _invalid(name, "a string")
    return found or None


def _object(value: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    found = value.get(name)
    if found is not None and not isinstance(found, Mapping):
        raise _invalid(name, "an object")
    return found


def _host_provider(value: Mapping[str, Any]) -> str | None:
    host = _text(value, "host")
    return provider_of_host(host) if host else None


def _instant(value: Mapping[str, Any]) -> datetime | None:
    text = _text(value, "at")
    return parse_instant(text, where="at") if text else None


def _context(value: Mapping[str, Any]) -> Mapping[str, str]:
    context = _object(value, "price_context") or {}
    if not all(isinstance(item, str) for item in context.values()):
        raise _invalid("price_context", "an object of strings")
    return context


def _invalid(name: str, wanted: str) -> BadInput:
    return BadInput("invalid_envelope", f"it is not {wanted}", next_step=f"write {wanted}", where=name)
