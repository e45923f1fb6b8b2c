"""Whole answers of the instrumented clients: what the caller gets is what it was, and what it used is recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fake_upstream import FakeUpstream, Reply, stream
from provider_answers import CHAT, CHAT_METERS, CHAT_STREAM, MESSAGES, answer, named
from tallystick_sdk import Tally

openai = pytest.importorskip("openai")


def test_a_chat_is_recorded_with_its_tags_and_priced(
    client: Any, upstream: FakeUpstream, tally: Tally, recorded: Any
) -> None:
    upstream.reply = answer(CHAT)
    with tally.tags(user_id="u-7"):
        said = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    assert said.choices[0].message.content == "This is a test."
    (event,) = recorded()
    assert (event["provider"], event["model"], event["meters"]) == ("openai", "gpt-4o-mini-2024-07-18", CHAT_METERS)
    assert (event["user_id"], event["attributes"]) == ("u-7", {"provider_request_id": "chatcmpl-1"})
    assert event["latency_ms"] >= 0
    assert event["cost_status"] == "final"


def test_raw_and_streamed_responses_are_read_along(client: Any, upstream: FakeUpstream, recorded: Any) -> None:
    upstream.reply = answer(CHAT)
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=MESSAGES)
    assert raw.parse().usage.total_tokens == 1300
    with client.chat.completions.with_streaming_response.create(model="gpt-4o-mini", messages=MESSAGES) as response:
        assert json.loads(response.read()) == CHAT
    with client.chat.completions.with_streaming_response.create(model="gpt-4o-mini", messages=MESSAGES) as response:
        assert response.parse().usage.total_tokens == 1300
    upstream.reply = stream(CHAT_STREAM)
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
    assert len(list(raw.parse())) == 2
    assert [event["meters"] for event in recorded()] == [CHAT_METERS] * 4


def test_the_responses_api_and_embeddings(client: Any, upstream: FakeUpstream, recorded: Any) -> None:
    response = {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-4o-mini", "status": "completed",
        "output": [
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}}
        ],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "usage": {"input_tokens": 90, "output_tokens": 20, "total_tokens": 110,
                  "input_tokens_details": {"cached_tokens": 40},
                  "output_tokens_details": {"reasoning_tokens": 5}},
    }  # fmt: skip
    meters = {"tokens_in": 50, "cache_read_tokens": 40, "tokens_out": 15, "reasoning_tokens": 5, "web_searches": 1}
    upstream.reply = answer(response)
    client.responses.create(model="gpt-4o-mini", input="Say this is a test")
    upstream.reply = stream(named({"type": "response.completed", "sequence_number": 1, "response": response}))
    assert len(list(client.responses.create(model="gpt-4o-mini", input="Say this is a test", stream=True))) == 1
    upstream.reply = answer(
        {
            "object": "list",
            "model": "text-embedding-3-small",
            "data": [],
            "usage": {"prompt_tokens": 8, "total_tokens": 8},
        }
    )
    client.embeddings.create(model="text-embedding-3-small", input="x", encoding_format="float")
    assert [event["meters"] for event in recorded()] == [meters, meters, {"tokens_in": 8}]


def test_a_response_in_the_background_is_recorded_when_it_is_done_and_once(
    client: Any, upstream: FakeUpstream, recorded: Any
) -> None:
    begun = {"id": "resp_9", "object": "response", "created_at": 1, "model": "gpt-4o-mini", "status": "queued",
             "output": [],
             "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}  # fmt: skip
    upstream.reply = answer(begun)
    client.responses.create(model="gpt-4o-mini", input="x", background=True)
    client.responses.retrieve("resp_9")
    upstream.reply = answer(
        {**begun, "status": "completed", "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}}
    )
    client.responses.retrieve("resp_9")
    client.responses.retrieve("resp_9")
    assert [event["meters"] for event in recorded()] == [{"tokens_in": 3, "tokens_out": 2}]


def test_helpers_sound_and_pictures(client: Any, upstream: FakeUpstream, recorded: Any) -> None:
    upstream.reply = stream(CHAT_STREAM)
    with client.chat.completions.stream(model="gpt-4o-mini", messages=MESSAGES) as helper:
        assert [event.type for event in helper][-1] == "content.done"
    upstream.reply = answer(
        {**CHAT, "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "{}"}}]}
    )
    client.chat.completions.parse(model="gpt-4o-mini", messages=MESSAGES)
    upstream.reply = Reply(body=bytes(100), content_type="audio/mpeg")
    assert len(client.audio.speech.create(model="tts-1", voice="alloy", input="nine char").read()) == 100
    with client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input="nine char") as sound:
        assert len(sound.read()) == 100
    upstream.reply = answer({"created": 1, "data": [{"url": "x"}, {"url": "y"}]})
    client.images.generate(model="dall-e-3", prompt="x", n=2)
    upstream.reply = answer({"text": "hi", "usage": {"type": "duration", "seconds": 9}})
    client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"xx"))
    assert [event["meters"] for event in recorded()] == [
        CHAT_METERS, CHAT_METERS, {"characters_in": 9}, {"characters_in": 9}, {"images_generated": 2},
        {"audio_ms": 9000},
    ]  # fmt: skip


def test_what_is_not_billed_is_not_recorded(client: Any, claude: Any, upstream: FakeUpstream, recorded: Any) -> None:
    upstream.reply = answer({"object": "list", "data": []})
    list(client.models.list())
    upstream.reply = answer({"input_tokens": 12})
    claude.messages.count_tokens(model="claude-opus-4-6", messages=MESSAGES)
    assert recorded() == []


def test_a_refusal_is_raised_as_ever_and_recorded_as_a_failure_that_quotes_nothing(
    client: Any, upstream: FakeUpstream, recorded: Any
) -> None:
    upstream.reply = Reply(
        status=429, body=b'{"error": {"message": "quota of sk-1 for Say this is a test", "type": "x"}}'
    )
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    (event,) = recorded()
    assert (event["outcome"], event["meters"]) == ("failure", {})
    assert event["attributes"] == {"error": "RateLimitError (429)"}


def test_an_answer_without_usage_is_estimated_and_marked(client: Any, upstream: FakeUpstream, recorded: Any) -> None:
    upstream.reply = answer({name: value for name, value in CHAT.items() if name != "usage"})
    client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    (event,) = recorded()
    assert (event["usage_status"], event["meters"]) == ("estimated", {"tokens_in": 6, "tokens_out": 4})
