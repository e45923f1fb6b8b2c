"""What a request asks for: its model, whether it streams, and the most that it can take."""

from __future__ import annotations

import json

import pytest

from tallystick.wire.asked import asked_of, names_twice
from tallystick.wire.media_calls import IMAGE_TOKENS_OUT
from tallystick.wire.prompt_bound import (
    AUDIO_BYTES_PER_TOKEN,
    DOCUMENT_TOKENS_LEAST,
    FILE_TOKENS,
    IMAGE_TOKENS,
    MARKERS_TOKENS,
    MEDIA_TOKENS,
    TOOLS_TOKENS,
)

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]


def chat(**members):
    return ask("openai", CHAT, {"model": "gpt-4o", "messages": HI, **members})


def ask(flavor, path, body, query=""):
    return asked_of(flavor, path, query, json.dumps(body).encode())


def messages(*content, **members):
    body = {"model": "claude-sonnet-4-5", "max_tokens": 10, "messages": [{"role": "user", "content": list(content)}]}
    return ask("anthropic", "/v1/messages", {**body, **members})


def generate(*parts, **members):
    return ask("gemini", "/v1beta/models/gemini-2.5-flash:generateContent", {"contents": [{"parts": parts}], **members})


# ── what is stated ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_chat_says_its_model_its_stream_and_its_bound():
    asked = chat(stream=True, max_tokens=20)
    assert (asked.kind, asked.model, asked.stream, asked.tokens_out_max) == ("chat", "gpt-4o", True, 20)
    assert not asked.usage_asked
    assert asked.fault is None


