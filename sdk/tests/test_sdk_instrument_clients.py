"""Which clients are recorded, and for whom: the official ones, those made from them, and others in their shape."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from fake_upstream import FakeUpstream, Reply, stream
from provider_answers import (
    CHAT,
    CHAT_METERS,
    CHAT_STREAM,
    MESSAGE,
    MESSAGE_METERS,
    MESSAGE_STREAM,
    MESSAGES,
    answer,
    chunk,
    delta,
    sse,
)
from tallystick_sdk import BadRequest, Tally

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")


def test_claude_is_recorded_whole_streamed_and_with_the_helper(
    claude: Any, upstream: FakeUpstream, recorded: Any
) -> None:
    upstream.reply = answer(MESSAGE)
    claude.messages.create(model="claude-opus-4-6", max_tokens=10, messages=MESSAGES)
    upstream.reply = stream(MESSAGE_STREAM)
    list(claude.messages.create(model="claude-opus-4-6", max_tokens=10, messages=MESSAGES, stream=True))
    with claude.messages.stream(model="claude-opus-4-6", max_tokens=10, messages=MESSAGES) as helper:
        assert "".join(helper.text_stream) == "This is a test."
        assert helper.get_final_message().usage.output_tokens == 9
    events = recorded()
    assert [event["meters"] for event in events] == [MESSAGE_METERS] * 3
    assert {(event["provider"], event["usage_status"]) for event in events} == {("anthropic", "final")}


def test_the_async_clients(upstream: FakeUpstream, tally: Tally, recorded: Any) -> None:
    async def run() -> None:
        client = tally.instrument(openai.AsyncOpenAI(api_key="sk-1", base_url=upstream.url + "/v1", max_retries=0))
        claude = tally.instrument(anthropic.AsyncAnthropic(api_key="sk-2", base_url=upstream.url, max_retries=0))
        upstream.reply = answer(CHAT)
        await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        upstream.reply = stream(CHAT_STREAM, cuts=(7, 300))
        chunks = await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
        assert [one.choices[0].delta.content async for one in chunks] == ["This is ", "a test."]
        upstream.reply = stream(MESSAGE_STREAM)
        async with claude.messages.stream(model="claude-opus-4-6", max_tokens=10, messages=MESSAGES) as helper:
            assert await helper.get_final_text() == "This is a test."
        upstream.reply = stream(sse(*[delta("eight ch") for _ in range(50)]), piece_seconds=0.05, cuts=(300, 900, 2000))
        chunks = await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
        await anext(chunks)
        await chunks.close()
        upstream.reply = Reply(first_seconds=5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES), 0.2)

    asyncio.run(run())
    events = recorded()
    assert [event["meters"] for event in events[:3]] == [CHAT_METERS, CHAT_METERS, MESSAGE_METERS]
    assert [(event["usage_status"], event["outcome"]) for event in events[3:]] == [
        ("estimated", "success"), ("estimated", "failure"),
    ]  # fmt: skip


def test_tags_of_one_call_stand_in_its_headers_and_do_not_reach_the_provider(
    client: Any, upstream: FakeUpstream, recorded: Any
) -> None:
    upstream.reply = answer(CHAT)
    tags = {"x-tally-user": "u-9", "x-tally-feature": "search", "x-tally-request-id": "mine-1", "x-other": "1"}
    tags["X-Tally-Attribute-job"] = "j-1"
    client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, extra_headers=tags)
    (event,) = recorded()
    assert (event["user_id"], event["feature"], event["request_id"]) == ("u-9", "search", "mine-1")
    assert event["attributes"]["job"] == "j-1"
    sent = {name.lower() for name, _ in upstream.requests[0].headers}
    assert "x-other" in sent
    assert not [name for name in sent if name.startswith("x-tally")]


def test_clients_made_from_it_are_recorded_and_it_is_instrumented_once(
    client: Any, tally: Tally, upstream: FakeUpstream, recorded: Any
) -> None:
    upstream.reply = answer(CHAT)
    assert tally.instrument(client) is client
    client.with_options(timeout=5).copy(max_retries=1).chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    assert len(recorded()) == 1


def test_a_client_of_the_gateway_is_not_recorded_twice(tally: Tally, org: Any) -> None:
    with pytest.raises(BadRequest, match="through_gateway"):
        tally.instrument(openai.OpenAI(api_key="tk_1", base_url=org.url + "/openai/v1"))


def test_another_provider_is_known_by_its_address_and_states_its_own_cost(
    tally: Tally, upstream: FakeUpstream, recorded: Any
) -> None:
    client = openai.OpenAI(api_key="sk-1", base_url="https://openrouter.ai/api/v1", max_retries=0)
    tally.instrument(client)
    client.base_url = upstream.url
    upstream.reply = answer(
        {
            **CHAT,
            "model": "openai/gpt-4o-mini",
            "usage": {"prompt_tokens": 10, "completion_tokens": 2, "cost": 0.0076509169},
        }
    )
    client.chat.completions.create(model="openai/gpt-4o-mini", messages=MESSAGES)
    (event,) = recorded()
    assert (event["provider"], event["cost_usd"]) == ("openrouter", "0.0076509169")


def test_recording_that_fails_does_not_break_the_call(
    client: Any, upstream: FakeUpstream, tally: Tally, monkeypatch: Any
) -> None:
    upstream.reply = answer(CHAT)
    monkeypatch.setattr("tallystick_sdk.recorder.used_by", lambda *_: 1 / 0)
    assert client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES).id == "chatcmpl-1"
    tally.default_tags.pop("user_id")
    monkeypatch.undo()
    assert client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES).id == "chatcmpl-1"
    assert tally.stats().refused == 1


def test_a_client_in_their_shape_is_recorded_by_its_methods(tally: Tally, recorded: Any) -> None:
    class Completions:
        def create(self, **given: Any) -> Any:
            if given.get("stream"):
                return iter([SimpleNamespace(**delta("This is ")), SimpleNamespace(**chunk(usage=CHAT["usage"]))])
            return SimpleNamespace(**CHAT)

    class Models:
        async def generate_content(self, **given: Any) -> Any:
            usage = SimpleNamespace(prompt_token_count=20, candidates_token_count=5, thoughts_token_count=3)
            return SimpleNamespace(model_version="gemini-2.5-flash", usage_metadata=usage)

    shaped = SimpleNamespace(chat=SimpleNamespace(completions=Completions()))
    tally.instrument(shaped, provider="openai")
    shaped.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    assert len(list(shaped.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True))) == 2
    gemini = tally.instrument(SimpleNamespace(aio=SimpleNamespace(models=Models())), provider="gemini")
    asyncio.run(gemini.aio.models.generate_content(model="gemini-2.5-flash", contents="x"))
    events = recorded()
    assert [event["meters"] for event in events] == [
        CHAT_METERS, CHAT_METERS, {"tokens_in": 20, "tokens_out": 5, "reasoning_tokens": 3},
    ]  # fmt: skip
    assert events[2]["provider"] == "google"
    with pytest.raises(TypeError, match="no client"):
        tally.instrument(object())
