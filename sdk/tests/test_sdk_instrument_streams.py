"""Streams of the instrumented clients: the caller gets what it would have got, and what was used is recorded."""

from __future__ import annotations

from typing import Any

import pytest

from fake_upstream import FakeUpstream, Reply, stream
from provider_answers import CHAT_METERS, CHAT_STREAM, MESSAGE_STREAM, MESSAGES, delta, named, sse

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")


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


def test_a_packed_answer_is_read(client: Any, upstream: FakeUpstream, recorded: Any) -> None:
    upstream.reply = stream(CHAT_STREAM, packed="gzip", headers={"content-encoding": "gzip"})
    assert len(list(client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True))) == 2
    assert recorded()[0]["meters"] == CHAT_METERS
