"""The usage of a streamed answer, folded as its events pass by: decoded JSON, or objects of a client library.

Usage in a stream is a running total: a later statement replaces an earlier one. `final`: the provider stated it at the
end. `partial`: the stream broke off after some usage was stated. `estimated`: none was stated; output is the bytes of
the generated text divided by four, rounded up, and the prompt likewise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from tallystick_sdk.usage.answers import Part, Used, refusal_in, searches_listed, used_by
from tallystick_sdk.usage.estimates import estimated, prompt_bytes, tokens_in_bytes
from tallystick_sdk.usage.reading import UsageUnreadable, at, items_of, part, text, word
from tallystick_sdk.usage.sse import DONE

_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_KEPT: Final = ("model", "service_tier", "tool_usage", "modelVersion")
_MESSAGES_USAGE: Final = (
    "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation",
    "server_tool_use", "output_tokens_details", "service_tier", "speed", "inference_geo", "iterations",
)  # fmt: skip


class StreamFold:
    """The state of one stream. Not safe to share between threads; texts are counted and not kept."""

    def __init__(self, provider: str | None, request: Mapping[str, Any]) -> None:
        """Begin: `provider` answers the decoded body `request`."""
        self._provider = provider
        self._request = request
        self._body: dict[str, Any] = {}
        self._family = ""
        self._texts = 0
        self._is_stated = self._is_ended = self._is_finished = self._is_current = False
        self.refusal: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the provider has said that this is the end."""
        return self._is_ended

    def take(self, event: Any) -> None:
        """Take the next event."""
        if event is DONE:
            self._is_ended = True
            return
        if event is None or isinstance(event, (str, int, float, list)):
            return
        kind = text(part(event, "type")) or ""
        refusal = refusal_in(event) or refusal_in(part(event, "response"))
        if refusal or kind == "error":
            self.refusal = refusal or text(part(event, "message")) or "the provider broke off"
        if kind.startswith("response."):
            self._responses(kind, event)
        elif kind.startswith(("message_", "content_block_")):
            self._messages(kind, event)
        elif part(event, "candidates") is not None or part(event, "usageMetadata") is not None:
            self._gemini(event)
        elif part(event, "choices") is not None or part(event, "usage") is not None:
            self._chat(event)

    def finish(self) -> Used:
        """What the stream used, now that no more comes.

        Raises:
            UsageUnreadable: when what was stated cannot be.
        """
        out = tokens_in_bytes(self._texts)
        if not self._is_stated:
            if self.refusal and not self._texts:
                raise UsageUnreadable("provider_error", self.refusal)
            return self._estimate(out)
        if self._is_ended or (self._is_finished and self._is_current):
            return used_by(self._body, self._provider)
        self._mend(out)
        return used_by(self._body, self._provider, "partial")

    def _estimate(self, out: int) -> Used:
        model = text(self._body.get("model")) or text(self._body.get("modelVersion"))
        model = model or text(self._request.get("model"))
        used = estimated(model, prompt_bytes(self._request), out)
        searches = searches_listed(self._provider, model, self._body)
        return replace(used, parts=(Part(meters={**used.parts[0].meters, **searches}),)) if searches else used

    def _mend(self, out: int) -> None:
        """What is stated before the end leaves out what was generated since."""
        usage = self._body.get("usage")
        if self._family == "messages" and isinstance(usage, dict) and not self._is_current:
            stated = usage.get("output_tokens")
            if isinstance(stated, int):
                usage["output_tokens"] = max(stated, out)
        metadata = self._body.get("usageMetadata")
        if self._family == "gemini" and isinstance(metadata, dict):
            metadata.setdefault("candidatesTokenCount", out)

    # ── one for each family of APIs ─────────────────────────────────────────────────────────────────────────────────

    def _chat(self, event: Any) -> None:
        self._family = "chat"
        self._keep(event)
        for choice in items_of(part(event, "choices")):
            delta = part(choice, "delta") or part(choice, "message") or choice
            self._text(part(delta, "content"), part(delta, "refusal"), part(delta, "text"))
            self._text(part(delta, "reasoning") or part(delta, "reasoning_content"))
            for call in items_of(part(delta, "tool_calls")):
                self._text(at(call, "function.name"), at(call, "function.arguments"))
            self._is_finished = self._is_finished or part(choice, "finish_reason") is not None
            self._state(part(choice, "usage"))  # Moonshot
        self._state(at(event, "x_groq.usage"))
        self._state(part(event, "usage"))

    def _responses(self, kind: str, event: Any) -> None:
        self._family = "responses"
        if kind.endswith(".delta"):
            self._text(part(event, "delta"))
        if kind == "response.output_item.done" and part(event, "item") is not None:
            self._items((part(event, "item"),))
        response = part(event, "response")
        if response is not None:
            self._keep(response)
            self._state(part(response, "usage"))
            if kind in _ENDS:
                self._is_ended = self._is_finished = True
                if part(response, "output"):
                    self._body["output"] = []
                    self._items(items_of(part(response, "output")))

    def _messages(self, kind: str, event: Any) -> None:
        self._family = "messages"
        message = part(event, "message")
        if kind == "message_start" and message is not None:
            self._keep(message)
            self._body["type"] = "message"
            self._message_usage(part(message, "usage"))
            self._is_stated = part(message, "usage") is not None
            self._is_current = False
        elif kind == "content_block_delta":
            delta = part(event, "delta")
            self._text(part(delta, "text"), part(delta, "thinking"), part(delta, "partial_json"))
        elif kind == "message_delta":
            self._is_finished = self._is_finished or at(event, "delta.stop_reason") is not None
            if part(event, "usage") is not None:
                self._message_usage(part(event, "usage"))
                self._is_stated = self._is_current = True
        elif kind == "message_stop":
            self._is_ended = True

    def _message_usage(self, usage: Any) -> None:
        stated = {name: part(usage, name) for name in _MESSAGES_USAGE}
        known: dict[str, Any] = self._body.setdefault("usage", {})
        known.update({name: value for name, value in stated.items() if value is not None})

    def _gemini(self, event: Any) -> None:
        self._family = "gemini"
        self._keep(event)
        for candidate in items_of(part(event, "candidates")):
            for piece in items_of(at(candidate, "content.parts")):
                self._text(part(piece, "text"))
                if isinstance(part(piece, "functionCall"), Mapping):
                    self._text(json.dumps(part(piece, "functionCall"), default=str, separators=(",", ":")))
            self._is_finished = self._is_finished or part(candidate, "finishReason") is not None
            queries = items_of(at(candidate, "groundingMetadata.webSearchQueries"))
            if queries:
                self._body["candidates"] = [{"groundingMetadata": {"webSearchQueries": list(queries)}}]
        usage = part(event, "usageMetadata")
        if usage is not None:
            known: dict[str, Any] = self._body.setdefault("usageMetadata", {})
            known.update({name: value for name, value in _members(usage).items() if value is not None})
            self._is_stated = self._is_current = True

    # ── what they share ─────────────────────────────────────────────────────────────────────────────────────────────

    def _keep(self, value: Any) -> None:
        self._body.update({name: part(value, name) for name in _KEPT if part(value, name) is not None})

    def _state(self, usage: Any) -> None:
        if usage is not None:
            self._body["usage"] = usage
            self._is_stated = self._is_current = True

    def _items(self, items: Any) -> None:
        kept = [{"type": word(part(item, "type")), "action": {"type": word(at(item, "action.type"))}} for item in items]
        self._body.setdefault("output", []).extend(item for item in kept if item["type"] in _BILLED)

    def _text(self, *values: Any) -> None:
        for value in values:
            if isinstance(value, str) and value:
                self._texts += len(value.encode(errors="replace"))
                self._is_current = False
            elif isinstance(value, (list, tuple)):
                self._text(*(part(item, "text") or part(item, "thinking") for item in value))


_BILLED: Final = ("web_search_call", "file_search_call")


def _members(value: Any) -> dict[str, Any]:
    """An object's members by their names in JSON."""
    if isinstance(value, Mapping):
        return dict(value)
    names = (
        "promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount",
        "cachedContentTokenCount", "totalTokenCount", "cacheTokensDetails", "promptTokensDetails",
        "candidatesTokensDetails", "toolUsePromptTokensDetails", "serviceTier", "trafficType",
    )  # fmt: skip
    return {name: part(value, name) for name in names}