@pytest.mark.parametrize(
    ("members", "most"),
    [
        ({"max_completion_tokens": 30}, 30),
        ({"max_tokens": 5, "max_completion_tokens": 30}, 30),
        ({"max_tokens": 10, "n": 3}, 30),
        ({"max_tokens": 10.0}, 10),
        ({"max_tokens": "10"}, 10),
        ({"max_tokens": None}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": True}, None),
        ({"max_tokens": {"a": 1}}, None),
        ({"max_tokens": 10**30}, 10**9),
        ({}, None),
    ],
)
def test_the_bound_of_a_chats_answer(members, most):
    assert chat(**members).tokens_out_max == most


def test_every_answer_that_is_generated_counts():
    body = {"model": "m", "prompt": ["a", "b"], "max_tokens": 10, "n": 2, "best_of": 5}
    assert ask("openai", "/v1/completions", body).tokens_out_max == 2 * 5 * 10
    of_tokens = {"model": "m", "prompt": [1, 2, 3], "max_tokens": 10}
    assert ask("openai", "/v1/completions", of_tokens).tokens_out_max == 10


def test_responses_messages_and_gemini_say_their_bounds():
    assert ask("openai", "/v1/responses", {"model": "m", "input": "x", "max_output_tokens": 7}).tokens_out_max == 7
    assert messages({"type": "text", "text": "x"}).tokens_out_max == 10
    config = {"maxOutputTokens": 8, "candidateCount": 2}
    assert generate({"text": "x"}, generationConfig=config).tokens_out_max == 16


def test_what_is_not_bounded_takes_the_default_for_each_answer():
    asked = chat(n=3)
    assert asked.worst_meters(tokens_in_default=1, tokens_out_default=100)["tokens_out"] == 300


def test_a_stream_that_asks_for_its_usage_is_known():
    assert chat(stream=True, stream_options={"include_usage": True}).usage_asked
    assert not chat(stream=True, stream_options={"include_usage": False}).usage_asked
    assert not chat(stream=True, stream_options=None).usage_asked
    assert ask("openai", "/v1/responses", {"model": "m", "input": "x", "stream": True}).usage_asked


def test_geminis_stream_is_told_by_its_path_and_its_form_by_the_query():
    path = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"
    events = ask("gemini", path, {"contents": []}, query="alt=sse&x=1")
    array = ask("gemini", path, {"contents": []})
    assert (events.stream, events.events, events.model) == (True, True, "gemini-2.5-flash")
    assert (array.stream, array.events) == (True, False)


def test_work_that_is_done_later_is_deferred():
    assert ask("openai", "/v1/responses", {"model": "m", "input": "x", "background": True}).deferred
    assert ask("openai", "/v1/batches", {"input_file_id": "f"}).deferred
    assert not ask("openai", "/v1/responses", {"model": "m", "input": "x", "background": False}).deferred


def test_what_is_free_holds_nothing():
    counted = ask("anthropic", "/v1/messages/count_tokens", {"model": "m", "messages": HI})
    listed = asked_of("openai", "/v1/models", "", b"", method="GET")
    assert counted.free
    assert listed.free
    assert counted.worst_meters(tokens_in_default=5, tokens_out_default=5) == {}


def test_an_embedding_puts_out_nothing():
    asked = ask("openai", "/v1/embeddings", {"model": "text-embedding-3-small", "input": ["a", "b"]})
    assert set(asked.worst_meters(tokens_in_default=1, tokens_out_default=1)) == {"tokens_in"}


# ── forms, speech, pictures ─────────────────────────────────────────────────────────────────────────────────────────


def form(*parts, boundary="b0", header=None, path="/v1/audio/transcriptions"):
    lines = [f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n" for head, value in parts]
    body = "".join(lines) + f"--{boundary}--\r\n"
    return asked_of(
        "openai", path, "", body.encode(), content_type=header or f"multipart/form-data; boundary={boundary}"
    )


SOUND = ('name="file"; filename="a.mp3"', "s" * 3000)


def test_a_form_says_its_model_its_stream_and_how_large_its_files_are():
    asked = form(('name="model"', "whisper-1"), ('name="stream"', "true"), SOUND)
    assert (asked.kind, asked.model, asked.stream) == ("transcription", "whisper-1", True)
    assert asked.worst_meters(tokens_in_default=1, tokens_out_default=1) == {"audio_ms": 3002 * 4 // 3}


def test_sound_that_is_metered_by_tokens_is_held_by_its_size():
    meters = form(('name="model"', "gpt-4o-transcribe"), SOUND).worst_meters(tokens_in_default=1, tokens_out_default=9)
    assert meters["audio_tokens_in"] == 3002 // AUDIO_BYTES_PER_TOKEN + 1
    assert meters["tokens_out"] == 9


def test_only_what_stands_between_the_forms_own_boundaries_is_read():
    decoy = '--decoy\r\nContent-Disposition: form-data; name="model"\r\n\r\ncheap\r\n--decoy--\r\n'
    real = '--real\r\nContent-Disposition: form-data; name="model"\r\n\r\ndear\r\n--real--\r\n' + decoy
    kind = 'Multipart/Form-Data; charset=utf-8; boundary="real"'
    assert asked_of("openai", "/v1/images/edits", "", (decoy + real).encode(), content_type=kind).model == "dear"
    assert asked_of("openai", "/v1/images/edits", "", (decoy + real).encode()).fault == "malformed_json"


def test_a_form_that_names_its_model_twice_has_a_fault():
    assert form(('name="model"', "cheap"), ('name="model"', "dear")).fault == "duplicate_key"
    assert form(('name="file"', "a"), ('name="file"', "b")).fault is None


def test_pictures_in_a_form_are_part_of_the_prompt():
    parts = [('name="model"', "gpt-image-1"), ('name="image[]"; filename="a.png"', "p"), ('name="n"', "3")]
    meters = form(*parts, path="/v1/images/edits").worst_meters(tokens_in_default=1, tokens_out_default=1)
    assert (meters["image_tokens_in"], meters["image_tokens_out"]) == (IMAGE_TOKENS, 3 * IMAGE_TOKENS_OUT)


def test_speech_is_held_by_its_characters():
    by_character = ask("openai", "/v1/audio/speech", {"model": "tts-1-hd", "input": "größer"})
    by_token = ask("openai", "/v1/audio/speech", {"model": "gpt-4o-mini-tts", "input": "größer"})
    assert by_character.worst_meters(tokens_in_default=1, tokens_out_default=1) == {"characters_in": 6}
    assert by_token.worst_meters(tokens_in_default=1, tokens_out_default=1)["audio_tokens_out"] == 30


def test_pictures_without_tokens_are_held_by_their_number():
    asked = ask("openai", "/v1/images/generations", {"model": "dall-e-3", "prompt": "x", "n": 2})
    assert asked.worst_meters(tokens_in_default=1, tokens_out_default=1) == {"images_generated": 2}
    path = "/v1beta/models/imagen-4.0-generate-001:predict"
    asked = ask("gemini", path, {"instances": [{"prompt": "x"}], "parameters": {"sampleCount": 4}})
    assert asked.worst_meters(tokens_in_default=1, tokens_out_default=1) == {"images_generated": 4}


# ── the bound of the prompt ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["hello", "héllo wörld", "日本語のテキスト", "🙂🙂🙂", '"quoted"\n\ttabs\\'])
def test_the_prompt_has_no_more_tokens_than_bytes(text):
    asked = chat(messages=[{"role": "user", "content": text}])
    assert asked.tokens_in_max >= len(text.encode())


def test_escaping_every_character_raises_no_bound():
    text = "日本語" * 50
    plain = {"model": "m", "messages": [{"role": "user", "content": text}]}
    raw = asked_of("openai", CHAT, "", json.dumps(plain, ensure_ascii=False).encode())
    escaped = asked_of("openai", CHAT, "", json.dumps(plain, ensure_ascii=True).encode())
    assert raw.tokens_in_max == escaped.tokens_in_max


def test_tools_are_part_of_the_prompt():
    tool = {"type": "function", "function": {"name": "look", "description": "d" * 500, "parameters": {}}}
    assert chat(tools=[tool]).tokens_in_max >= chat().tokens_in_max + 500 + TOOLS_TOKENS


def test_a_pictures_bytes_are_no_text():
    url = "data:image/png;base64," + "A" * 400_000
    asked = chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])
    assert asked.prompt.image_tokens == IMAGE_TOKENS
    assert asked.prompt.tokens < 500 + MARKERS_TOKENS
    assert asked.worst_meters(tokens_in_default=1, tokens_out_default=1)["image_tokens_in"] == IMAGE_TOKENS


def test_a_small_model_counts_a_picture_as_more():
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": [part]}]}
    assert ask("openai", CHAT, body).prompt.image_tokens == 48_200


@pytest.mark.parametrize(
    ("part", "kind", "tokens"),
    [
        ({"type": "input_image", "image_url": "data:image/png;base64,AAAA"}, "image", IMAGE_TOKENS),
        ({"type": "input_image", "file_id": "file_1"}, "image", IMAGE_TOKENS),
        ({"type": "input_audio", "input_audio": {"data": "A" * 6400}}, "audio", 4801 // AUDIO_BYTES_PER_TOKEN + 1),
    ],
)
def test_media_of_openai(part, kind, tokens):
    asked = chat(messages=[{"role": "user", "content": [part]}])
    assert getattr(asked.prompt, f"{kind}_tokens") == tokens


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}, DOCUMENT_TOKENS_LEAST),
        ({"type": "file", "file": {"file_data": "A" * 80_000}}, 60_001),
        ({"type": "input_file", "file_data": "A" * 8_000_000}, FILE_TOKENS),
        ({"type": "input_file", "file_id": "file_1"}, FILE_TOKENS),
        ({"type": "input_file", "file_url": "https://example.com/a.pdf"}, FILE_TOKENS),
    ],
)
def test_documents_count_into_the_prompt(part, tokens):
    asked = chat(messages=[{"role": "user", "content": [part]}])
    assert tokens <= asked.prompt.tokens < tokens + 500


