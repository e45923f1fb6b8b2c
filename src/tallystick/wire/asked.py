"""What a request to a model asks for, as far as its price and its metering depend on it.

    asked = asked_of("openai", "/v1/chat/completions", "", body)
    meters = asked.worst_meters(tokens_in_default=128_000, tokens_out_default=4_096)

The bounds are the worst case: what is settled afterwards is what was used. Nothing here refuses a request: what
cannot be told is None, and `fault` says why a body should not go on, because another reader could read it otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from tallystick.wire.media_calls import IMAGE_TOKENS_OUT, MEDIA_KINDS, worst_of_media
from tallystick.wire.multipart import Form, boundary_of, read_form
from tallystick.wire.prompt_bound import IMAGE_TOKENS, MARKERS_TOKENS, TOKENS_MAX, PromptBound, prompt_bound
from tallystick.wire.routes import FREE_KINDS, Flavor, Kind, route_of

Fault = Literal["malformed_json", "duplicate_key"]

ANSWERS_MAX: Final = 10_000

_WITHOUT_OUTPUT: Final = frozenset({"embeddings", "count", "list"})
_SINGLE: Final = frozenset({"model", "stream", "n", "prompt", "response_format"})
"""Fields that a form has once; a file's may be there several times."""
_OUT_KEYS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample")
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as far as its price depends on it.

    Attributes:
        api: whose shape it speaks; errors and streams of the answer look like that.
        kind: the endpoint.
        model: as the caller named it; None when it is not named.
        stream: whether the answer is to come bit by bit.
        events: whether a stream comes as server-sent events; Gemini's is one growing JSON array otherwise.
        deferred: whether the work is done after the answer, so that its usage does not pass here.
        prompt: the most tokens of the prompt.
        tokens_out_max: the most tokens of all answers together, where the request bounds them; else None.
        answers: how many answers are asked for at most; a default for `tokens_out_max` is for each of them.
        usage_asked: whether a stream states its usage by itself; see `usage_asked.with_usage_asked`.
        cache_meter: the meter of prompt tokens that the caller has stored in a cache at a price of their own.
        media_out: other media than text that the answer may have.
        characters: of the text that is to be spoken.
        file_bytes: of the files in a form.
        fault: why the body should not go on: it is no JSON object, or one in it names a member twice.
    """

    api: Flavor
    kind: Kind
    model: str | None = None
    stream: bool = False
    events: bool = True
    deferred: bool = False
    prompt: PromptBound = PromptBound(None)
    tokens_out_max: int | None = None
    answers: int = 1
    usage_asked: bool = True
    cache_meter: str | None = None
    media_out: tuple[Literal["image", "audio"], ...] = ()
    characters: int = 0
    file_bytes: int = 0
    fault: Fault | None = None

    @property
    def free(self) -> bool:
        """Whether nothing is billed by the call, so that nothing need be held for it."""
        return self.kind in FREE_KINDS

    @property
    def tokens_in_max(self) -> int | None:
        """The most tokens of the prompt, media and all; None when the request does not tell."""
        bound = self.prompt
        if bound.tokens is None:
            return None
        return bound.tokens + bound.image_tokens + bound.audio_tokens + bound.video_tokens

    def worst_meters(self, *, tokens_in_default: int, tokens_out_default: int) -> dict[str, int]:
        """The most of each meter that the request may take; empty for a free one.

        Args:
            tokens_in_default: the most tokens of a prompt whose size the request does not tell.
            tokens_out_default: the most tokens of each answer when the request does not bound them.
        """
        if self.free:
            return {}
        bound = self.prompt
        tokens_in = tokens_in_default if bound.tokens is None else bound.tokens
        meters = {"tokens_in": tokens_in}
        if self.cache_meter is not None:
            meters[self.cache_meter] = tokens_in
        for kind, tokens in (
            ("image", bound.image_tokens),
            ("audio", bound.audio_tokens),
            ("video", bound.video_tokens),
        ):
            if tokens:
                meters[f"{kind}_tokens_in"] = tokens
        out = self.tokens_out_max
        out = tokens_out_default * self.answers if out is None else out
        if self.kind in MEDIA_KINDS:
            del meters["tokens_in"]
            meters |= worst_of_media(
                self.kind,
                self.model,
                answers=self.answers,
                text_tokens=tokens_in,
                characters=self.characters,
                file_bytes=self.file_bytes,
                tokens_out=out,
            )
        elif self.kind not in _WITHOUT_OUTPUT:
            meters["tokens_out"] = out
            for medium in self.media_out:
                meters[f"{medium}_tokens_out"] = IMAGE_TOKENS_OUT * self.answers if medium == "image" else out
        return {name: min(quantity, TOKENS_MAX) for name, quantity in meters.items()}


def asked_of(
    flavor: Flavor, path: str, query: str, body: bytes, *, method: str = "POST", content_type: str = ""
) -> Asked:
    """What a request asks for. It never raises.

    Args:
        flavor: the provider's.
        path: the path at the provider, without its query.
        query: what stands after the `?`.
        body: the whole body, as it was sent.
        method: the HTTP method.
        content_type: of the body; a form cannot be read without it.
    """
    route = route_of(flavor, method, path)
    asked = Asked(api=route.api, kind=route.kind, model=route.model, deferred=route.kind == "deferred")
    if route.free:
        return asked
    boundary = boundary_of(content_type)
    if boundary is not None:
        return _of_form(asked, read_form(body, boundary))
    try:
        request: Any = _decode(body)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        return msgspec.structs.replace(asked, fault=None if route.kind == "other" else "malformed_json")
    return _asked(asked, request, body, route.method, query)


def _asked(asked: Asked, request: dict[str, Any], body: bytes, method: str, query: str) -> Asked:
    model = asked.model or _text(request.get("model"))
    is_gemini = asked.api == "gemini"
    stream = method == "streamGenerateContent" if is_gemini else is_true(request.get("stream"))
    options = request.get("stream_options")
    config = _mapping(request.get("generationConfig") or request.get("generation_config"))
    answers = _answers(request, config)
    most = _stated_out(request, config)
    compact = _encode(request)
    spoken = request.get("input") if asked.kind == "speech" else None
    return Asked(
        api=asked.api,
        kind=asked.kind,
        model=model,
        stream=stream,
        events=not is_gemini or not stream or "alt=sse" in query.split("&"),
        deferred=asked.deferred or is_true(request.get("background")),
        prompt=prompt_bound(request, compact, model),
        tokens_out_max=None if most is None else min(most * answers, TOKENS_MAX),
        answers=answers,
        usage_asked=asked.kind not in ("chat", "completions") or is_true(_mapping(options).get("include_usage")),
        cache_meter=_cache_meter(body),
        media_out=_media_out(request, config),
        characters=len(spoken) if isinstance(spoken, str) else 0,
        fault="duplicate_key" if names_twice(body, compact) else None,
    )


def _of_form(asked: Asked, form: Form) -> Asked:
    """Of a form: its fields are few, and its files are pictures or sound."""
    fields, pictures = form.fields, len(form.file_bytes) if asked.kind == "images" else 0
    text = sum(len(value.encode(errors="replace")) for value in fields.values()) + MARKERS_TOKENS
    return Asked(
        api=asked.api,
        kind=asked.kind,
        model=_text(fields.get("model")),
        stream=is_true(fields.get("stream")),
        deferred=asked.deferred,
        prompt=PromptBound(text, IMAGE_TOKENS * pictures) if asked.kind in MEDIA_KINDS else PromptBound(None),
        answers=_answers(fields, {}),
        file_bytes=sum(form.file_bytes),
        fault="duplicate_key" if form.repeated & _SINGLE else None,
    )


def is_true(value: object) -> bool:
    """Whether a provider would take the value for true; some take words and numbers too."""
    return value is True or value == 1 or (isinstance(value, str) and value.lower() in ("true", "1", "yes", "on"))


def names_twice(body: bytes, compact: bytes = b"") -> bool:
    """Whether an object in a JSON request names a member twice.

    One reader takes the first and another the last: what we looked at would not be what the provider does.

    Args:
        body: as it was sent.
        compact: what it was read as, written as compact JSON: where the two are the same, nothing is there twice.
    """
    if body == compact or msgspec.json.format(body, indent=-1) == compact:
        return False
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({name for name, _ in pairs}) < len(pairs)

    try:
        json.loads(body, object_pairs_hook=look, parse_int=len, parse_float=len)
    except (ValueError, RecursionError):
        return False
    return found


# ── parts of a request ──────────────────────────────────────────────────────────────────────────────────────────────


def _answers(request: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """How many answers at most: asked for, generated to choose from, and for each of several prompts."""
    asked = [request.get("n"), request.get("best_of"), request.get("num_generations"), config.get("candidateCount")]
    asked.append(_mapping(request.get("parameters")).get("sampleCount"))
    answers = max([number for number in map(_count, asked) if number] or [1])
    prompts = request.get("prompt")
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
        answers *= len(prompts)
    return min(answers, ANSWERS_MAX)


def _stated_out(request: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    stated = [_count(request.get(key)) for key in _OUT_KEYS]
    stated += [_count(config.get("maxOutputTokens")), _count(config.get("max_output_tokens"))]
    numbers = [number for number in stated if number is not None]
    return max(numbers) if numbers else None


def _cache_meter(body: bytes) -> str | None:
    if b'"cache_control"' not in body:
        return None
    return "cache_write_1h_tokens" if b'"1h"' in body else "cache_write_5m_tokens"


def _media_out(request: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[Literal["image", "audio"], ...]:
    wanted = request.get("modalities") or config.get("responseModalities")
    words = [word.lower() for word in wanted if isinstance(word, str)] if isinstance(wanted, list) else []
    found: list[Literal["image", "audio"]] = []
    if "image" in words:
        found.append("image")
    if "audio" in words:
        found.append("audio")
    return tuple(found)


def _count(value: object) -> int | None:
    """A number of tokens or answers; None for what is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return min(value, TOKENS_MAX)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
