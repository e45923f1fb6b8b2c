"""What became of a call: every way in which a provider can answer has an outcome, and loses nothing that was used."""

from __future__ import annotations

import gzip
import json
import zlib
from functools import cache
from pathlib import Path

import brotli
import pytest

from tallystick.app.cost import load_extractors
from tallystick.core.errors import BadInput
from tallystick.usage.detect import provider_id
from tallystick.usage.extract import decode_body, extract
from tallystick.wire.asked import Asked, asked_of
from tallystick.wire.outcome import judge, judge_stream, usage_stream

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
TABLE = load_extractors()
REQUEST = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 36}]}
CHAT = asked_of("openai", "/v1/chat/completions", "", json.dumps(REQUEST).encode())
MESSAGES = asked_of("anthropic", "/v1/messages", "", b'{"model":"claude-sonnet-4-5","messages":[]}')
GENERATE = asked_of("gemini", "/v1beta/models/gemini-2.5-flash:generateContent", "", b'{"contents":[]}')
RESPONSES = asked_of("openai", "/v1/responses", "", b'{"model":"gpt-5","input":"x"}')
JSON = {"content-type": "application/json"}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def said(content="hi", **members):
    return {"model": "gpt-4o-2024", "choices": [{"message": {"role": "assistant", "content": content}}], **members}


def of_body(body, *, asked=CHAT, provider="openai", status=200, headers=None, **named):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge(TABLE, asked, provider, status=status, headers=headers or JSON, body=raw, request=REQUEST, **named)


def of_stream(*events, asked=CHAT, provider="openai", ended="whole", request=None):
    stream = usage_stream(TABLE, asked, provider, request)
    for event in events:
        data = event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n"
        stream.feed(data)
    return judge_stream(TABLE, asked, provider, stream, request=request, ended=ended)


# ── whole answers ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_with_usage_is_a_success():
    judged = of_body(said(usage=USAGE))
    assert (judged.outcome, judged.why, judged.usage_status) == ("success", "answered", "final")
    assert judged.extracted.meters == {"tokens_in": 10, "tokens_out": 5}
    assert judged.extracted.model == "gpt-4o-2024"


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("br", brotli.compress)],
)
def test_a_packed_answer_is_read(coding, pack):
    headers = {**JSON, "content-encoding": coding}
    assert of_body(pack(json.dumps(said(usage=USAGE)).encode()), headers=headers).why == "answered"


def test_an_answer_without_usage_is_estimated():
    judged = of_body(said("y" * 21))
    assert (judged.outcome, judged.why, judged.usage_status) == ("success", "no_usage", "estimated")
    assert judged.extracted.meters == {"tokens_in": 10, "tokens_out": 6}
    assert judged.extracted.model == "gpt-4o-2024"


def test_an_answer_whose_usage_contradicts_itself_is_estimated():
    usage = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 50}}
    judged = of_body(said("y" * 20, usage=usage))
    assert (judged.outcome, judged.why, judged.usage_status) == ("success", "no_usage", "estimated")
    assert "reasoning" in judged.detail


@pytest.mark.parametrize("asked", [MESSAGES, GENERATE, RESPONSES, CHAT])
def test_an_estimate_is_made_in_every_shape(asked):
    judged = of_body({"model": "m", "content": "z" * 8}, asked=asked)
    assert judged.usage_status == "estimated"
    assert sum(judged.extracted.meters.values()) == 12


@pytest.mark.parametrize(
    ("asked", "provider", "answer"),
    [
        (CHAT, "openai", {**said(""), "usage": USAGE}),
        (CHAT, "openai", {**said(None), "usage": USAGE}),
        (CHAT, "openai", {"model": "m", "choices": [], "usage": USAGE}),
        (
            MESSAGES,
            "anthropic",
            {"type": "message", "model": "c", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}},
        ),
        (
            MESSAGES,
            "anthropic",
            {
                "type": "message",
                "model": "c",
                "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": ""}],
                "usage": {"input_tokens": 3, "output_tokens": 9},
            },
        ),
        (
            RESPONSES,
            "openai",
            {
                "model": "m",
                "output": [{"type": "reasoning"}],
                "usage": {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 9},
            },
        ),
        (
            GENERATE,
            "gemini",
            {
                "modelVersion": "g",
                "promptFeedback": {"blockReason": "SAFETY"},
                "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3},
            },
        ),
        (
            GENERATE,
            "gemini",
            {
                "modelVersion": "g",
                "candidates": [{"finishReason": "SAFETY"}],
                "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1},
            },
        ),
    ],
)
def test_a_model_that_said_nothing_is_empty_and_metered(asked, provider, answer):
    judged = of_body(answer, asked=asked, provider=provider)
    assert (judged.outcome, judged.why) == ("empty", "nothing_said")
    assert judged.extracted.meters["tokens_in"] >= 3


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": "{}"}}]},
        {"content": None, "refusal": "I cannot"},
        {"content": None, "audio": {"id": "a"}},
        {"content": [{"type": "text", "text": "x"}]},
    ],
)
def test_a_call_of_a_tool_a_refusal_or_sound_is_not_empty(message):
    assert of_body({"model": "m", "choices": [{"message": message}], "usage": USAGE}).outcome == "success"


