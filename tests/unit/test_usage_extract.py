"""What each provider's answer means: which classes contain which, and what the recorded readings miss."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tallystick.app.cost import load_extractors
from tallystick.core.errors import BadInput
from tallystick.usage.extract import Extracted, decode_body, extract

TABLE = load_extractors()


def read(body: dict[str, Any], provider: str | None = None, flavor: str | None = None) -> Extracted:
    return extract(TABLE, decode_body(json.dumps(body).encode()), provider=provider, flavor=flavor)


def refusal(body: dict[str, Any], provider: str | None = None, flavor: str | None = None) -> BadInput:
    with pytest.raises(BadInput) as raised:
        read(body, provider, flavor)
    return raised.value


def chat(**usage: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "usage": {"prompt_tokens": 100, "completion_tokens": 50, **usage}}


def claude(**usage: Any) -> dict[str, Any]:
    return {"model": "claude-sonnet-4-6", "usage": {"input_tokens": 10, "output_tokens": 5, **usage}}


def gemini(**usage: Any) -> dict[str, Any]:
    return {"modelVersion": "gemini-2.5-pro", "usageMetadata": usage}


def test_openai_prompt_contains_cached_and_audio_and_completion_contains_reasoning_and_audio() -> None:
    body = chat(
        prompt_tokens_details={"cached_tokens": 60, "audio_tokens": 30},
        completion_tokens_details={"reasoning_tokens": 20, "audio_tokens": 25},
    )
    assert read(body).meters == {
        "tokens_in": 10,
        "cache_read_tokens": 60,
        "audio_tokens_in": 30,
        "tokens_out": 5,
        "reasoning_tokens": 20,
        "audio_tokens_out": 25,
    }


def test_image_and_video_tokens_of_a_chat_are_metered_apart_from_text() -> None:
    body = chat(
        prompt_tokens_details={"image_tokens": 40, "video_tokens": 10}, completion_tokens_details={"image_tokens": 50}
    )
    assert read(body).meters == {"tokens_in": 50, "image_tokens_in": 40, "video_tokens_in": 10, "image_tokens_out": 50}


def test_cached_and_audio_tokens_that_cannot_lie_side_by_side_overlap_by_the_least_that_fits() -> None:
    body = chat(prompt_tokens_details={"cached_tokens": 80, "audio_tokens": 50})
    assert read(body).meters == {
        "cache_read_tokens": 50,
        "cache_read_audio_tokens": 30,
        "audio_tokens_in": 20,
        "tokens_out": 50,
    }


def test_anthropic_input_leaves_cached_tokens_out_and_lifetimes_split_the_writes() -> None:
    body = claude(
        cache_read_input_tokens=100,
        cache_creation_input_tokens=30,
        cache_creation={"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 15},
        server_tool_use={"web_search_requests": 2},
        output_tokens_details={"thinking_tokens": 4},
    )
    assert read(body).meters == {
        "tokens_in": 10,
        "cache_read_tokens": 100,
        "cache_write_tokens": 5,
        "cache_write_5m_tokens": 10,
        "cache_write_1h_tokens": 15,
        "tokens_out": 1,
        "reasoning_tokens": 4,
        "web_searches": 2,
    }


def test_gemini_prompt_contains_cached_candidates_exclude_thoughts_and_the_tool_prompt_is_separate() -> None:
    body = gemini(
        promptTokenCount=100,
        cachedContentTokenCount=40,
        candidatesTokenCount=20,
        thoughtsTokenCount=7,
        toolUsePromptTokenCount=9,
    )
    assert read(body).meters == {
        "tokens_in": 60,
        "cache_read_tokens": 40,
        "tool_prompt_tokens": 9,
        "tokens_out": 20,
        "reasoning_tokens": 7,
    }


def test_gemini_kinds_are_metered_in_the_prompt_the_cache_and_the_output() -> None:
    body = gemini(
        promptTokenCount=100,
        promptTokensDetails=[
            {"modality": "TEXT", "tokenCount": 20},
            {"modality": "AUDIO", "tokenCount": 50},
            {"modality": "DOCUMENT", "tokenCount": 30},
        ],
        cachedContentTokenCount=45,
        cacheTokensDetails=[{"modality": "AUDIO", "tokenCount": 40}, {"modality": "TEXT", "tokenCount": 5}],
        candidatesTokenCount=12,
        candidatesTokensDetails=[{"modality": "IMAGE", "tokenCount": 10}, {"modality": "TEXT", "tokenCount": 2}],
    )
    assert read(body).meters == {
        "tokens_in": 15,
        "cache_read_tokens": 5,
        "cache_read_audio_tokens": 40,
        "audio_tokens_in": 10,
        "image_tokens_in": 30,
        "tokens_out": 2,
        "image_tokens_out": 10,
    }


def test_a_tools_prompt_of_another_kind_is_metered_by_its_kind() -> None:
    body = gemini(
        promptTokenCount=10,
        toolUsePromptTokenCount=9,
        toolUsePromptTokensDetails=[{"modality": "IMAGE", "tokenCount": 6}, {"modality": "TEXT", "tokenCount": 3}],
    )
    assert read(body).meters == {"tokens_in": 10, "tool_prompt_tokens": 3, "image_tokens_in": 6}


def test_bedrock_converse_leaves_cached_tokens_out_of_its_input() -> None:
    usage = {
        "inputTokens": 10,
        "outputTokens": 5,
        "cacheReadInputTokens": 7,
        "cacheWriteInputTokens": 8,
        "cacheDetails": [{"ttl": "1h", "inputTokens": 8}],
    }
    used = read({"usage": usage})
    assert (used.provider, used.model) == ("aws", None)
    assert used.meters == {"tokens_in": 10, "cache_read_tokens": 7, "cache_write_1h_tokens": 8, "tokens_out": 5}


def test_deepseek_prompt_is_hit_plus_miss() -> None:
    usage = {
        "prompt_tokens": 30,
        "prompt_cache_hit_tokens": 20,
        "prompt_cache_miss_tokens": 10,
        "completion_tokens": 4,
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    used = read({"model": "deepseek-chat", "usage": usage})
    assert used.provider == "deepseek"
    assert used.meters == {"tokens_in": 10, "cache_read_tokens": 20, "tokens_out": 1, "reasoning_tokens": 3}


def test_xai_reasoning_lies_outside_of_the_completion_unless_its_total_says_otherwise() -> None:
    usage = {"prompt_tokens": 32, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 94}}
    outside = read({"model": "grok-4", "usage": {**usage, "total_tokens": 135}}, "x-ai", "chat")
    assert outside.meters == {"tokens_in": 32, "tokens_out": 9, "reasoning_tokens": 94}
    inside = read({"model": "grok-4", "usage": {**usage, "completion_tokens": 103, "total_tokens": 135}}, "xai", "chat")
    assert inside.meters == {"tokens_in": 32, "tokens_out": 9, "reasoning_tokens": 94}


def test_cohere_bills_its_billed_units() -> None:
    body = {"usage": {"billed_units": {"input_tokens": 3, "output_tokens": 2}, "tokens": {"input_tokens": 99}}}
    assert read(body).meters == {"tokens_in": 3, "tokens_out": 2}
    reranked = {"meta": {"billed_units": {"search_units": 1}}}
    assert read(reranked, "cohere").meters == {"rerank_searches": 1}


def test_transcription_tokens_of_sound_are_not_text() -> None:
    usage = {"input_tokens": 14, "input_token_details": {"text_tokens": 4, "audio_tokens": 10}, "output_tokens": 45}
    assert read({"model": "gpt-4o-transcribe", "usage": usage}, "openai").meters == {
        "tokens_in": 4,
        "audio_tokens_in": 10,
        "tokens_out": 45,
    }


def test_durations_become_whole_milliseconds() -> None:
    body = {"model": "whisper-1", "usage": {"type": "duration", "seconds": 9.2345}}
    assert read(body).meters == {"audio_ms": 9234}
    assert read({"model": "whisper-1", "usage": {"type": "duration", "seconds": 9}}).meters == {"audio_ms": 9000}


def test_pictures_that_an_image_model_puts_out_are_pictures_unless_it_says_text() -> None:
    usage = {"input_tokens": 30, "input_tokens_details": {"text_tokens": 10, "image_tokens": 20}, "output_tokens": 400}
    body = {"model": "gpt-image-1", "usage": usage}
    assert read(body, "openai", "images").meters == {"tokens_in": 10, "image_tokens_in": 20, "image_tokens_out": 400}


def test_a_compaction_and_an_adviser_on_another_model_are_part_of_the_usage() -> None:
    def sampling(**more: Any) -> dict[str, Any]:
        return {"type": "message", "input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 0, **more}

    body = claude(
        output_tokens=4,
        cache_read_input_tokens=0,
        output_tokens_details={"thinking_tokens": 3},
        iterations=[
            sampling(),
            sampling(type="advisor_message", model="claude-opus-4-8", input_tokens=70, output_tokens=8),
            sampling(type="compaction", input_tokens=900, output_tokens=60),
            sampling(),
        ],
    )
    parts = [(part.model, dict(part.meters)) for part in read(body).parts]
    assert parts == [
        (None, {"tokens_in": 5, "reasoning_tokens": 2}),
        (None, {"tokens_in": 5, "tokens_out": 1, "reasoning_tokens": 1}),
        ("claude-opus-4-8", {"tokens_in": 70, "tokens_out": 8}),
        (None, {"tokens_in": 900, "tokens_out": 60}),
    ]
    assert read(body).meters == {"tokens_in": 910, "tokens_out": 61, "reasoning_tokens": 3}


def test_iterations_that_do_not_add_up_to_the_top_lose_nothing_of_it() -> None:
    body = claude(
        cache_read_input_tokens=0,
        iterations=[
            {"type": "message", "input_tokens": 1, "output_tokens": 1},
            {"type": "compaction", "input_tokens": 100, "output_tokens": 10},
        ],
    )
    assert read(body).meters == {"tokens_in": 110, "tokens_out": 15}


@pytest.mark.parametrize(
    ("body", "context"),
    [
        ({**chat(), "service_tier": "default"}, {}),
        ({**chat(), "service_tier": "flex"}, {"service_tier": "flex"}),
        (claude(service_tier="standard", inference_geo="global"), {}),
        (claude(service_tier="batch", inference_geo="US"), {"service_tier": "batch", "inference_geo": "us"}),
        (claude(inference_geo="not_available", speed="fast"), {"speed": "fast"}),
        (gemini(promptTokenCount=1, serviceTier="STANDARD"), {}),
        (gemini(promptTokenCount=1, trafficType="ON_DEMAND"), {}),
        (gemini(promptTokenCount=1, trafficType="ON_DEMAND_FLEX"), {"service_tier": "flex"}),
        (
            gemini(promptTokenCount=1, trafficType="PROVISIONED_THROUGHPUT"),
            {"service_tier": "provisioned_throughput"},
        ),
        (
            {"usage": {"inputTokens": 1, "outputTokens": 1}, "serviceTier": {"type": "priority"}},
            {"service_tier": "priority"},
        ),
    ],
)
def test_the_tier_and_the_place_of_the_service_are_part_of_the_price(
    body: dict[str, Any], context: dict[str, str]
) -> None:
    assert read(body).price_context == context


def openrouter(**usage: Any) -> dict[str, Any]:
    return {"model": "openai/gpt-4o", **chat(cost_details={}, **usage), "provider": "OpenAI"}


def test_openrouters_own_cost_is_read_exactly_and_to_the_pico_usd() -> None:
    assert read(openrouter(cost=4e-05)).provider_cost_pico == 40_000_000
    assert read(openrouter(cost=0.0076509169000000005)).provider_cost_pico == 7_650_916_900
    assert read(openrouter(cost=0)).provider_cost_pico == 0
    assert read(openrouter()).provider_cost_pico is None


def test_with_a_key_of_our_own_the_cost_is_openrouters_fee_and_the_upstream_cost() -> None:
    byok = openrouter(is_byok=True, cost=0.001)
    assert read(byok).provider_cost_pico is None
    byok["usage"]["cost_details"] = {"upstream_inference_cost": 0.02}
    assert read(byok).provider_cost_pico == 21_000_000_000


def test_xai_states_its_cost_in_ticks() -> None:
    body = {"model": "grok-4", "usage": {**chat()["usage"], "total_tokens": 150, "cost_in_usd_ticks": 37756000}}
    used = read(body)
    assert (used.provider, used.provider_cost_pico) == ("x-ai", 3_775_600_000)


@pytest.mark.parametrize("cost", ["0.1", True, -1, 1e30, [1]])
def test_a_cost_that_is_no_amount_is_refused(cost: Any) -> None:
    error = refusal(openrouter(cost=cost))
    assert (error.code, error.where) == ("invalid_cost", "usage.cost")


def test_reasoning_that_openrouter_counts_with_another_tokenizer_stays_within_the_completion() -> None:
    body = openrouter(completion_tokens=10, completion_tokens_details={"reasoning_tokens": 11})
    assert read(body).meters == {"tokens_in": 100, "reasoning_tokens": 10}


def test_searches_of_a_response_are_counted_from_its_items_without_opened_pages() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 0}}
    output = [
        {"type": "web_search_call", "action": {"type": "search"}},
        {"type": "web_search_call", "action": {"type": "open_page"}},
        {"type": "web_search_call"},
        {"type": "file_search_call"},
        {"type": "message"},
    ]
    body = {"model": "gpt-5", "usage": usage, "output": output}
    assert read(body).meters == {"tokens_in": 1, "tokens_out": 1, "web_searches": 2, "storage_searches": 1}
    stated = {**body, "tool_usage": {"web_search": {"num_requests": 5}}}
    assert read(stated).meters["web_searches"] == 5


def test_grounding_is_billed_by_the_query_from_gemini_3_on_and_by_the_answer_before() -> None:
    body = {
        **gemini(promptTokenCount=1),
        "candidates": [{"groundingMetadata": {"webSearchQueries": ["one", "two", " "]}}],
    }
    assert read(body).meters["web_searches"] == 1
    assert read({**body, "modelVersion": "gemini-3-flash-preview"}).meters["web_searches"] == 2


@pytest.mark.parametrize(
    ("quantity", "said"),
    [
        (-1, "less than nothing"),
        (1.5, "not a whole number"),
        (3.0, "not a whole number"),
        (True, "not a number"),
        ("12", "not a number"),
        ([1], "not a number"),
        (10**12 + 1, "more than 10^12"),
        (10**30, "more than 10^12"),
    ],
)
def test_a_quantity_that_is_no_count_is_refused_by_the_name_of_its_field(quantity: Any, said: str) -> None:
    for body, where in (
        (chat(prompt_tokens=quantity), "usage.prompt_tokens"),
        (chat(prompt_tokens_details={"cached_tokens": quantity}), "usage.prompt_tokens_details.cached_tokens"),
    ):
        error = refusal(body)
        assert (error.code, error.where) == ("invalid_quantity", where)
        assert said in error.detail


def test_an_exponent_beyond_all_measure_is_refused_without_being_written_out() -> None:
    text = b'{"model": "gpt-4o", "usage": {"prompt_tokens": 1e999999999, "completion_tokens": 1}}'
    with pytest.raises(BadInput) as raised:
        extract(TABLE, decode_body(text))
    assert raised.value.code == "invalid_quantity"
    assert len(raised.value.detail) < 200


@pytest.mark.parametrize("exponent", ["1e999999999", "1e9999999999999999999999", "-1e9999999999999999999999"])
def test_a_cost_with_an_exponent_beyond_all_measure_is_refused(exponent: str) -> None:
    text = b'{"provider": "x", "model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": %s}}'
    with pytest.raises(BadInput) as raised:
        extract(TABLE, decode_body(text % exponent.encode()), provider="openrouter")
    assert raised.value.code in {"invalid_cost", "malformed_json"}


def test_a_duration_is_held_to_the_limit_of_what_it_is_metered_in() -> None:
    body = {"model": "whisper-1", "usage": {"type": "duration", "seconds": 10**9}}
    assert read(body).meters == {"audio_ms": 10**12}
    body["usage"] = {"type": "duration", "seconds": 10**9 + 0.5}
    assert refusal(body).code == "invalid_quantity"
    body["usage"] = {"type": "duration", "seconds": 10**9 + 1}
    assert refusal(body).code == "invalid_quantity"


def test_parts_that_exceed_their_whole_are_refused_with_the_fields_named() -> None:
    error = refusal(chat(completion_tokens_details={"reasoning_tokens": 51}))
    assert (error.code, error.where) == ("contradictory_usage", "usage.completion_tokens")
    assert "usage.completion_tokens_details.reasoning_tokens" in error.detail
    error = refusal(chat(prompt_tokens_details={"cached_tokens": 101}))
    assert (error.code, error.where) == ("contradictory_usage", "usage.prompt_tokens")
    error = refusal(claude(cache_creation_input_tokens=1, cache_creation={"ephemeral_5m_input_tokens": 2}))
    assert (error.code, error.where) == ("contradictory_usage", "usage.cache_creation_input_tokens")


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "The model does not exist", "code": "model_not_found"}},
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        {"message": "The provided model identifier is invalid."},
        {"detail": "Model nonexistent is not supported."},
        {"error": "invalid_api_key"},
    ],
)
def test_a_refusal_of_the_provider_is_told_apart_from_an_answer_without_usage(body: dict[str, Any]) -> None:
    assert refusal(body).code == "provider_error"
    assert refusal(body, "openai").code == "provider_error"


def test_an_answer_without_usage_says_so() -> None:
    assert refusal({"model": "gpt-4o", "choices": []}).code == "no_usage"
    assert refusal({"model": "gpt-4o", "usage": None}, "openai", "chat").code == "no_usage"
    assert refusal({"model": "gpt-4o", "usage": {}}, "openai").code == "missing_usage_field"


def test_an_unknown_provider_or_flavor_is_answered_with_the_choices() -> None:
    error = refusal(chat(), "opnai")
    assert error.code == "unknown_provider"
    assert "openai" in error.next_step
    error = refusal(chat(), "openai", "chatt")
    assert error.code == "unknown_flavor"
    assert "responses" in error.next_step


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "empty_input"),
        (b"\xef\xbb\xbf  \n", "empty_input"),
        (b'{"a": "\xff"}', "invalid_utf8"),
        (b'{"a": 1', "malformed_json"),
        (b'{"a": NaN}', "malformed_json"),
        (b"{} {}", "malformed_json"),
        (b"[" * 10_000, "too_deep"),
        (b'{"a":' * 10_000, "too_deep"),
        (b"[1, 2]", "not_an_object"),
        (b"42", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
    ],
)
def test_text_that_is_no_json_object_is_refused_by_kind(text: bytes, code: str) -> None:
    with pytest.raises(BadInput) as raised:
        decode_body(text)
    assert raised.value.code == code


def test_a_byte_order_mark_is_let_through_and_fractions_stay_exact() -> None:
    assert decode_body(b'\xef\xbb\xbf{"cost": 4e-05}') == {"cost": Decimal("0.00004")}
