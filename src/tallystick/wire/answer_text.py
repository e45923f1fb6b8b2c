"""What an answer says, as far as metering depends on it: how much text there is, and whether there is any at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tallystick.usage.folds import ChatFold, Fold, GeminiFold, MessagesFold, ResponsesFold
from tallystick.wire.routes import Kind

_ANSWER_KEYS: Final = ("choices", "output", "content", "candidates", "completion")
_NOT_TEXT: Final = frozenset(
    {"id", "type", "role", "status", "object", "finish_reason", "finishReason", "stop_reason", "data", "b64_json",
     "result", "signature", "thoughtSignature", "encrypted_content", "call_id", "logprobs", "index", "mimeType"}
)  # fmt: skip
_FOLDS: Final[Mapping[str, type[Fold]]] = {
    "responses": ResponsesFold, "messages": MessagesFold, "generate": GeminiFold
}  # fmt: skip


def usage_shape(kind: Kind, tokens_in: int, tokens_out: int) -> dict[str, Any]:
    """What an answer of that endpoint would state for these quantities, for an estimate."""
    return _FOLDS.get(kind, ChatFold)().usage_of(tokens_in, tokens_out)


def text_bytes_of(answer: Mapping[str, Any]) -> int:
    """UTF-8 bytes of what the model generated, names and arguments of tools among it."""
    pending: list[Any] = [answer[key] for key in _ANSWER_KEYS if key in answer]
    size = 0
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            size += len(value.encode(errors="replace"))
        elif isinstance(value, Mapping):
            pending.extend(item for key, item in value.items() if key not in _NOT_TEXT)
        elif isinstance(value, list):
            pending.extend(value)
    return size


def is_empty_answer(kind: Kind, answer: Mapping[str, Any]) -> bool:
    """Whether the model said nothing: no text, no call of a tool, no picture. What it only thought is nothing said.

    An answer that does not have the members of its kind is not taken for empty.
    """
    match kind:
        case "chat" | "completions":
            choices = answer.get("choices")
            return isinstance(choices, list) and not any(_choice_says(choice) for choice in choices)
        case "messages":
            content = answer.get("content")
            return isinstance(content, list) and not any(_block_says(block) for block in content)
        case "responses":
            output = answer.get("output")
            return isinstance(output, list) and not any(_item_says(item) for item in output)
        case "generate":
            candidates = answer.get("candidates")
            if candidates is None:
                return "promptFeedback" in answer
            return isinstance(candidates, list) and not any(_candidate_says(each) for each in candidates)
        case _:
            return False


def _choice_says(choice: Any) -> bool:
    if not isinstance(choice, Mapping):
        return True
    if choice.get("text"):
        return True
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return message is not None or "text" not in choice
    said = ("content", "refusal", "tool_calls", "function_call", "audio", "images", "annotations")
    return any(message.get(name) for name in said)


def _block_says(block: Any) -> bool:
    if not isinstance(block, Mapping) or block.get("type") in ("thinking", "redacted_thinking"):
        return not isinstance(block, Mapping)
    return bool(block.get("text")) if block.get("type") == "text" else True


def _item_says(item: Any) -> bool:
    if not isinstance(item, Mapping) or item.get("type") != "message":
        return not isinstance(item, Mapping) or item.get("type") != "reasoning"
    return any(part.get("text") or part.get("refusal") for part in _mappings(item.get("content")))


def _candidate_says(candidate: Any) -> bool:
    content = candidate.get("content") if isinstance(candidate, Mapping) else None
    parts = content.get("parts") if isinstance(content, Mapping) else None
    return any(_part_says(part) for part in _mappings(parts))


def _part_says(part: Mapping[str, Any]) -> bool:
    if part.get("thought"):
        return False
    return bool(part.get("text")) if "text" in part else bool(set(part) - {"thoughtSignature"})


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    return (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else iter(())
