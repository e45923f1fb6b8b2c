"""The most tokens that a request's prompt can have, found without a tokenizer.

Every tokenizer in use reads bytes: a token stands for one byte of text at least. A request written as compact JSON in
UTF-8 has every byte of its text, and around each message more bytes than any provider's markers have tokens, so that
its length is a bound. Pictures, sound and files are no text there; for them the bounds below stand. What an upstream
adds by itself (the conversation before, what its own searches find) has no bound in the request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

TOKENS_MAX: Final = 10**9
"""What is said to be more is no number of tokens."""
MARKERS_TOKENS: Final = 64
"""What a provider puts around a prompt."""
TOOLS_TOKENS: Final = 2_000
"""The instructions that a provider adds when tools are given; the longest known has about 750 tokens."""
CLIENT_TOOL_TOKENS: Final = 1_000
"""The definition of one of the provider's own tools that the caller runs (a shell, an editor, a screen)."""

IMAGE_TOKENS: Final = 12_000
"""One picture at full detail; the most is 10,000 patches of the models that take them unreduced."""
IMAGE_TOKENS_OF_MODEL: Final = (("gpt-4o-mini", 48_200),)
"""Models that count a picture as more: 2,833 tokens and 5,667 for each of 8 tiles."""
AUDIO_BYTES_PER_TOKEN: Final = 16
"""Sound of 6 kbit/s, the least that carries speech, at 32 tokens a second has 23 bytes to a token."""
VIDEO_BYTES_PER_TOKEN: Final = 4
DOCUMENT_TOKENS_LEAST: Final = 5_000
"""A page has about 1,500 to 4,600 tokens, as text and as a picture."""
FILE_TOKENS: Final = 200_000
"""One document, or a file that is only named in the request."""
MEDIA_TOKENS: Final = 1_000_000
"""Sound and video of any length: the context of the models that take them."""

_TOOL_KEYS = ("tools", "functions")
_UNSEEN_KEYS = (
    "previous_response_id", "conversation", "cachedContent", "cached_content", "container", "mcp_servers",
    "web_search_options", "plugins",
)  # fmt: skip
"""Members with which an upstream adds text that is not in the request."""
_CLIENT_TOOLS = frozenset(
    {"function", "custom", "local_shell", "shell", "apply_patch", "computer_use_preview", "computer"}
)
_CLIENT_TOOL_BEGINNINGS = ("bash_", "text_editor_", "computer_", "memory_")
_MEDIA_MARKS = (b"image", b"audio", b"video", b"file", b"document", b"inline", b"container_upload")


class PromptBound(msgspec.Struct, frozen=True):
    """The most that a prompt can have.

    Attributes:
        tokens: text, files and whatever has no meter of its own; None when the request does not tell.
        image_tokens, audio_tokens, video_tokens: of the media in it.
    """

    tokens: int | None
    image_tokens: int = 0
    audio_tokens: int = 0
    video_tokens: int = 0


def prompt_bound(request: Mapping[str, Any], compact: bytes, model: str | None) -> PromptBound:
    """The bound of a decoded request.

    Args:
        request: the decoded body.
        compact: the same as compact JSON in UTF-8, in which no letter is escaped.
        model: the model, for how it counts pictures.
    """
    if _grows_upstream(request):
        return PromptBound(None)
    tokens = len(compact) + MARKERS_TOKENS + _tool_tokens(request)
    if not _may_have_media(compact):
        return PromptBound(min(tokens, TOKENS_MAX))
    sums = {"image": 0, "audio": 0, "video": 0, "document": 0}
    for kind, length, is_here in _media(request):
        sums[kind] += media_bound(kind, length if is_here else None, model)
        tokens -= length
    tokens = max(0, tokens) + sums["document"]
    return PromptBound(min(tokens, TOKENS_MAX), sums["image"], sums["audio"], sums["video"])