def test_members_that_are_not_there_are_not_taken_for_empty():
    assert of_body({"model": "m", "usage": USAGE}).outcome == "success"


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [301, 400, 401, 404, 429, 500, 503, 529])
def test_a_providers_error_used_nothing(status):
    judged = of_body({"error": {"message": "no"}}, status=status)
    assert (judged.outcome, judged.extracted, judged.why, judged.detail) == ("failure", None, "refused", "no")


def test_an_error_whose_body_says_nothing_is_told_by_its_status():
    assert of_body(b"<html>", status=502).detail == "status 502"
    assert of_body(gzip.compress(b'{"error":"no"}'), status=500, headers={"content-encoding": "gzip"}).detail == "no"
    assert of_body(b"not gzip", status=500, headers={"content-encoding": "gzip"}).detail == "status 500"


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"message": "quota", "type": "x"}},
        {"error": "quota"},
        {"type": "error", "error": {"type": "overloaded_error", "message": "quota"}},
        {"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}},
        {"choices": [{"error": {"message": "quota"}, "message": {}}]},
        {"status": "failed", "error": {"message": "quota"}, "output": [], "usage": None},
    ],
)
def test_an_error_that_came_with_a_status_of_success_is_a_failure(answer):
    judged = of_body(answer)
    assert (judged.outcome, judged.extracted, judged.why) == ("failure", None, "error_body")
    assert "quota" in judged.detail


def test_usage_beside_an_error_is_recorded():
    judged = of_body({"error": {"message": "broke"}, "model": "m", "usage": USAGE})
    assert (judged.outcome, judged.why) == ("failure", "error_body")
    assert judged.extracted.meters == {"tokens_in": 10, "tokens_out": 5}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<html>Bad gateway</html>", {"content-type": "text/html"}),
        (b"", JSON),
        (b"null", JSON),
        (b'{"model":', JSON),
        (b"\x00\x01\x02", {}),
        (b"not packed", {**JSON, "content-encoding": "gzip"}),
        (b"x", {**JSON, "content-encoding": "zstd"}),
        (b"data: <html>\n\n", {"content-type": "text/event-stream"}),
        (b"[1, 2]", JSON),
    ],
)
def test_what_cannot_be_read_is_garbage_and_ends_the_hold(body, headers):
    judged = of_body(body, headers=headers)
    assert (judged.outcome, judged.extracted, judged.why) == ("failure", None, "garbage")


def test_a_bomb_is_not_unpacked():
    bomb = gzip.compress(b"\0" * 10_000_000)
    judged = of_body(bomb, headers={"content-encoding": "gzip"}, unpacked_bytes_max=100_000)
    assert (judged.outcome, judged.why) == ("failure", "garbage")


def test_an_answer_that_breaks_off_is_estimated_by_what_came():
    judged = of_body(b'{"choices":[{"message":{"content":"hello', ended="broken")
    assert (judged.outcome, judged.why, judged.usage_status) == ("failure", "broke_off", "estimated")
    assert judged.extracted.meters == {"tokens_in": 10, "tokens_out": 10}


def test_a_caller_who_leaves_is_not_free():
    judged = of_body(b"", ended="left")
    assert (judged.outcome, judged.why, judged.usage_status) == ("success", "caller_left", "estimated")
    assert judged.extracted.meters["tokens_in"] == 10


# ── other endpoints ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_free_is_free_whatever_it_says():
    asked = asked_of("anthropic", "/v1/messages/count_tokens", "", b"{}")
    assert of_body({"input_tokens": 10}, asked=asked).extracted is None
    assert of_body(b"plain", asked=asked).outcome == "success"


