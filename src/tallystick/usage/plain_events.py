"""The quick way through the events of which a stream mostly consists: those that bring a little more text.

Thousands of events pass each second, and nearly all of them only say a few more words. Their text is measured here
without looking at anything else; every other event, and whatever is not written as providers write it, is left to
`framing` and `folds`, which read all there is. Both ways come to the same (a property test holds them to it).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tallystick.usage.folds import ChatFold, Fold, MessagesFold, ResponsesFold


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    text: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta
    finish_reason: Any = None
    usage: Any = None
    message: Any = None
    text: Any = None
    content: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice]
    id: Any = None
    object: Any = None
    model: Any = None
    provider: Any = None
    service_tier: Any = None
    tool_usage: Any = None
    usage: Any = None
    error: Any = None
    x_groq: Any = None
    type: Any = None
    response: Any = None


class _Block(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class _BlockDelta(msgspec.Struct):
    type: str
    delta: _Block
    error: Any = None
    response: Any = None


class _ResponseDelta(msgspec.Struct):
    type: str
    delta: str
    response: Any = None
    error: Any = None


_NOTHING: Final = (None, None, None, None)
_chunk: Final = msgspec.json.Decoder(_Chunk).decode
_block: Final = msgspec.json.Decoder(_BlockDelta).decode
_response: Final = msgspec.json.Decoder(_ResponseDelta).decode


def take_plain(fold: Fold, event: bytes) -> bool:
    """Take an event that only brings more text; False, and nothing is taken, when it may be more than that.

    Args:
        fold: what the stream has been folded to so far; it knows the family of its events.
        event: a whole event without the empty line that ends it, its lines ending with LF.
    """
    if event.startswith(b"data: "):
        data = event[6:]
    elif event.startswith(b"event: "):
        _, found, data = event.partition(b"\ndata: ")
        if not found:
            return False
    else:
        return False
    try:
        # Whatever stands on a second line of data, or behind it, is no JSON.
        if type(fold) is ChatFold:
            return _take_chunk(fold, _chunk(data))
        if type(fold) is MessagesFold:
            return _take_block(fold, _block(data))
        if type(fold) is ResponsesFold:
            return _take_response(fold, _response(data))
    except (ValueError, RecursionError):
        pass
    return False


def _take_chunk(fold: ChatFold, chunk: _Chunk) -> bool:
    if not _only_brings_text(fold, chunk):
        return False
    size = thought = 0
    for choice in chunk.choices:
        delta = choice.delta
        if choice.finish_reason is not None or choice.usage is not None:
            return False
        if choice.message is not None or choice.text is not None or choice.content is not None:
            return False
        thought += _size(delta.reasoning or delta.reasoning_content)
        size += _size(delta.content) + _size(delta.refusal) + _size(delta.text)
        for call in delta.tool_calls or ():
            if call.function is not None:
                size += _size(call.function.name) + _size(call.function.arguments)
    if size or thought:
        fold.add_text(size + thought, thought)
    return True


def _only_brings_text(fold: ChatFold, chunk: _Chunk) -> bool:
    """Whether all that is kept of a chunk besides its text is kept already, as it is of all but the first and last."""
    body = fold.body
    return (
        chunk.usage is None
        and not chunk.error
        and (chunk.x_groq, chunk.type, chunk.response, chunk.tool_usage) == _NOTHING
        and (chunk.id is None or chunk.id == body.get("id"))
        and (chunk.model is None or chunk.model == body.get("model"))
        and (chunk.object is None or chunk.object == body.get("object"))
        and (chunk.provider is None or chunk.provider == body.get("provider"))
        and (chunk.service_tier is None or chunk.service_tier == body.get("service_tier"))
    )


def _take_block(fold: MessagesFold, event: _BlockDelta) -> bool:
    if event.type != "content_block_delta" or event.error or event.response is not None:
        return False
    delta = event.delta
    thought = _size(delta.thinking)
    size = _size(delta.text) + thought + _size(delta.partial_json)
    if size:
        fold.add_text(size, thought)
    return True


def _take_response(fold: ResponsesFold, event: _ResponseDelta) -> bool:
    kind = event.type
    if not kind.startswith("response.") or not kind.endswith(".delta") or event.error or event.response is not None:
        return False
    size = _size(event.delta)
    if size:
        fold.add_text(size, size if "reasoning" in kind else 0)
    return True


def _size(text: str | None) -> int:
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
