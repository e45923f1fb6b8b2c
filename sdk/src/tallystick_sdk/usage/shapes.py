"""Where each API states its usage, and in which class: `(path, class)`; the same class twice is added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tallystick_sdk.usage.meters import KINDS
from tallystick_sdk.usage.reading import at, part, quantity, word

Fields = Sequence[tuple[str, str]]


class Shape(NamedTuple):
    """One way of stating usage.

    Attributes:
        name: `chat`, `responses`, `messages`, `gemini`, `images`, `duration` or `converse`.
        root: where the usage object is.
        needs: the field that it is known by; "" for the usage object itself.
        fields: what is read.
        otherwise: fields that count only where the class is not stated yet.
    """

    name: str
    root: str
    needs: str
    fields: Fields
    otherwise: Fields = ()


def _details(parent: str, direction: str) -> list[tuple[str, str]]:
    return [(f"{parent}.{kind}_tokens", f"{kind}_{direction}") for kind in KINDS]


CHAT: Final = Shape(
    "chat", "usage", "prompt_tokens",
    [
        ("prompt_tokens", "in"), ("completion_tokens", "out"),
        ("prompt_tokens_details.cached_tokens", "cache_read"),
        ("completion_tokens_details.reasoning_tokens", "reasoning"),
        *_details("prompt_tokens_details", "in"), *_details("completion_tokens_details", "out"),
    ],
    [
        ("prompt_tokens_details.cache_write_tokens", "cache_write"),
        ("prompt_tokens_details.cache_creation_tokens", "cache_write"),  # as LiteLLM has them
        ("cache_creation_input_tokens", "cache_write"),
        ("cached_tokens", "cache_read"), ("prompt_cache_hit_tokens", "cache_read"),
        ("cache_read_input_tokens", "cache_read"),
        ("prompt_tokens_details.cache_creation_token_details.ephemeral_5m_input_tokens", "cache_write_5m"),
        ("prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens", "cache_write_1h"),
        ("server_tool_use_details.web_search_requests", "web_searches"),
        ("server_tool_use.web_search_requests", "web_searches"),
    ],
)  # fmt: skip
RESPONSES: Final = Shape(
    "responses", "usage", "input_tokens",
    [
        ("input_tokens", "in"), ("output_tokens", "out"),
        ("input_tokens_details.cached_tokens", "cache_read"),
        ("input_tokens_details.cache_write_tokens", "cache_write"),
        ("output_tokens_details.reasoning_tokens", "reasoning"),
        *_details("input_tokens_details", "in"), *_details("output_tokens_details", "out"),
    ],
    [("input_token_details.audio_tokens", "audio_in"), ("output_token_details.audio_tokens", "audio_out")],
)  # fmt: skip
IMAGES: Final = Shape(
    "images", "usage", "input_tokens",
    [
        ("input_tokens", "in"), ("output_tokens", "out"), ("input_tokens_details.image_tokens", "image_in"),
        ("output_tokens_details.image_tokens", "image_out"),
    ],
    [("output_tokens", "image_out")],
)  # fmt: skip
DURATION: Final = Shape("duration", "usage", "seconds", [])
MESSAGES: Final = Shape(
    "messages", "usage", "input_tokens",
    [
        ("input_tokens", "in"), ("cache_read_input_tokens", "in"), ("cache_creation_input_tokens", "in"),
        ("cache_read_input_tokens", "cache_read"), ("cache_creation_input_tokens", "cache_write"),
        ("cache_creation.ephemeral_5m_input_tokens", "cache_write_5m"),
        ("cache_creation.ephemeral_1h_input_tokens", "cache_write_1h"),
        ("output_tokens", "out"), ("output_tokens_details.thinking_tokens", "reasoning"),
        ("server_tool_use.web_search_requests", "web_searches"),
    ],
)  # fmt: skip
_MODALITIES: Final = (("AUDIO", "audio"), ("IMAGE", "image"), ("DOCUMENT", "image"), ("VIDEO", "video"))


def _by_kind(path: str, form: str) -> list[tuple[str, str]]:
    return [(f"{path}[modality={name}].tokenCount", form.format(kind)) for name, kind in _MODALITIES]


GEMINI: Final = Shape(
    "gemini", "usageMetadata", "",
    [
        ("promptTokenCount", "in"), ("toolUsePromptTokenCount", "in"), ("toolUsePromptTokenCount", "tool"),
        ("cachedContentTokenCount", "cache_read"), *_by_kind("cacheTokensDetails", "cache_read_{}"),
        *_by_kind("promptTokensDetails", "{}_in"), *_by_kind("toolUsePromptTokensDetails", "{}_in"),
        *_by_kind("toolUsePromptTokensDetails", "tool_{}"),
        ("candidatesTokenCount", "out"), ("thoughtsTokenCount", "out"), ("thoughtsTokenCount", "reasoning"),
        *_by_kind("candidatesTokensDetails", "{}_out"),
    ],
)  # fmt: skip
CONVERSE: Final = Shape(
    "converse", "usage", "inputTokens",
    [
        ("inputTokens", "in"), ("cacheReadInputTokens", "in"), ("cacheWriteInputTokens", "in"),
        ("cacheReadInputTokens", "cache_read"), ("cacheWriteInputTokens", "cache_write"),
        ("cacheDetails[ttl=5m].inputTokens", "cache_write_5m"), ("cacheDetails[ttl=1h].inputTokens", "cache_write_1h"),
        ("outputTokens", "out"),
    ],
)  # fmt: skip

COHERE: Final = Shape(
    "cohere", "usage.billed_units", "", [("input_tokens", "in"), ("output_tokens", "out")],
    [("search_units", "rerank_searches")],
)  # fmt: skip
TOTAL: Final = Shape("total", "usage", "total_tokens", [("total_tokens", "in")])
"""Embeddings and reranking of some providers state one number."""


def shape_of(answer: Any) -> Shape | None:
    """The shape of an answer's usage; None when it states none."""
    for one in (GEMINI, COHERE):
        if at(answer, one.root) is not None:
            return one
    usage = part(answer, "usage")
    order = (CHAT, DURATION, RESPONSES, CONVERSE, TOTAL)
    shape = next((one for one in order if part(usage, one.needs) is not None), None)
    if shape is not RESPONSES:
        return shape
    if _is_messages(answer, usage):
        return MESSAGES
    has_images = part(answer, "data") is not None and at(usage, "input_tokens_details.image_tokens") is not None
    return IMAGES if has_images else RESPONSES


def read_shape(shape: Shape, usage: Any) -> dict[str, int]:
    """What a usage object states, by class.

    Raises:
        UsageUnreadable: `invalid_quantity`.
    """
    stated: dict[str, int] = {}
    for path, name in shape.fields:
        value = at(usage, path)
        if value is not None:
            stated[name] = stated.get(name, 0) + quantity(value, path)
    for path, name in shape.otherwise:
        value = at(usage, path)
        if value is not None and name not in stated:
            stated[name] = quantity(value, path)
    if shape is DURATION:
        stated["audio_ms"] = _milliseconds(part(usage, "seconds"))
    return stated


def _milliseconds(seconds: Any) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= 10**9:
        return quantity(seconds, "seconds")
    return round(seconds * 1000)


def _is_messages(answer: Any, usage: Any) -> bool:
    if word(part(answer, "object")) == "response":
        return False
    return word(part(answer, "type")) == "message" or any(
        part(usage, name) is not None for name in ("cache_read_input_tokens", "cache_creation_input_tokens")
    )