def test_sound_is_no_garbage():
    asked = asked_of("openai", "/v1/audio/speech", "", b'{"model":"tts-1","input":"hello"}')
    judged = of_body(b"ID3\x00\x01", asked=asked, headers={"content-type": "audio/mpeg"})
    assert (judged.outcome, judged.why, judged.usage_status) == ("success", "no_usage", "estimated")
    assert (judged.extracted.provider, judged.extracted.model) == ("openai", "tts-1")
    assert judged.extracted.meters == {"characters_in": 5}


def test_calls_that_listen_or_draw_are_estimated_by_what_is_known():
    kind = "multipart/form-data; boundary=b"
    sound = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b\r\n'
    sound += b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"s" * 15_998 + b"\r\n--b--"
    heard = asked_of("openai", "/v1/audio/transcriptions", "", sound, content_type=kind)
    assert of_body(b"as text", asked=heard, headers={"content-type": "text/plain"}).extracted.meters == {
        "audio_ms": 1000
    }
    assert of_body({"text": "x", "duration": 7.25}, asked=heard).extracted.meters == {"audio_ms": 7250}
    stated = of_body({"text": "x", "usage": {"type": "duration", "seconds": 3}}, asked=heard)
    assert (stated.usage_status, stated.extracted.meters) == ("final", {"audio_ms": 3000})
    drawn = asked_of("openai", "/v1/images/generations", "", b'{"model":"dall-e-3","prompt":"x","n":2}')
    assert of_body({"data": [{"url": "a"}, {"url": "b"}]}, asked=drawn).extracted.meters == {"images_generated": 2}


@pytest.mark.parametrize(
    ("path", "done"),
    [
        ("/v1/audio/transcriptions", "transcript.text.done"),
        ("/v1/audio/speech", "speech.audio.done"),
        ("/v1/images/generations", "image_generation.completed"),
    ],
)
def test_streams_of_media_are_complete_when_they_say_so(path, done):
    asked = asked_of("openai", path, "", b'{"model":"gpt-x","input":"x","prompt":"x"}')
    usage = {"input_tokens": 4, "output_tokens": 5, "total_tokens": 9}
    judged = of_stream({"type": done, "usage": usage}, asked=asked)
    assert (judged.outcome, judged.why, judged.usage_status) == ("success", "answered", "final")
    assert sum(judged.extracted.meters.values()) == 9
    assert of_stream({"type": done, "usage": usage}, asked=asked, ended="broken").outcome == "success"


def test_what_is_unknown_is_metered_by_what_it_states():
    asked = asked_of("openai", "/v1/something/new", "", b"{}")
    assert of_body({"model": "m", "usage": USAGE}, asked=asked).extracted.meters["tokens_in"] == 10
    for body in ({"ok": True}, b"", b"<html>", b"\x00"):
        judged = of_body(body, asked=asked)
        assert (judged.outcome, judged.extracted, judged.why) == ("success", None, "no_usage")


def test_a_name_that_no_model_has_does_not_cost_the_usage():
    judged = of_body(said("y" * 20, usage=USAGE, model="m" * 600))
    assert (judged.why, judged.extracted.model, judged.extracted.meters["tokens_out"]) == ("no_usage", "gpt-4o", 5)


def test_a_provider_that_nobody_knows_is_read_by_its_flavor_and_priced_by_its_name():
    judged = of_body(said(usage=USAGE), provider="my-vllm")
    assert (judged.extracted.provider, judged.extracted.meters["tokens_in"]) == ("my-vllm", 10)


