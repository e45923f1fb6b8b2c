"""The official clients, instrumented: what they give their caller is what it was, and what they used is recorded."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fake_upstream import FakeUpstream, Reply, stream
from tallystick_sdk import BadRequest, Tally

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")

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


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as running:
        yield running


@pytest.fixture
def client(upstream: FakeUpstream, tally: Tally) -> Any:
    return tally.instrument(openai.OpenAI(api_key="sk-1", base_url=upstream.url + "/v1", max_retries=0))


@pytest.fixture
def claude(upstream: FakeUpstream, tally: Tally) -> Any:
    return tally.instrument(anthropic.Anthropic(api_key="sk-2", base_url=upstream.url, max_retries=0))


@pytest.fixture
def recorded(tally: Tally, org: Any) -> Callable[[], list[dict[str, Any]]]:
    """What the ledger holds once all is sent."""

    def read() -> list[dict[str, Any]]:
        gc.collect()
        assert tally.flush(), tally.stats()
        assert tally.stats().refused == tally.stats().dropped == 0
        found: list[dict[str, Any]] = org.ledger()
        return found

    return read


def answer(body: Any) -> Reply:
    return Reply(body=json.dumps(body).encode())


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


def test_a_stream_gives_its_chunks_and_its_usage_is_asked_for_and_hidden(
    client: Any, upstream: FakeUpstream, recorded: Any
) -> None:
    upstream.reply = stream(CHAT_STREAM, cuts=(10, 11, 200, -30, -3))
    chunks = list(client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True))
    assert [one.choices[0].delta.content for one in chunks] == ["This is ", "a test."]
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True}
    (event,) = recorded()
    assert (event["meters"], event["usage_status"]) == (CHAT_METERS, "final")


def test_a_provider_that_does_not_know_how_to_state_usage_in_streams_is_not_asked_again(
    client: Any, upstream: FakeUpstream, recorded: Any
) -> None:
    upstream.reply = Reply(status=400, body=b'{"error": {"message": "Unknown parameter: stream_options", "type": "x"}}')
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
    assert ["stream_options" in asked.json for asked in upstream.requests] == [True, False]
    upstream.reply = stream(sse(delta("This is "), delta("a test.", "stop")))
    assert len(list(client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True))) == 2
    assert "stream_options" not in upstream.requests[-1].json
    assert [event["usage_status"] for event in recorded()] == ["final", "estimated"]


def test_who_asks_for_the_usage_gets_it(client: Any, upstream: FakeUpstream, recorded: Any) -> None:
    upstream.reply = stream(CHAT_STREAM)
    chunks = list(
        client.chat.completions.create(
            model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].usage.prompt_tokens == 1000
    assert recorded()[0]["meters"] == CHAT_METERS


@pytest.mark.parametrize("leave", ["close", "drop", "with"])
def test_who_leaves_a_stream_has_been_served_and_an_estimate_says_how_much(
    client: Any, upstream: FakeUpstream, recorded: Any, leave: str
) -> None:
    upstream.reply = stream(
        sse(*[delta("eight ch") for _ in range(50)]), piece_seconds=0.01, cuts=tuple(range(500, 6000, 500))
    )
    chunks = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
    if leave == "with":
        with chunks:
            next(iter(chunks))
    else:
        next(chunks)
    if leave == "close":
        chunks.close()
    del chunks
    (event,) = recorded()
    assert (event["usage_status"], event["outcome"], event["model"]) == ("estimated", "success", "gpt-4o-mini")
    assert event["meters"]["tokens_out"] >= 2
    assert event["meters"]["tokens_in"] == 6  # "user" and the question, four bytes a token


def test_a_stream_that_is_never_read_is_recorded_too(client: Any, upstream: FakeUpstream, recorded: Any) -> None:
    upstream.reply = stream(CHAT_STREAM)
    client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
    assert recorded()[0]["usage_status"] == "estimated"


def test_a_stream_that_breaks_off_with_an_error_is_partial_and_a_failure(
    claude: Any, upstream: FakeUpstream, recorded: Any
) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    upstream.reply = stream(MESSAGE_STREAM.split(b"event: content_block_stop")[0] + named(error))
    with pytest.raises(anthropic.APIStatusError):
        list(claude.messages.create(model="claude-opus-4-6", max_tokens=10, messages=MESSAGES, stream=True))
    (event,) = recorded()
    assert (event["usage_status"], event["outcome"]) == ("partial", "failure")
    assert event["meters"] == {"tokens_in": 50, "cache_read_tokens": 2000, "tokens_out": 4}


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


def test_a_packed_answer_is_read(client: Any, upstream: FakeUpstream, recorded: Any) -> None:
    upstream.reply = stream(CHAT_STREAM, packed="gzip", headers={"content-encoding": "gzip"})
    assert len(list(client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True))) == 2
    assert recorded()[0]["meters"] == CHAT_METERS


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


def test_an_answer_without_usage_is_estimated_and_marked(client: Any, upstream: FakeUpstream, recorded: Any) -> None:
    upstream.reply = answer({name: value for name, value in CHAT.items() if name != "usage"})
    client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    (event,) = recorded()
    assert (event["usage_status"], event["meters"]) == ("estimated", {"tokens_in": 6, "tokens_out": 4})


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
