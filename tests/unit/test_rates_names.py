"""A name means a model for certain, or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tallystick.app.cards import load_card_history
from tallystick.rates.names import strength

CARD = load_card_history().latest
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


@pytest.mark.parametrize(
    ("provider", "name", "expected"),
    [
        ("openai", "gpt-4o-2024-08-06", ("openai", "gpt-4o")),
        ("OpenAI", " GPT-4o ", ("openai", "gpt-4o")),
        ("openai", "openai/gpt-4o", ("openai", "gpt-4o")),
        ("openai", "gpt-5-20250807", ("openai", "gpt-5")),
        ("openai", "computer-use-preview-2025-03-11", ("openai", "computer-use")),
        ("openai", "ft:gpt-4o-2024-08-06:acme::abc123", ("openai", "ft:gpt-4o")),
        ("anthropic", "claude-sonnet-4-5-20250929", ("anthropic", "claude-sonnet-4-5")),
        ("anthropic", "claude-sonnet-4-20250514", ("anthropic", "claude-sonnet-4-0")),
        ("anthropic", "claude-opus-4-6", ("anthropic", "claude-opus-4-6")),
        ("google", "models/gemini-2.5-pro", ("google", "gemini-2.5-pro")),
        ("google", "publishers/google/models/gemini-2.5-pro", ("google", "gemini-2.5-pro")),
        (
            "google-vertex",
            "projects/p/locations/us/publishers/google/models/gemini-2.5-flash",
            ("google", "gemini-2.5-flash"),
        ),
        ("google", "gemini-2.0-flash-001", ("google", "gemini-2.0-flash")),
        ("google", "claude-opus-4-6@20260205", ("google", "claude-opus-4-6")),
        (
            "bedrock",
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            ("aws", "regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ),
        (
            "aws",
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            ("aws", "global.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ),
        ("aws", "eu.amazon.nova-lite-v1:0", ("aws", "amazon.nova-lite-v1:0")),
        (
            "aws",
            "arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-1-8b-instruct-v1:0",
            ("aws", "meta.llama3-1-8b-instruct-v1:0"),
        ),
        ("azure", "gpt-4.1-2025-04-14", ("openai", "gpt-4.1")),
        ("azure", "claude-opus-4-6", ("anthropic", "claude-opus-4-6")),
        ("openrouter", "openai/gpt-4o", ("openrouter", "openai/gpt-4o")),
        (None, "gpt-4o-2024-08-06", ("openai", "gpt-4o")),
        (None, "anthropic/claude-sonnet-4-5", ("anthropic", "claude-sonnet-4-5")),
        (None, "claude-sonnet-4-5", ("anthropic", "claude-sonnet-4-5")),
        ("litellm", "openai/gpt-4o", ("openai", "gpt-4o")),
        ("anthropic", "claude-2.1", ("anthropic", "claude-2")),
        ("azure", "gpt-5-chat-2025-08-07", ("openai", "gpt-5")),
        ("azure.ai.openai", "o3-mini-2025-01-31", ("azure", "o3-mini")),
        ("bedrock", "bedrock/eu.amazon.nova-lite-v1:0", ("aws", "amazon.nova-lite-v1:0")),
        ("gcp.gen_ai", "gemini/gemini-2.5-pro", ("google", "gemini-2.5-pro")),
        ("google", "claude-3-5-sonnet-v2@20241022", ("google", "claude-3-5-sonnet")),
        ("google", "claude-opus-4-6@default", ("google", "claude-opus-4-6")),
        ("google", "models/gemini-2.5-pro-preview-05-06", ("google", "gemini-2.5-pro")),
        ("grok", "grok-4", ("x-ai", "grok-4-0709")),
        ("mistral", "open-mistral-nemo-2407", ("mistral", "mistral-nemo")),
        ("openai", "gpt-4o-realtime-preview-2024-12-17", ("openai", "gpt-4o-realtime-preview")),
        ("open-router", "openai/gpt-4o", ("openrouter", "openai/gpt-4o")),
        (None, "bedrock/us.anthropic.claude-opus-4-6-v1", ("aws", "regional.anthropic.claude-opus-4-6-v1:0")),
        (None, "us.anthropic.claude-opus-4-6-v1", ("aws", "regional.anthropic.claude-opus-4-6-v1:0")),
        (None, "claude-opus-4@20250514", ("google", "claude-4-opus")),
        (None, "deepseek/deepseek-r1:free", ("openrouter", "deepseek/deepseek-r1:free")),
        (None, "ft:gpt-4o-mini-2024-07-18:acme::id", ("openai", "ft:gpt-4o-mini")),
        (None, "sonar-pro", ("perplexity", "sonar-pro")),
        (None, "text-embedding-3-small", ("openai", "text-embedding-3-small")),
        (None, "vertex_ai/gemini-2.5-flash", ("google", "gemini-2.5-flash")),
        (None, "xai/grok-4", ("x-ai", "grok-4-0709")),
    ],
)
def test_names_that_providers_send_resolve(provider: str | None, name: str, expected: tuple[str, str]) -> None:
    assert CARD.resolve(provider, name) == expected


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("anthropic", "claude-sonnet-4-9"),
        ("anthropic", "claude-sonnet-4-5-ultra"),
        ("mistral", "mistral-small-2402"),  # Mistral's year and month name a version with a price of its own
        ("mistral", "mistral-small-2501"),
        ("anthropic", "my-claude-3-haiku"),
        ("openai", "gpt-4o-ultra"),
        ("openai", "gpt-4o-mini-2"),
        ("openai", "gpt-4o-2024-08-06-custom"),
        ("openai", "not-gpt-4o"),
        ("google", "gemini-2.5-pro-max"),
        ("google", "gemini-2.5-pro-tts-max"),
        ("google", "claude-4-5-opus-next"),
        ("aws", "evil.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("aws", "arn:aws:bedrock:us-east-1:1:custom-model/meta.llama3-1-8b-instruct-v1:0"),
        ("azure", "o4-mini-ultra"),
        ("deepseek", "deepseek-r1-distill-llama-70b"),
        ("google", "gemini-2.5-pro-preview-12-31"),
        ("google", "gemini-1.5-flash-8b"),
        ("google", "claude-3-5-sonnet-v3@20250101"),
        ("mistral", "mistral-large-2402"),
        ("openai", "gpt-4o-realtime-preview-2024-10-01"),
        ("openrouter", "openai/gpt-4o:nobody-knows"),
        ("nobody", "gpt-4o"),
        (None, "openai/gpt-5:free"),
        (None, "evil.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        (None, "my-tool"),
        (None, ""),
        ("openai", ""),
        ("openai", "gpt-4o" + "-" * 5000),
    ],
)
def test_a_name_that_only_looks_like_a_model_is_nobodys(provider: str | None, name: str) -> None:
    assert CARD.resolve(provider, name) is None


def test_every_listed_model_is_found_by_its_own_id() -> None:
    missed = [one for one, listed, _ in CARD.models() if listed and CARD.resolve(one.provider, one.model) != one]
    assert missed == []


def test_a_longer_clause_prevails_over_a_shorter_one() -> None:
    assert strength({"starts_with": "gpt-4o-mini"}, "gpt-4o-mini-2024-07-18") > 0
    assert strength({"starts_with": "gpt-4o"}, "gpt-4o-mini-2024-07-18") == 0
    assert strength({"equals": "a"}, "a") > strength({"contains": "abcdefgh"}, "abcdefgh")


@pytest.mark.parametrize("pattern", [r"^gemini-3\.5-flash-\d", r"gemini-3\.5-flash"])
def test_an_open_pattern_takes_no_other_model(pattern: str) -> None:
    assert strength({"regex": pattern}, "gemini-3.5-flash-001") > 0
    assert strength({"regex": pattern}, "gemini-3.5-flash-8b") == 0


# What the source prices by a generous clause, and we do not know.
NOT_RESOLVED = {
    ("deepseek", "deepseek-r1-distill-llama-70b"): "a distilled Llama, which the source takes for deepseek-reasoner",
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded answers lie beside the repository, and are not there")
def test_every_recorded_name_that_was_priced_resolves_or_has_a_reason() -> None:
    missed = set()
    for text in (SHARED / "provider_responses.jsonl").read_text().splitlines():
        answer = json.loads(text)
        for reading in answer["extracted"]:
            for extractor in reading["extractors"]:
                provider, model = extractor["provider_id"], answer.get("model") or answer["body"].get("model")
                if "input_price" in extractor and model and CARD.resolve(provider, model) is None:
                    missed.add((provider, model))
    assert missed == set(NOT_RESOLVED)
