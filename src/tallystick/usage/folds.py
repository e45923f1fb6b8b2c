"""What each kind of stream says, event by event: one small fold for each family of APIs.

A fold collects what the answer would have stated had it not been streamed (`body`), whether its end was
seen, and how many bytes of text it generated. Usage in a stream is a running total: a later statement
replaces an earlier one and is never added to it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from tallystick.usage.reading import first

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_KEPT = ("id", "object", "model", "provider", "service_tier", "tool_usage")


class Fold:
    """The state of one stream; each family knows its own events.

    Attributes:
        body: the answer so far, in the shape of the same API without streaming.
        ended: the provider said that this is the end.
        finished: the model stopped, so that a statement of usage made from now on is complete.
        current: no text has come since usage was last stated.
        text_bytes: how much text the model generated, in UTF-8 bytes.
        thought_bytes: how much of it was thought, and not said.
    """

    def __init__(self) -> None:
        self.body: dict[str, Any] = {}
        self.ended = False
        self.finished = False
        self.current = False
        self.text_bytes = 0
        self.thought_bytes = 0

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event of the stream."""
        raise NotImplementedError

    def usage_of(self, tokens_in: int, tokens_out: int) -> dict[str, Any]:
        """What the body would state for these quantities, for an estimate."""
        raise NotImplementedError

    @property
    def stated(self) -> bool:
        """Whether any usage was stated."""
        return isinstance(self.body.get("usage"), Mapping)

    def settle(self, estimated_out: int) -> None:
        """Mend what the stream left behind when it broke off; most state running totals and need nothing."""

    def add_text(self, size: int, thought: int = 0) -> None:
        """So many bytes of text more, and how much of them was thought."""
        self.text_bytes += size
        self.thought_bytes += thought
        self.current = False

    def _text(self, *values: Any) -> None:
        for value in values:
            if isinstance(value, str) and value:
                self.add_text(len(value.encode(errors="replace")))

    def _thought(self, *values: Any) -> None:
        before = self.text_bytes
        self._text(*values)
        self.thought_bytes += self.text_bytes - before

    def _state(self, usage: Any) -> None:
        if isinstance(usage, Mapping):
            self.body["usage"] = usage
            self.current = True

    def _keep(self, event: Mapping[str, Any]) -> None:
        self.body.update({key: event[key] for key in _KEPT if event.get(key) is not None})


class ChatFold(Fold):
    """OpenAI's chat completions and everything in their shape; usage comes last, or with every chunk."""

    def take(self, event: Mapping[str, Any]) -> None:
        self._keep(event)
        for choice in _mappings(event.get("choices")):
            delta = choice.get("delta") or choice.get("message") or choice
            if isinstance(delta, Mapping):
                self._text(*_strings(delta.get("content")), delta.get("refusal"), delta.get("text"))
                self._thought(delta.get("reasoning") or delta.get("reasoning_content"))
                for call in _mappings(delta.get("tool_calls")):
                    self._text(first(call, "function.name"), first(call, "function.arguments"))
            self.finished = self.finished or choice.get("finish_reason") is not None
            self._state(choice.get("usage"))  # Moonshot
        if isinstance(event.get("x_groq"), Mapping):
            self.body["x_groq"] = {}
            self._state(event["x_groq"].get("usage"))
        self._state(event.get("usage"))

    def usage_of(self, tokens_in: int, tokens_out: int) -> dict[str, Any]:
        return {"usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}}


class ResponsesFold(Fold):
    """OpenAI's Responses API: the last event holds the whole answer."""

    _ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})

    def take(self, event: Mapping[str, Any]) -> None:
        kind = str(event.get("type"))
        if kind.endswith(".delta"):
            (self._thought if "reasoning" in kind else self._text)(event.get("delta"))
        if kind == "response.output_item.done" and isinstance(event.get("item"), Mapping):
            self._items([event["item"]])
        response = event.get("response")
        if isinstance(response, Mapping):
            self._keep(response)
            self._state(response.get("usage"))
            if kind in self._ENDS:
                self.ended = self.finished = True
                if response.get("output"):
                    self.body["output"] = []
                    self._items(_mappings(response["output"]))

    def usage_of(self, tokens_in: int, tokens_out: int) -> dict[str, Any]:
        details: dict[str, Any] = {"input_tokens_details": {"cached_tokens": 0}}
        return {"usage": {"input_tokens": tokens_in, "output_tokens": tokens_out, **details}}

    def _items(self, items: list[Mapping[str, Any]]) -> None:
        # Only what decides which calls are billed: an answer's text has no place in memory here.
        kept = [{"type": item.get("type"), "action": {"type": first(item, "action.type")}} for item in items]
        self.body.setdefault("output", []).extend(item for item in kept if str(item["type"]).endswith("_call"))


