"""Answers of providers as the instrumented clients get them, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

from fake_upstream import Reply

MESSAGES: Any = [{"role": "user", "content": "Say this is a test"}]
CHAT = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "This is a test."}}],
    "usage": {
        "prompt_tokens": 1000, "completion_tokens": 300, "total_tokens": 1300,
        "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 100},
    },
}  # fmt: skip
CHAT_METERS = {"tokens_in": 600, "cache_read_tokens": 400, "tokens_out": 200, "reasoning_tokens": 100}
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-6",
    "content": [{"type": "text", "text": "This is a test."}], "stop_reason": "end_turn", "stop_sequence": None,
    "usage": {"input_tokens": 50, "cache_read_input_tokens": 2000, "output_tokens": 9},
}  # fmt: skip
MESSAGE_METERS = {"tokens_in": 50, "cache_read_tokens": 2000, "tokens_out": 9}


def chunk(**more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini",
        "choices": [], **more,
    }  # fmt: skip


def delta(text: str, finish: str | None = None) -> dict[str, Any]:
    return chunk(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


def sse(*events: Any, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join([*lines, "data: [DONE]\n\n"] if done else lines).encode()


def named(*events: dict[str, Any]) -> bytes:
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


CHAT_STREAM = sse(delta("This is "), delta("a test.", "stop"), chunk(usage=CHAT["usage"]))
MESSAGE_STREAM = named(
    {"type": "message_start", "message": {**MESSAGE, "content": [], "usage": {**MESSAGE["usage"], "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "This is a test."}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 9},
    },
    {"type": "message_stop"},
)


def answer(body: Any) -> Reply:
    """The whole answer of a provider."""
    return Reply(body=json.dumps(body).encode())
