"""Anthropic's client of Bedrock, whose streams are framed in Amazon's own way and not as server-sent events."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any
from zlib import crc32

import pytest

from fake_upstream import FakeUpstream, Reply
from provider_answers import MESSAGE, MESSAGE_METERS, MESSAGE_STREAM, MESSAGES, answer
from tallystick_sdk import Tally

anthropic = pytest.importorskip("anthropic")

MODEL = "anthropic.claude-opus-4-6-v1"
EVENTS = [json.loads(line[6:]) for line in MESSAGE_STREAM.decode().splitlines() if line.startswith("data: ")]


def framed(*events: dict[str, Any]) -> bytes:
    """Events as Bedrock sends them: each in a message of application/vnd.amazon.eventstream."""
    return b"".join(map(_frame, events))


def _frame(event: dict[str, Any]) -> bytes:
    payload = json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abcd"}).encode()
    texts = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(text)) + text.encode()
        for name, text in texts.items()
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return message + struct.pack(">I", crc32(message))


class Decoder:
    """Takes the messages apart, as `botocore` does for the client; the rest of the client is as it is delivered."""

    def __init__(self) -> None:
        self._held = b""

    def _events(self, data: bytes) -> Iterator[Any]:
        from anthropic.lib.bedrock._stream_decoder import _chunk_bytes_to_sse

        self._held += data
        while len(self._held) >= 12:
            whole, headers = struct.unpack(">II", self._held[:8])
            if len(self._held) < whole:
                return
            message, self._held = self._held[:whole], self._held[whole:]
            assert crc32(message[:-4]) == struct.unpack(">I", message[-4:])[0]
            yield _chunk_bytes_to_sse(base64.b64decode(json.loads(message[12 + headers : -4])["bytes"]))

    def iter_bytes(self, pieces: Iterator[bytes]) -> Iterator[Any]:
        for piece in pieces:
            yield from self._events(piece)

    async def aiter_bytes(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for piece in pieces:
            for event in self._events(piece):
                yield event


@pytest.fixture
def bedrock(upstream: FakeUpstream, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> Any:
    return tally.instrument(_made(anthropic.AnthropicBedrock, upstream, monkeypatch))


def _made(kind: Any, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(kind, "_make_sse_decoder", lambda _: Decoder())
    return kind(api_key="bedrock-1", aws_region="us-east-1", base_url=upstream.url, max_retries=0)


def reply(*events: dict[str, Any], cuts: tuple[int, ...] = (5, 90, 500, -20), **more: Any) -> Reply:
    kind = "application/vnd.amazon.eventstream"
    return Reply(body=framed(*events), content_type=kind, framing="chunks", cuts=cuts, **more)


def ask(client: Any, **more: Any) -> Any:
    return client.messages.create(model=MODEL, max_tokens=10, messages=MESSAGES, **more)


def test_a_whole_answer_is_recorded_as_amazons(bedrock: Any, upstream: FakeUpstream, recorded: Any) -> None:
    upstream.reply = answer(MESSAGE)
    assert ask(bedrock).content[0].text == "This is a test."
    (event,) = recorded()
    assert (event["provider"], event["meters"]) == ("aws", MESSAGE_METERS)
    assert upstream.requests[0].target.startswith(f"/model/{MODEL}/invoke")


def test_a_stream_in_amazons_framing_is_recorded_to_the_token(
    bedrock: Any, upstream: FakeUpstream, recorded: Any
) -> None:
    upstream.reply = reply(*EVENTS)
    assert [event.type for event in ask(bedrock, stream=True)] == [event["type"] for event in EVENTS]
    with bedrock.messages.stream(model=MODEL, max_tokens=10, messages=MESSAGES) as helper:
        assert "".join(helper.text_stream) == "This is a test."
    events = recorded()
    assert [(event["provider"], event["meters"], event["usage_status"]) for event in events] == [
        ("aws", MESSAGE_METERS, "final")
    ] * 2


def test_who_leaves_such_a_stream_has_been_served_what_came(
    bedrock: Any, upstream: FakeUpstream, recorded: Any
) -> None:
    upstream.reply = reply(*EVENTS[:3], then="hang")
    with ask(bedrock, stream=True) as events:
        for event in events:
            if event.type == "content_block_delta":
                break
    (found,) = recorded()
    assert (found["usage_status"], found["outcome"]) == ("partial", "success")
    assert found["meters"] == {"tokens_in": 50, "cache_read_tokens": 2000, "tokens_out": 4}


def test_the_async_client_of_bedrock(
    upstream: FakeUpstream, tally: Tally, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        client = tally.instrument(_made(anthropic.AsyncAnthropicBedrock, upstream, monkeypatch))
        upstream.reply = reply(*EVENTS)
        assert [event.type async for event in await ask(client, stream=True)][-1] == "message_stop"

    asyncio.run(run())
    assert [event["meters"] for event in recorded()] == [MESSAGE_METERS]