def test_an_answer_that_is_a_stream_after_all_is_read_as_one():
    sse = b"data: " + json.dumps(said(usage=USAGE)).encode() + b"\n\ndata: [DONE]\n\n"
    assert of_body(sse, headers={"content-type": "text/event-stream"}).why == "answered"
    part = {"modelVersion": "g", "candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]}
    array = json.dumps([{**part, "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1}}]).encode()
    assert of_body(array, asked=GENERATE, provider="gemini").extracted.meters == {"tokens_in": 3, "tokens_out": 1}


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────

DELTA = {"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "w" * 8}}]}
STOP = {"model": "gpt-4o", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
STATED = {"model": "gpt-4o", "choices": [], "usage": USAGE}
DONE = b"data: [DONE]\n\n"


def test_a_whole_stream_is_a_success():
    judged = of_stream(DELTA, STOP, STATED, DONE)
    assert (judged.outcome, judged.why, judged.usage_status) == ("success", "answered", "final")


def test_a_whole_stream_without_usage_is_estimated():
    judged = of_stream(DELTA, STOP, DONE, request=REQUEST)
    assert (judged.outcome, judged.why, judged.usage_status) == ("success", "no_usage", "estimated")
    assert judged.extracted.meters == {"tokens_in": 10, "tokens_out": 2}


def test_a_stream_that_says_nothing_is_empty():
    stated = {**STATED, "usage": {"prompt_tokens": 10, "completion_tokens": 1}}
    assert of_stream(STOP, stated, DONE).outcome == "empty"
    assert of_stream(STOP, STATED, DONE).outcome == "empty"
    drawn = {**STATED, "usage": {"prompt_tokens": 10, "completion_tokens": 300}}
    assert of_stream(STOP, drawn, DONE).outcome == "success"


@pytest.mark.parametrize(
    ("asked", "provider", "events"),
    [
        (
            CHAT,
            "deepseek",
            [
                {"model": "d", "choices": [{"index": 0, "delta": {"reasoning_content": "hm " * 30}}]},
                {"model": "d", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "length"}]},
                {
                    "model": "d",
                    "choices": [],
                    "usage": {
                        "prompt_tokens": 4,
                        "completion_tokens": 30,
                        "completion_tokens_details": {"reasoning_tokens": 30},
                    },
                },
            ],
        ),
        (
            GENERATE,
            "gemini",
            [
                {"modelVersion": "g", "candidates": [{"content": {"parts": [{"text": "hm", "thought": True}]}}]},
                {
                    "modelVersion": "g",
                    "candidates": [{"finishReason": "MAX_TOKENS"}],
                    "usageMetadata": {"promptTokenCount": 4, "thoughtsTokenCount": 30},
                },
            ],
        ),
    ],
)
def test_a_stream_of_thoughts_alone_says_nothing(asked, provider, events):
    judged = of_stream(*events, asked=asked, provider=provider)
    assert (judged.outcome, judged.why) == ("empty", "nothing_said")
    assert judged.extracted.meters == {"tokens_in": 4, "reasoning_tokens": 30}


@pytest.mark.parametrize("ended", ["whole", "broken"])
def test_a_stream_that_ends_before_its_end_is_a_failure_with_what_was_generated(ended):
    judged = of_stream(DELTA, DELTA, ended=ended, request=REQUEST)
    assert (judged.outcome, judged.why, judged.usage_status) == ("failure", "broke_off", "estimated")
    assert judged.extracted.meters == {"tokens_in": 10, "tokens_out": 4}


def test_a_stream_that_the_caller_left_is_charged_as_a_success():
    judged = of_stream(DELTA, ended="left", request=REQUEST)
    assert (judged.outcome, judged.why, judged.usage_status) == ("success", "caller_left", "estimated")
    nothing = of_stream(ended="left", request=REQUEST)
    assert (nothing.outcome, nothing.extracted.meters["tokens_in"]) == ("success", 10)


def test_a_drained_stream_is_final_although_the_caller_left():
    judged = of_stream(DELTA, STOP, STATED, DONE, ended="left")
    assert (judged.why, judged.usage_status) == ("answered", "final")


def test_a_connection_that_breaks_before_the_first_word_used_nothing():
    judged = of_stream(b": waiting\n\n", ended="broken", request=REQUEST)
    assert (judged.outcome, judged.extracted, judged.why) == ("failure", None, "broke_off")


def test_a_connection_that_breaks_after_the_end_broke_nothing():
    assert of_stream(DELTA, STOP, STATED, DONE, ended="broken").outcome == "success"


def test_an_error_in_the_middle_is_a_failure_with_what_was_used():
    start = {
        "type": "message_start",
        "message": {"model": "claude-x", "usage": {"input_tokens": 9, "output_tokens": 1}},
    }
    text = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "w" * 40}}
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "overloaded"}}
    judged = of_stream(start, text, error, asked=MESSAGES, provider="anthropic")
    assert (judged.outcome, judged.why, judged.usage_status) == ("failure", "broke_off", "partial")
    assert judged.extracted.meters == {"tokens_in": 9, "tokens_out": 10}
    assert judged.detail == "overloaded"


def test_an_error_before_the_first_word_used_nothing():
    judged = of_stream({"error": {"message": "no capacity"}}, DONE)
    assert (judged.outcome, judged.extracted, judged.why, judged.detail) == (
        "failure",
        None,
        "error_body",
        "no capacity",
    )


def test_a_stream_of_garbage_is_garbage():
    assert of_stream(b"<html>").why == "garbage"
    assert of_stream(b"").why == "garbage"