def test_media_of_anthropic():
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 9000}}
    named = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
    text = {"type": "document", "source": {"type": "text", "data": "words " * 100}}
    assert messages(picture).prompt.image_tokens == IMAGE_TOKENS
    assert messages(picture).prompt.tokens < 1000
    assert messages(named).prompt.tokens >= FILE_TOKENS
    assert 600 <= messages(text).prompt.tokens < 1000


def test_media_of_gemini():
    assert generate({"inlineData": {"mimeType": "image/png", "data": "A" * 9000}}).prompt.image_tokens == IMAGE_TOKENS
    assert generate({"inline_data": {"mime_type": "audio/mp3", "data": "A" * 64}}).prompt.audio_tokens == 4
    assert generate({"fileData": {"fileUri": "https://youtu.be/x"}}).prompt.video_tokens == MEDIA_TOKENS
    assert generate({"fileData": {"mimeType": "application/pdf", "fileUri": "f"}}).prompt.tokens >= FILE_TOKENS


def test_media_in_a_tools_answer_is_found():
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    assert messages({"type": "tool_result", "tool_use_id": "t", "content": [picture]}).prompt.image_tokens > 0


def test_a_medium_whose_names_are_escaped_is_found():
    body = b'{"model":"m","messages":[{"content":[{"ty\\u0070e":"im\\u0061ge_url","im\\u0061ge_url":{"url":"x"}}]}]}'
    assert asked_of("openai", CHAT, "", body).prompt.image_tokens == IMAGE_TOKENS