class MediaFold(Fold):
    """OpenAI's streams of sound, of what was heard, and of pictures: the last event states the usage."""

    BEGINNINGS = ("transcript.", "speech.audio.", "image_generation.", "image_edit.")
    _ENDS = frozenset(
        {"transcript.text.done", "speech.audio.done", "image_generation.completed", "image_edit.completed"}
    )

    def take(self, event: Mapping[str, Any]) -> None:
        kind = _kind(event)
        if kind == "transcript.text.delta":
            self._text(event.get("delta"))
        self._state(event.get("usage"))
        self.ended = self.finished = self.ended or kind in self._ENDS

    def usage_of(self, tokens_in: int, tokens_out: int) -> dict[str, Any]:
        return ResponsesFold().usage_of(tokens_in, tokens_out)


class MessagesFold(Fold):
    """Anthropic's Messages API: counts at the start, and running totals in every `message_delta`."""

    def take(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        if kind == "message_start" and isinstance(event.get("message"), Mapping):
            self._keep(event["message"])
            self.body["type"] = "message"
            if isinstance(event["message"].get("usage"), Mapping):
                self.body["usage"] = dict(event["message"]["usage"])
        elif kind == "content_block_delta":
            delta = event.get("delta")
            if isinstance(delta, Mapping):
                self._text(delta.get("text"), delta.get("partial_json"))
                self._thought(delta.get("thinking"))
        elif kind == "message_delta":
            self.finished = self.finished or first(event, "delta.stop_reason") is not None
            usage = event.get("usage")
            if isinstance(usage, Mapping):
                stated = {key: value for key, value in usage.items() if value is not None}
                self._state({**self.body.get("usage", {}), **stated})
        elif kind == "message_stop":
            self.ended = True

    def usage_of(self, tokens_in: int, tokens_out: int) -> dict[str, Any]:
        return {
            "type": "message",
            "usage": {"input_tokens": tokens_in, "cache_read_input_tokens": 0, "output_tokens": tokens_out},
        }

    def settle(self, estimated_out: int) -> None:
        # Output at the start is a token or two; the text that came since is the better count of the two.
        usage = self.body.get("usage")
        stated = usage.get("output_tokens") if isinstance(usage, dict) else None
        if isinstance(usage, dict) and not self.current and isinstance(stated, int):
            self.body["usage"] = {**usage, "output_tokens": max(stated, estimated_out)}


class GeminiFold(Fold):
    """Gemini: every chunk states the totals so far."""

    @property
    def stated(self) -> bool:
        return bool(self.body.get("usageMetadata"))

    def take(self, event: Mapping[str, Any]) -> None:
        if isinstance(event.get("modelVersion"), str):
            self.body["modelVersion"] = event["modelVersion"]
        for candidate in _mappings(event.get("candidates")):
            for part in _mappings(first(candidate, "content.parts")):
                (self._thought if part.get("thought") else self._text)(part.get("text"))
                if part.get("functionCall") is not None:
                    self._text(msgspec.json.encode(part["functionCall"], enc_hook=str).decode())
            self.finished = self.finished or candidate.get("finishReason") is not None
            queries = first(candidate, "groundingMetadata.webSearchQueries")
            if queries:
                self.body["candidates"] = [{"groundingMetadata": {"webSearchQueries": queries}}]
        if isinstance(event.get("usageMetadata"), Mapping):
            self.body["usageMetadata"] = {**self.body.get("usageMetadata", {}), **event["usageMetadata"]}
            self.current = True

    def settle(self, estimated_out: int) -> None:
        # The first chunks state the prompt alone, whatever text they carry.
        usage = self.body["usageMetadata"]
        if "candidatesTokenCount" not in usage:
            self.body["usageMetadata"] = {**usage, "candidatesTokenCount": estimated_out}

    def usage_of(self, tokens_in: int, tokens_out: int) -> dict[str, Any]:
        return {"usageMetadata": {"promptTokenCount": tokens_in, "candidatesTokenCount": tokens_out}}


class ConverseFold(Fold):
    """Bedrock's Converse: the last event, `metadata`, states the usage."""

    EVENTS = frozenset(
        {"messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"}
    )

    def take(self, event: Mapping[str, Any]) -> None:
        delta = first(event, "contentBlockDelta.delta")
        if isinstance(delta, Mapping):
            self._text(delta.get("text"), first(delta, "reasoningContent.text"), first(delta, "toolUse.input"))
        self.finished = self.finished or "messageStop" in event
        metadata = event.get("metadata")
        if isinstance(metadata, Mapping):
            self._state(metadata.get("usage"))
            if metadata.get("serviceTier") is not None:
                self.body["serviceTier"] = metadata["serviceTier"]

    def usage_of(self, tokens_in: int, tokens_out: int) -> dict[str, Any]:
        return {"usage": {"inputTokens": tokens_in, "outputTokens": tokens_out}}


class CohereFold(Fold):
    """Cohere's chat, both versions: the end event states the usage."""

    EVENTS = frozenset(
        {"message-start", "content-start", "content-delta", "content-end", "tool-plan-delta", "tool-call-start",
         "tool-call-delta", "tool-call-end", "citation-start", "citation-end", "message-end"}
    )  # fmt: skip

    @property
    def stated(self) -> bool:
        return super().stated or isinstance(self.body.get("meta"), Mapping)

    def take(self, event: Mapping[str, Any]) -> None:
        message = first(event, "delta.message")
        self._text(first(message, "content.text"), first(message, "tool_plan"))
        self._text(first(message, "tool_calls.function.arguments"))
        if event.get("event_type") == "text-generation":
            self._text(event.get("text"))
        if event.get("type") == "message-end":
            self._state(first(event, "delta.usage"))
            self.ended = self.finished = True
        if event.get("event_type") == "stream-end":
            self.body["meta"] = first(event, "response.meta")
            self.ended = self.finished = self.current = True

    def usage_of(self, tokens_in: int, tokens_out: int) -> dict[str, Any]:
        return {"usage": {"billed_units": {"input_tokens": tokens_in, "output_tokens": tokens_out}}}


class WholeFold(Fold):
    """An answer that was not streamed after all."""

    def take(self, event: Mapping[str, Any]) -> None:
        self.body = dict(event)
        self.ended = self.finished = self.current = True

    @property
    def stated(self) -> bool:
        return True


def fold_for(event: Mapping[str, Any]) -> Fold | None:
    """The fold of the family that an event belongs to; None for one that any stream may hold."""
    return next((family() for family, is_it in _FAMILIES if is_it(event)), None)


def _kind(event: Mapping[str, Any]) -> str:
    kind = event.get("type")
    return kind if isinstance(kind, str) else ""


def _is_whole(event: Mapping[str, Any]) -> bool:
    whole = _kind(event) == "message" or event.get("object") in ("response", "chat.completion")
    return whole and isinstance(event.get("usage"), Mapping)


_FAMILIES: tuple[tuple[type[Fold], Callable[[Mapping[str, Any]], bool]], ...] = (
    (WholeFold, _is_whole),
    (ResponsesFold, lambda event: _kind(event).startswith("response.")),
    (MediaFold, lambda event: _kind(event).startswith(MediaFold.BEGINNINGS)),
    (MessagesFold, lambda event: _kind(event).startswith(("message_", "content_block_"))),
    (CohereFold, lambda event: _kind(event) in CohereFold.EVENTS or "event_type" in event),
    (GeminiFold, lambda event: bool({"candidates", "usageMetadata"} & set(event))),
    (ConverseFold, lambda event: bool(ConverseFold.EVENTS & set(event))),
    (ChatFold, lambda event: bool({"choices", "usage", "x_groq"} & set(event))),
)
"""Which events begin which family, in the order in which they are asked."""


def unwrap(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The event inside of Bedrock's InvokeModelWithResponseStream, whose chunks are JSON in base64."""
    inner = first(event, "chunk.bytes")
    if not isinstance(inner, str):
        return event
    try:
        value = _DECODER.decode(base64.b64decode(inner, validate=True))
    except (ValueError, RecursionError, InvalidOperation):
        return event
    return value if isinstance(value, Mapping) else event


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _strings(value: Any) -> list[str]:
    """Text of a content that is a string, or a list of parts that hold text (Mistral's thinking does)."""
    if isinstance(value, str):
        return [value]
    parts = value if isinstance(value, list) else []
    inner = [part.get("text") or part.get("thinking") for part in parts if isinstance(part, Mapping)]
    return [text for item in inner for text in _strings(item)]