def test_a_stream_whose_usage_contradicts_itself_is_estimated():
    usage = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 50}}
    judged = of_stream(DELTA, STOP, {**STATED, "usage": usage}, DONE, request=REQUEST)
    assert (judged.outcome, judged.why, judged.usage_status) == ("success", "no_usage", "estimated")
    assert judged.extracted.meters == {"tokens_in": 10, "tokens_out": 2}


def test_geminis_running_totals_are_partial_until_it_stops():
    part = {"modelVersion": "g", "candidates": [{"content": {"parts": [{"text": "abcd" * 5}]}}]}
    judged = of_stream(
        {**part, "usageMetadata": {"promptTokenCount": 7}}, asked=GENERATE, provider="gemini", ended="broken"
    )
    assert (judged.outcome, judged.usage_status) == ("failure", "partial")
    assert judged.extracted.meters == {"tokens_in": 7, "tokens_out": 5}


# ── recorded answers ────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def rows(name):
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def flavor_of(provider):
    return {"anthropic": "anthropic", "google": "gemini"}.get(provider, "openai")


def other_route(flavor) -> Asked:
    return asked_of(flavor, "/v1/unknown", "", b"{}")


@pytest.mark.skipif(not DATA.exists(), reason="the recorded answers are not on this machine")
def test_recorded_answers_are_read_as_they_are_read_from_a_file():
    seen = 0
    for row in rows("provider_responses.jsonl"):
        body = {key: value for key, value in row["body"].items() if key != "file"}
        raw = json.dumps(body).encode()
        for reading in row["extracted"]:
            for each in reading["extractors"]:
                provider = each["provider_id"]
                try:
                    read = extract(TABLE, json.loads(raw), provider=provider)
                except BadInput:
                    continue  # another provider's answer
                judged = judge(
                    TABLE, other_route(flavor_of(provider)), provider, status=200, headers=JSON, body=raw, request={}
                )
                assert judged.extracted is not None
                if read.model is not None and read.provider_cost_pico is None:
                    assert judged.extracted == read
                seen += 1
    assert seen > 1000


ENDPOINTS = {("openai", "chat"): CHAT, ("openai", "responses"): RESPONSES, ("anthropic", "default"): MESSAGES}
ENDPOINTS[("google", "default")] = GENERATE


@pytest.mark.skipif(not DATA.exists(), reason="the recorded answers are not on this machine")
def test_recorded_answers_are_read_the_same_at_their_own_endpoints():
    seen = dict.fromkeys(ENDPOINTS, 0)
    for row in rows("provider_responses.jsonl"):
        raw = json.dumps({key: value for key, value in row["body"].items() if key != "file"}).encode()
        for provider in ("openai", "anthropic", "google"):
            try:
                read = extract(TABLE, decode_body(raw), provider=provider)
            except BadInput:
                continue  # another provider's answer
            asked = ENDPOINTS.get((provider, read.flavor))
            if asked is not None and read.model is not None:
                seen[provider, read.flavor] += 1
                assert of_body(raw, asked=asked, provider=provider).extracted == read
    assert all(seen.values()), seen


@pytest.mark.skipif(not DATA.exists(), reason="the recorded answers are not on this machine")
def test_recorded_errors_are_failures_that_say_why():
    for row in rows("provider_errors.jsonl"):
        judged = of_body(row["body"].encode(), status=row["status"])
        assert (judged.outcome, judged.extracted, judged.why) == ("failure", None, "refused")
        assert judged.detail
        assert not judged.detail.startswith("status")


@pytest.mark.skipif(not DATA.exists(), reason="the recorded answers are not on this machine")
def test_recorded_streams_are_final_and_but_for_one_successes():
    outcomes = []
    for row in rows("provider_streams.jsonl"):
        host = row["host"]
        flavor = "anthropic" if "anthropic" in host else "gemini" if "google" in host else "openai"
        provider = "openrouter" if "openrouter" in host else provider_id(flavor)
        asked = asked_of(flavor, row["path"].partition("#")[0], "alt=sse", json.dumps(row["request"]).encode())
        stream = usage_stream(TABLE, asked, provider)
        stream.feed(row["sse"].encode())
        judged = judge_stream(TABLE, asked, provider, stream)
        outcomes.append(judged.outcome)
        assert judged.usage_status == "final"
    assert sorted(set(outcomes)) == ["failure", "success"]
    assert outcomes.count("failure") == 1
