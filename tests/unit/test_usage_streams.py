"""Streams of every family: running totals, ends, broken-off streams, and what is left to estimate."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from tallystick.app.cost import load_extractors
from tallystick.core.errors import BadInput
from tallystick.usage import framing
from tallystick.usage.extract import Extracted
from tallystick.usage.streams import UsageStream, estimate_tokens, prompt_bytes

TABLE = load_extractors()


def sse(*events: Any, ending: str = "\n", done: bool = False) -> bytes:
    blocks = [f"data: {event if isinstance(event, str) else json.dumps(event)}{ending}{ending}" for event in events]
    return "".join([*blocks, *([f"data: [DONE]{ending}{ending}"] if done else [])]).encode()


def fold(data: bytes | Sequence[bytes], **more: Any) -> Extracted:
    stream = UsageStream(TABLE, **more)
    for piece in [data] if isinstance(data, bytes) else data:
        stream.feed(piece)
    return stream.finish()


def chunk(text: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return {"object": "chat.completion.chunk", "model": "gpt-4o", "choices": choices, **more}


USAGE = {"prompt_tokens": 14, "completion_tokens": 8, "total_tokens": 22}


def test_openai_states_its_usage_in_the_last_chunk() -> None:
    used = fold(sse(chunk("Hello"), chunk(" you"), chunk(usage=USAGE), done=True))
    assert (used.status, used.meters) == ("final", {"tokens_in": 14, "tokens_out": 8})


def test_running_totals_in_every_chunk_replace_each_other() -> None:
    early = {**USAGE, "completion_tokens": 1}
    used = fold(sse(chunk("Hello", usage=early), chunk(" you", usage=USAGE), done=True), provider="x-ai")
    assert used.meters == {"tokens_in": 14, "tokens_out": 8}
    cut = fold(sse(chunk("Hello", usage=early), chunk(" you")), provider="x-ai")
    assert (cut.status, cut.meters) == ("partial", {"tokens_in": 14, "tokens_out": 1})


def test_groq_states_its_usage_beside_its_own_marks_and_moonshot_in_the_choice() -> None:
    used = fold(sse(chunk("Hi"), chunk(x_groq={"id": "req", "usage": USAGE}), done=True))
    assert (used.provider, used.status, used.meters["tokens_out"]) == ("groq", "final", 8)
    last = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}
    used = fold(sse(chunk("Hi"), {**chunk(), "model": "kimi-k2", "choices": [last]}))
    assert (used.provider, used.status, used.meters["tokens_out"]) == ("moonshotai", "final", 8)


def test_a_stream_without_usage_is_estimated_from_its_text_and_the_request() -> None:
    text = sse(chunk("Hëllo"), chunk(" world"), done=True)  # 12 bytes
    used = fold(text)
    assert (used.status, used.meters) == ("estimated", {"tokens_out": 3})
    request = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 40}]}
    assert fold(text, request=request).meters == {"tokens_in": 11, "tokens_out": 3}  # with the role: 44 bytes


def test_reasoning_and_calls_of_tools_count_towards_an_estimate() -> None:
    thought = {**chunk(), "choices": [{"delta": {"reasoning_content": "abcd"}}]}
    call = {**chunk(), "choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "abc"}}]}}]}
    parts = {**chunk(), "choices": [{"delta": {"content": [{"type": "thinking", "thinking": [{"text": "abcd"}]}]}}]}
    assert fold(sse(thought, call, parts)).meters == {"tokens_out": 3}


def test_responses_end_with_the_whole_answer_however_they_end() -> None:
    created = {"type": "response.created", "response": {"model": "gpt-5", "service_tier": "auto", "usage": None}}
    delta = {"type": "response.output_text.delta", "delta": "12345678"}
    usage = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 2}
    for end in ("completed", "incomplete", "failed"):
        last = {"type": f"response.{end}", "response": {"model": "gpt-5", "service_tier": "flex", "usage": usage}}
        used = fold(sse(created, delta, last))
        assert (used.flavor, used.status, used.price_context) == ("responses", "final", {"service_tier": "flex"})
        assert used.meters == {"tokens_in": 5, "cache_read_tokens": 4, "tokens_out": 2}
    cut = fold(sse(created, delta))
    assert (cut.status, cut.meters) == ("estimated", {"tokens_out": 2})


def test_searches_of_a_response_that_broke_off_are_not_forgotten() -> None:
    item = {"type": "web_search_call", "action": {"type": "search", "query": "x"}}
    created = {"type": "response.created", "response": {"model": "gpt-5"}}
    used = fold(sse(created, {"type": "response.output_item.done", "item": item}))
    assert used.meters == {"web_searches": 1}


def start(**usage: Any) -> dict[str, Any]:
    message = {"model": "claude-sonnet-4-6", "usage": {"input_tokens": 25, "output_tokens": 1, **usage}}
    return {"type": "message_start", "message": message}


def text_delta(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def test_anthropics_deltas_are_totals_that_overwrite_and_never_add() -> None:
    begin = start(cache_read_input_tokens=100, cache_creation_input_tokens=0, service_tier="standard")
    first = {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 10}}
    last = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": 3042, "output_tokens": 15, "server_tool_use": {"web_search_requests": 1}},
    }
    used = fold(sse(begin, text_delta("Hi"), first, last, {"type": "message_stop"}))
    assert used.status == "final"
    assert used.meters == {"tokens_in": 3042, "cache_read_tokens": 100, "tokens_out": 15, "web_searches": 1}


def test_an_anthropic_stream_that_broke_off_counts_the_text_that_came() -> None:
    used = fold(sse(start(cache_read_input_tokens=0), text_delta("x" * 400)))
    assert (used.status, used.meters) == ("partial", {"tokens_in": 25, "tokens_out": 100})


def test_geminis_last_statement_wins_also_when_the_stream_is_cut() -> None:
    def event(text: str, **usage: Any) -> dict[str, Any]:
        candidate = {"content": {"parts": [{"text": text}]}}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash"}

    one = event("a" * 8, promptTokenCount=18)
    two = event("b", promptTokenCount=18, candidatesTokenCount=31, thoughtsTokenCount=35)
    end = {**event("c", promptTokenCount=18, candidatesTokenCount=80, thoughtsTokenCount=35)}
    end["candidates"][0]["finishReason"] = "STOP"
    whole = fold(sse(one, two, end, ending="\r\n"))
    assert (whole.status, whole.meters) == ("final", {"tokens_in": 18, "tokens_out": 80, "reasoning_tokens": 35})
    cut = fold(sse(one, two, ending="\r\n"))
    assert (cut.status, cut.meters) == ("partial", {"tokens_in": 18, "tokens_out": 31, "reasoning_tokens": 35})
    first_only = fold(sse(one, ending="\r\n"))
    assert (first_only.status, first_only.meters) == ("partial", {"tokens_in": 18, "tokens_out": 2})
    array = json.dumps([one, two, end], indent=1).encode()
    assert fold(array) == whole


def test_bedrocks_converse_stream_is_read_as_json_lines() -> None:
    events = [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"text": "Hello"}}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": {"inputTokens": 7, "outputTokens": 3}, "serviceTier": {"type": "flex"}}},
    ]
    lines = "\n".join(json.dumps(event) for event in events).encode()
    used = fold(lines, model="amazon.nova-lite-v1:0")
    assert (used.provider, used.model, used.status) == ("aws", "amazon.nova-lite-v1:0", "final")
    assert (used.meters, used.price_context) == ({"tokens_in": 7, "tokens_out": 3}, {"service_tier": "flex"})
    assert fold("\n".join(json.dumps(event) for event in events[:2]).encode()).status == "estimated"


def test_bedrocks_chunks_hold_anthropics_events_in_base64() -> None:
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 6}}
    inner = [start(cache_read_input_tokens=0), text_delta("Hi"), delta, {"type": "message_stop"}]
    events = [{"chunk": {"bytes": base64.b64encode(json.dumps(event).encode()).decode()}} for event in inner]
    used = fold("\n".join(map(json.dumps, events)).encode(), provider="bedrock")
    assert (used.provider, used.flavor, used.status) == ("aws", "anthropic", "final")
    assert used.meters == {"tokens_in": 25, "tokens_out": 6}


def test_coheres_end_event_states_what_is_billed() -> None:
    text = {"type": "content-delta", "delta": {"message": {"content": {"text": "Hello"}}}}
    usage = {"billed_units": {"input_tokens": 5, "output_tokens": 2}, "tokens": {"input_tokens": 71}}
    end = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}
    used = fold(sse({"type": "message-start", "id": "x"}, text, end))
    assert (used.provider, used.status, used.meters) == ("cohere", "final", {"tokens_in": 5, "tokens_out": 2})
    assert fold(sse({"type": "message-start", "id": "x"}, text)).status == "estimated"


def test_an_answer_that_was_not_streamed_after_all_is_read_as_it_is() -> None:
    body = {"object": "chat.completion", "model": "gpt-4o", "choices": [], "usage": USAGE}
    assert fold(json.dumps(body, indent=2).encode()).meters == {"tokens_in": 14, "tokens_out": 8}


def test_comments_event_names_and_lines_of_data_are_read_as_the_standard_says() -> None:
    text = json.dumps(chunk(usage=USAGE), indent=1)
    lines = "".join(f"data:{line}\r" for line in text.splitlines())
    data = b"\xef\xbb\xbf: a comment\r\revent: message\rid: 7\rretry: 10\r" + lines.encode() + b"\rdata: [DONE]\r\r"
    assert fold(data).status == "final"


def test_what_comes_after_the_end_mark_is_nothing() -> None:
    more = sse(chunk(usage={**USAGE, "completion_tokens": 1000}))
    assert fold(sse(chunk("Hi"), chunk(usage=USAGE), done=True) + more).meters["tokens_out"] == 8


def test_a_garbled_event_does_not_lose_what_the_next_one_states() -> None:
    assert fold(sse(chunk("Hi"), '{"choices": [', "\x00", chunk(usage=USAGE), done=True)).status == "final"


@pytest.mark.parametrize("garbled", ['{"a": 1e9999999999999999999999}', '{"object": ["chat"]}', '{"object": {}}'])
def test_an_event_of_a_shape_that_no_provider_gives_harms_nothing(garbled: str) -> None:
    assert fold(sse(garbled, chunk("x"), chunk(usage=USAGE), done=True)).meters == {"tokens_in": 14, "tokens_out": 8}


def test_an_error_in_place_of_an_answer_is_a_refusal_and_one_after_text_is_not() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(BadInput) as raised:
        fold(sse(error))
    assert raised.value.code == "provider_error"
    assert "Overloaded" in raised.value.detail
    failed = {
        "type": "response.failed",
        "response": {"model": "gpt-5", "error": {"message": "Too long"}, "usage": None},
    }
    with pytest.raises(BadInput, match="Too long"):
        fold(sse(failed))
    used = fold(sse(start(cache_read_input_tokens=0), text_delta("some text"), error))
    assert used.status == "partial"


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b": ping\n\n", b"data: {\n\n", b"data: 42\n\n", b"[]", b"{", b"\xff\xfe"]
)
def test_a_stream_without_any_event_of_an_answer_says_so(data: bytes) -> None:
    with pytest.raises(BadInput) as raised:
        fold(data)
    assert raised.value.code == "no_usage"


@pytest.mark.parametrize("head", [b"data: ", b'{"a": "', b"event: "])
def test_an_event_without_end_is_refused_before_it_fills_the_memory(
    head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "EVENT_BYTES_MAX", 1000)
    with pytest.raises(BadInput) as raised:
        fold([head, *[b"x" * 100] * 100])
    assert raised.value.code == "event_too_large"


def test_estimates_round_up_and_leave_files_out() -> None:
    assert [estimate_tokens(size) for size in (0, 1, 4, 5)] == [0, 1, 1, 2]
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a-long-name.png"}}
    inline = {"type": "input_text", "text": "data:image/png;base64,AAAA"}
    assert prompt_bytes({"input": [{"content": [image, inline]}], "temperature": 1}) == len("image_urlinput_text")