def media_bound(kind: str, size: int | None, model: str | None) -> int:
    """The most tokens of one picture, sound, video or document.

    Args:
        kind: image, audio, video or document.
        size: its bytes in base64; None when it is somewhere else, and only named.
    """
    if kind == "image":
        name = (model or "").lower().rpartition("/")[2]
        return next((most for begin, most in IMAGE_TOKENS_OF_MODEL if name.startswith(begin)), IMAGE_TOKENS)
    if size is None:
        return FILE_TOKENS if kind == "document" else MEDIA_TOKENS
    decoded = size * 3 // 4 + 1
    if kind == "document":
        return min(max(decoded, DOCUMENT_TOKENS_LEAST), FILE_TOKENS)
    per_token = AUDIO_BYTES_PER_TOKEN if kind == "audio" else VIDEO_BYTES_PER_TOKEN
    return min(decoded // per_token + 1, MEDIA_TOKENS)


def _grows_upstream(request: Mapping[str, Any]) -> bool:
    if any(request.get(key) for key in _UNSEEN_KEYS):
        return True
    if isinstance(request.get("prompt"), Mapping):  # a prompt that is stored with the provider
        return True
    return any(not _is_clients(tool) for tool in _tools(request))


def _tools(request: Mapping[str, Any]) -> list[Any]:
    return [tool for key in _TOOL_KEYS if isinstance(request.get(key), list) for tool in request[key]]


def _is_clients(tool: Any) -> bool:
    """Whether the caller runs the tool, and the upstream does not look things up by itself."""
    if not isinstance(tool, Mapping):
        return True
    kind = tool.get("type")
    if isinstance(kind, str):
        return kind in _CLIENT_TOOLS or kind.startswith(_CLIENT_TOOL_BEGINNINGS)
    if "name" in tool or "function" in tool:
        return True
    return set(tool) <= {"functionDeclarations", "function_declarations"}


def _tool_tokens(request: Mapping[str, Any]) -> int:
    tools = _tools(request)
    if not tools:
        return 0
    kinds = [tool.get("type") for tool in tools if isinstance(tool, Mapping)]
    own = sum(1 for kind in kinds if isinstance(kind, str) and kind not in ("function", "custom"))
    return TOOLS_TOKENS + CLIENT_TOOL_TOKENS * own


def _may_have_media(compact: bytes) -> bool:
    """Whether a request is to be searched for media."""
    named = b'"type":' in compact or b'ata":' in compact  # of every medium: inlineData, file_data; others have a type
    return named and any(mark in compact for mark in _MEDIA_MARKS)


# ── media: what is in a request and is no text ──────────────────────────────────────────────────────────────────────


def _media(request: Mapping[str, Any]) -> Iterator[tuple[str, int, bool]]:
    """Each picture, sound, video and document: its kind, how much of the request it is, and whether it is there."""
    pending: list[Any] = [value for key, value in request.items() if key not in _TOOL_KEYS]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(item for item in value if isinstance(item, dict | list))
        elif isinstance(value, Mapping):
            found = _medium(value)
            if found is not None:
                yield found
            pending.extend(item for item in value.values() if isinstance(item, dict | list))


def _medium(value: Mapping[str, Any]) -> tuple[str, int, bool] | None:
    return _openai_medium(value) or _anthropic_medium(value) or _gemini_medium(value)


def _openai_medium(value: Mapping[str, Any]) -> tuple[str, int, bool] | None:
    kind = value.get("type")
    if not isinstance(kind, str):
        return None
    if kind in ("image_url", "input_image", "computer_screenshot"):
        return _located("image", _inner(value.get("image_url"), "url"), value.get("file_id"))
    if kind == "video_url":
        return _located("video", _inner(value.get("video_url"), "url"), None)
    if kind == "input_audio":
        return _located("audio", _inner(value.get("input_audio"), "data"), None, bare=True)
    if kind in ("file", "input_file"):
        inner = value.get("file") if isinstance(value.get("file"), Mapping) else value
        assert isinstance(inner, Mapping)  # noqa: S101
        data = inner.get("file_data") or inner.get("file_url")
        bare = isinstance(inner.get("file_data"), str)
        return _located("document", data, inner.get("file_id"), bare=bare)
    return None


def _anthropic_medium(value: Mapping[str, Any]) -> tuple[str, int, bool] | None:
    kind, source = value.get("type"), value.get("source")
    if kind == "container_upload":
        return ("document", 0, False)
    if kind not in ("image", "document") or not isinstance(source, Mapping):
        return None
    if source.get("type") == "base64":
        return _located(kind, source.get("data"), None, bare=True)
    if source.get("type") in ("url", "file"):
        return (kind, 0, False)
    return None  # plain text, and content that is looked into by itself


def _gemini_medium(value: Mapping[str, Any]) -> tuple[str, int, bool] | None:
    inline = value.get("inlineData") or value.get("inline_data")
    if isinstance(inline, Mapping):
        return _located(_kind_of(inline), inline.get("data"), None, bare=True)
    named = value.get("fileData") or value.get("file_data")
    if isinstance(named, Mapping):
        return (_kind_of(named), 0, False)
    return None


def _kind_of(value: Mapping[str, Any]) -> str:
    mime = value.get("mimeType") or value.get("mime_type")
    kind = mime.partition("/")[0] if isinstance(mime, str) else ""
    if kind in ("image", "audio", "video"):
        return kind
    return "document" if mime else "video"  # a video's address often goes without its kind


def _inner(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else value


def _located(kind: str, data: Any, file_id: Any, *, bare: bool = False) -> tuple[str, int, bool] | None:
    """Of a medium that stands in the request its size; of one that is named, nothing."""
    if isinstance(data, str) and (bare or data.startswith("data:")):
        return (kind, len(data), True)
    return (kind, 0, False) if isinstance(data, str) or file_id is not None else None