@pytest.mark.parametrize(
    "members",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "mcp", "server_url": "https://example.com"}]},
        {"tools": [{"type": "something_new"}]},
    ],
)
def test_a_prompt_that_grows_at_the_provider_has_no_bound(members):
    asked = ask("openai", "/v1/responses", {"model": "m", "input": "x", **members})
    assert asked.tokens_in_max is None
    assert asked.worst_meters(tokens_in_default=777, tokens_out_default=1)["tokens_in"] == 777


def test_hosted_tools_of_the_other_providers_leave_the_prompt_unbounded():
    assert messages(tools=[{"type": "web_search_20250305", "name": "web_search"}]).tokens_in_max is None
    assert generate({"text": "x"}, tools=[{"googleSearch": {}}]).tokens_in_max is None
    assert generate({"text": "x"}, cachedContent="cachedContents/1").tokens_in_max is None
    assert messages(tools=[{"name": "mine", "input_schema": {}}]).tokens_in_max is not None
    assert messages(tools=[{"type": "bash_20250124", "name": "bash"}]).tokens_in_max is not None
    assert generate({"text": "x"}, tools=[{"functionDeclarations": []}]).tokens_in_max is not None


def test_tokens_that_may_be_written_to_a_cache_are_held_at_its_price_too():
    short = messages({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}})
    long = messages({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}})
    assert short.cache_meter == "cache_write_5m_tokens"
    meters = long.worst_meters(tokens_in_default=1, tokens_out_default=1)
    assert meters["cache_write_1h_tokens"] == meters["tokens_in"]
    assert messages({"type": "text", "text": "x"}).cache_meter is None


def test_media_in_the_answer_are_held_at_their_price_too():
    spoken = chat(modalities=["text", "audio"], max_tokens=50).worst_meters(tokens_in_default=1, tokens_out_default=1)
    drawn = ask("openai", "/v1/images/generations", {"model": "gpt-image-1", "prompt": "a cat", "n": 2})
    assert spoken["audio_tokens_out"] == spoken["tokens_out"] == 50
    meters = drawn.worst_meters(tokens_in_default=1, tokens_out_default=1)
    assert meters["image_tokens_out"] == 2 * IMAGE_TOKENS_OUT
    assert "tokens_out" not in meters


# ── what should not go on ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("body", [b"", b"{", b"not json", b"[1]", b'"x"', b"\xff\xfe", b'{"a":' * 2000, b"NaN"])
def test_a_body_that_is_no_json_object_has_a_fault(body):
    assert asked_of("openai", CHAT, "", body).fault == "malformed_json"
    assert asked_of("openai", "/v1/something/new", "", body).fault is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"cheap","messages":[],"model":"dear"}',
        b'{"model":"cheap","mod\\u0065l":"dear"}',
        b'{"stream":true,"a":{"b":[1,2]},"stream":false}',
        b'{"max_tokens":1,"max_tokens":100000}',
        b'{"a":[{"b":{}}],"n":1, "n" : 9}',
        b'{"messages":[{"content":"a"}],"messages":[{"content":"much more"}]}',
        b'{"generationConfig":{"maxOutputTokens":1,"maxOutputTokens":9}}',
        b'{"stream_options":{"include_usage":true,"include_usage":false}}',
    ],
)
def test_a_member_that_is_there_twice_is_a_fault(body):
    assert asked_of("openai", CHAT, "", body).fault == "duplicate_key"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","tools":[{"model":1},{"model":2}]}',
        b'{"model":"m","messages":[{"content":"\\"model\\":1"}],"metadata":{"model":"x"}}',
        b'{ "model" : "m", "temperature": 1e-5, "top_p": 0.10, "a": [ {"n": 1}, {"n": 2} ] }',
        b'{"model":"m","messages":[{"content":"caf\\u00e9 \\u0041"}]}',
    ],
)
def test_the_same_name_elsewhere_is_no_fault(body):
    assert not names_twice(body)
