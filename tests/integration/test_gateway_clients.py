"""The official clients, unmodified but for their base URL: answers, streams, tools, errors, retries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fake_upstream import Reply, stream
from gateway_tools import ACTION, DONE, TEXT, WHOLE, Stand, chat_answer, gateway, recorded

if TYPE_CHECKING:
    import anthropic
    import openai

pytestmark = pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")  # recorded ones grow old
MESSAGES: Any = [{"role": "user", "content": "Where is it?"}]


@pytest.fixture(scope="module", autouse=True)
def _clients() -> None:
    """Importing them takes seconds: only a process that runs one of these tests does it."""
    global anthropic, openai  # noqa: PLW0603 - as an import at the head would
    import anthropic
    import openai


@pytest.fixture
def stand(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    with gateway(database_url, tmp_path, monkeypatch) as opened:
        yield opened


@pytest.fixture
def gpt(stand: Stand) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=stand.token, base_url=f"{stand.url}/openai/v1", default_headers=ACTION) as client:
        yield client


@pytest.fixture
def claude(stand: Stand) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key=stand.token, base_url=f"{stand.url}/anthropic", default_headers=ACTION) as client:
        yield client


def whole_message() -> bytes:
    return json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5-20250929",
            "content": [{"type": "text", "text": "Here."}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 12, "output_tokens": 5},
        }
    ).encode()


def test_openai_answers_and_raw_answers_with_our_headers(stand: Stand, gpt: openai.OpenAI) -> None:
    answer = gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert answer.choices[0].message.content == "Here."
    assert answer.usage is not None
    assert answer.usage.total_tokens == 120
    raw = gpt.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)
    assert raw.headers["x-tally-cost-usd"] == "0.00045"
    assert raw.parse().id == answer.id
    assert gpt.models.with_raw_response.list().http_response.status_code == 200
    assert len(stand.settlements()) == 2


def test_openai_streams_with_and_without_usage(stand: Stand, gpt: openai.OpenAI) -> None:
    stand.upstream.reply = stream(WHOLE, cuts=range(3, 900, 11))
    chunks = list(gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Here it is, sir."
    assert all(chunk.usage is None for chunk in chunks)
    asked: Any = {"include_usage": True}
    chunks = list(gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, stream_options=asked))
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 14
    assert [one["meters"] for one in stand.usage()] == [{"tokens_in": 10, "tokens_out": 4}] * 2


def test_openai_recorded_streams_give_the_client_what_they_give_it_directly(stand: Stand, gpt: openai.OpenAI) -> None:
    direct = openai.OpenAI(api_key="sk-direct", base_url=f"{stand.upstream.url}/v1")
    seen = 0
    for record in recorded("provider_streams.jsonl"):
        if record["host"] != "api.openai.com":
            continue
        stand.upstream.reply = stream(record["sse"], cuts=range(9, 4000, 97))
        given: list[list[str]] = []
        for client in (direct, gpt):
            model = record["request"]["model"]
            if record["path"].endswith("responses"):
                events: Any = client.responses.create(model=model, input="x", stream=True)
            else:
                options: Any = {"include_usage": True}
                events = client.chat.completions.create(
                    model=model, messages=MESSAGES, stream=True, stream_options=options
                )
            given.append([repr(event) for event in events])
        assert given[0] == given[1], record["test"]
        seen += 1
    assert seen > 15


def test_openai_tools_and_long_outputs(stand: Stand, gpt: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"where":"there"}'}}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, "tool_calls": [call]},
        "finish_reason": "tool_calls",
    }
    stand.upstream.reply = Reply(body=chat_answer(choices=[choice]))
    tools: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    called: Any = gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, tools=tools).choices[0].message
    assert called.tool_calls[0].function.arguments == '{"where":"there"}'
    long = "word " * 400_000
    stand.upstream.reply = Reply(body=chat_answer(long, 10, 400_000), framing="chunks")
    assert gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES).choices[0].message.content == long
    stand.upstream.reply = stream(TEXT * 2_000 + WHOLE)
    chunks = list(gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    assert len(chunks) == 2_001 * 5
    assert [one["outcome"] for one in stand.usage()] == ["success"] * 3


def test_openai_raises_its_usual_exceptions_with_our_fields(stand: Stand, gpt: openai.OpenAI) -> None:
    patient = gpt.with_options(max_retries=2)
    with pytest.raises(openai.AuthenticationError) as unknown:
        patient.with_options(api_key="tk_none").chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert unknown.value.code == "key_unknown"
    with pytest.raises(openai.PermissionDeniedError) as denied:
        patient.with_options(default_headers={"x-tally-action": "none"}).chat.completions.create(
            model="gpt-4o", messages=MESSAGES
        )
    assert denied.value.code == "unknown_action"
    body: Any = denied.value.body
    assert body["tallystick"]["decision"]["allow"] is False
    assert body["tallystick"]["next_step"]
    with pytest.raises(openai.NotFoundError):
        patient.files.list()
    assert not stand.upstream.requests
    errors = [one for one in recorded("provider_errors.jsonl") if one["host"] == "api.openai.com"]
    for error in errors:
        stand.upstream.reply = Reply(status=error["status"], body=error["body"].encode())
        with pytest.raises(openai.APIStatusError) as raised:
            patient.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        assert raised.value.status_code == error["status"]
        assert raised.value.response.content == error["body"].encode()
        assert raised.value.response.headers["x-tally-credits"] == "0"
    assert len(stand.settlements()) == len(errors)
    assert stand.open_holds() == 0


def test_openai_retries_by_itself_and_pays_once(stand: Stand, gpt: openai.OpenAI) -> None:
    stand.upstream.replies = [Reply(status=500, body=b"{}"), Reply(status=429, body=b"{}"), Reply(raw=b"")]
    answer = gpt.with_options(max_retries=3).chat.completions.create(
        model="gpt-4o", messages=MESSAGES, extra_headers={"x-tally-request-id": "mine"}
    )
    assert answer.choices[0].message.content == "Here."
    assert [one["request"]["outcome"] for one in stand.settlements()] == ["failure"] * 3 + ["success"]
    assert [one["request_id"] for one in stand.usage()] == ["mine", "mine~2", "mine~3", "mine~4"]
    with pytest.raises(openai.ConflictError) as again:
        gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, extra_headers={"x-tally-request-id": "mine"})
    assert again.value.code == "request_already_charged"
    assert len(stand.upstream.requests) == 4


def test_openai_sees_a_stream_that_breaks_off_and_an_error_in_it(stand: Stand, gpt: openai.OpenAI) -> None:
    first = TEXT.split("\n\n")[0] + "\n\n"
    stand.upstream.reply = stream(WHOLE, then="close", sent_bytes=len(first))
    with pytest.raises(openai.APIError, match="middle of its answer"):
        list(gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    stand.upstream.reply = stream(first + 'data: {"error":{"message":"it fell over","type":"server_error"}}\n\n')
    with pytest.raises(openai.APIError, match="fell over"):
        list(gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    assert stand.open_holds() == 0


def test_openai_asynchronously_many_at_once(stand: Stand) -> None:
    async def many() -> list[str | None]:
        async with openai.AsyncOpenAI(
            api_key=stand.token, base_url=f"{stand.url}/openai/v1", default_headers=ACTION
        ) as client:

            async def one() -> str | None:
                answer = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
                return answer.choices[0].message.content

            return await asyncio.gather(*(one() for _ in range(40)))

    assert asyncio.run(many()) == ["Here."] * 40
    assert len(stand.settlements()) == 40


def test_anthropic_answers_streams_and_counts(stand: Stand, claude: anthropic.Anthropic) -> None:
    stand.upstream.reply = Reply(body=whole_message(), headers={"request-id": "req_claude"})
    answer = claude.messages.create(model="claude-sonnet-5", max_tokens=20, messages=MESSAGES)
    assert answer.content[0].type == "text"
    assert answer.content[0].text == "Here."
    assert stand.upstream.requests[-1].header("x-api-key") != stand.token
    assert stand.usage()[-1]["attributes"]["provider_request_id"] == "req_claude"
    stand.upstream.reply = Reply(body=b'{"input_tokens": 7}')
    assert claude.messages.count_tokens(model="claude-sonnet-5", messages=MESSAGES).input_tokens == 7
    direct = anthropic.Anthropic(api_key="sk-direct", base_url=stand.upstream.url)
    seen = 0
    for record in recorded("provider_streams.jsonl"):
        if record["host"] != "api.anthropic.com":
            continue
        stand.upstream.reply = stream(record["sse"], cuts=range(5, 9000, 83))
        given: list[list[str]] = []
        for client in (direct, claude):
            asked = {"model": record["request"]["model"], "max_tokens": 4096, "messages": MESSAGES}
            events: Any = client.messages.create(**asked, stream=True)
            given.append([repr(event) for event in events])
        assert given[0] == given[1], record["test"]
        seen += 1
    assert seen == 5
    with claude.messages.stream(model="claude-sonnet-5", max_tokens=20, messages=MESSAGES) as told:
        assert told.get_final_message().usage.output_tokens > 0


def test_anthropic_raises_its_usual_exceptions_with_our_fields(stand: Stand, claude: anthropic.Anthropic) -> None:
    ask: Any = {"model": "claude-sonnet-5", "max_tokens": 20, "messages": MESSAGES}
    with pytest.raises(anthropic.AuthenticationError) as unknown:
        claude.with_options(api_key="tk_none").messages.create(**ask)
    body: Any = unknown.value.body
    assert body["tallystick"]["code"] == "key_unknown"
    with pytest.raises(anthropic.PermissionDeniedError) as denied:
        claude.with_options(default_headers={"x-tally-action": "none"}).messages.create(**ask)
    body = denied.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "permission_error")
    assert body["tallystick"]["decision"]["code"] == "unknown_action"
    assert not stand.upstream.requests
    for error in recorded("provider_errors.jsonl"):
        if error["host"] == "api.anthropic.com":
            stand.upstream.reply = Reply(status=error["status"], body=error["body"].encode())
            with pytest.raises(anthropic.APIStatusError) as raised:
                claude.messages.create(**ask)
            assert raised.value.response.content == error["body"].encode()
    stand.upstream.replies = [
        Reply(status=529, body=b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}')
    ]
    stand.upstream.reply = Reply(body=whole_message())
    assert claude.messages.create(**ask).content[0].type == "text"
    stream_end = "event: message_start\ndata: " + json.dumps(
        {"type": "message_start", "message": json.loads(whole_message()) | {"content": [], "stop_reason": None}}
    )  # fmt: skip
    stand.upstream.reply = stream(
        stream_end + "\n\n" + "event: ping\ndata: {}\n\n", then="close", sent_bytes=len(stream_end) + 2
    )
    with pytest.raises(anthropic.APIError):
        list(claude.messages.create(**ask, stream=True))
    assert stand.open_holds() == 0


def test_a_byte_order_mark_or_nothing_at_all_is_no_answer(stand: Stand, gpt: openai.OpenAI) -> None:
    stand.upstream.reply = Reply(body=b"")
    raw = gpt.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)
    assert raw.http_response.content == b""
    assert stand.settlements()[-1]["request"]["outcome"] == "failure"
    stand.upstream.reply = stream(DONE)
    assert list(gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)) == []
    assert stand.settlements()[-1]["request"]["outcome"] == "failure"
    assert stand.open_holds() == 0
