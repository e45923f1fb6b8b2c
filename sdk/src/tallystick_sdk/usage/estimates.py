"""What an answer that states no usage has used, as far as one can tell: bytes of text divided by four, rounded up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick_sdk.usage.answers import Part, Used
from tallystick_sdk.usage.reading import at, items_of, part, text

BYTES_PER_TOKEN: Final = 4
_PROMPT: Final = frozenset(
    {"messages", "input", "instructions", "system", "prompt", "contents", "systemInstruction", "tools"}
)
_BINARY: Final = frozenset({"data", "file_data", "image_url", "url", "b64_json", "bytes"})


def tokens_in_bytes(size: int) -> int:
    """Tokens in so many bytes of UTF-8 text."""
    return -(-size // BYTES_PER_TOKEN)


def prompt_bytes(request: Mapping[str, Any]) -> int:
    """Bytes of text in a request's prompt and tools; files and pictures in it are not text."""
    pending: list[Any] = [value for key, value in request.items() if key in _PROMPT]
    size = 0
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            size += 0 if value.startswith("data:") else len(value.encode(errors="replace"))
        elif isinstance(value, Mapping):
            pending.extend(item for key, item in value.items() if key not in _BINARY)
        elif isinstance(value, (list, tuple)):
            pending.extend(value)
    return size


def estimated(model: str | None, size_in: int, tokens_out: int) -> Used:
    """An estimate, and marked so."""
    meters = {"tokens_in": tokens_in_bytes(size_in), "tokens_out": tokens_out}
    return Used(model=model, parts=(Part(meters=meters),), status="estimated")


def estimate_of(answer: Any, request: Mapping[str, Any]) -> Used:
    """An estimate of a whole answer, by the text in it."""
    size = 0
    for choice in items_of(part(answer, "choices")):
        size += _size(at(choice, "message.content") or part(choice, "text"))
    for block in (*items_of(part(answer, "content")), *items_of(part(answer, "output"))):
        size += _size(part(block, "text"))
        size += sum(_size(part(piece, "text")) for piece in items_of(part(block, "content")))
    for candidate in items_of(part(answer, "candidates")):
        size += sum(_size(part(piece, "text")) for piece in items_of(at(candidate, "content.parts")))
    model = text(part(answer, "model")) or text(part(answer, "modelVersion")) or text(request.get("model"))
    return estimated(model, prompt_bytes(request), tokens_in_bytes(size))


def _size(value: Any) -> int:
    return len(value.encode(errors="replace")) if isinstance(value, str) else 0
