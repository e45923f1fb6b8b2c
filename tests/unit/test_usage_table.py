"""The table of extractors is the pinned source's, with our corrections on top."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from tallystick.app.cost import load_extractors
from tallystick.app.extractors_compile import compile_extractors
from tallystick.usage.detect import detect, fitting_extractor, provider_id, provider_of_host
from tallystick.usage.meters import METERS
from tallystick.usage.table import parse_path, parse_table

FOLDER = resources.files("tallystick.usage")
EXTRACTORS = (FOLDER / "extractors.json").read_bytes()


def test_the_committed_table_is_what_the_pinned_source_compiles_to_byte_for_byte() -> None:
    assert compile_extractors().encode() == EXTRACTORS


def test_every_api_that_the_source_reads_is_read_here() -> None:
    table = load_extractors()
    for row in json.loads(EXTRACTORS)["extractors"]:
        assert table.get(row["provider"], row["flavor"]).provider == row["provider"]
    assert table.source == "genai-prices 0.2.3"


def test_paths_choose_items_of_arrays_by_a_field() -> None:
    assert parse_path("a.b[ttl=5m].c") == ("a", "b", ("ttl", "5m"), "c")


@pytest.mark.parametrize(
    "corrections",
    [
        {"additions": [], "corrections": [{"why": "x", "providers": ["nobody"], "add": []}]},
        {"additions": [], "corrections": [{"why": "x", "providers": ["openai"], "change": [["a", "b", "optional"]]}]},
        {"additions": [{"why": "x", "provider": "openai", "flavor": "chat", "like": ["openai", "chat"]}]},
        {"additions": [], "corrections": [{"why": "x", "add": [["a", "b", "sometimes"]]}]},
    ],
)
def test_a_correction_that_no_longer_fits_the_source_fails_when_it_is_loaded(corrections: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"corrects nothing|nothing to change|twice|unknown mode"):
        parse_table(EXTRACTORS, json.dumps({"corrections": [], **corrections}).encode())


@pytest.mark.parametrize(
    ("body", "provider", "flavor"),
    [
        ({"model": "gpt-4o", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}, "openai", "chat"),
        ({"model": "text-embedding-3-small", "usage": {"prompt_tokens": 1}}, "openai", "embeddings"),
        (
            {
                "model": "gpt-5",
                "usage": {"input_tokens": 1, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 0}},
            },
            "openai",
            "responses",
        ),
        (
            {
                "model": "claude-opus-4-8",
                "usage": {"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 0},
            },
            "anthropic",
            "default",
        ),
        (
            {
                "model": "anthropic.claude-opus-4-8-v1:0",
                "usage": {"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 0},
            },
            "aws",
            "anthropic",
        ),
        ({"modelVersion": "gemini-2.5-pro", "usageMetadata": {"promptTokenCount": 1}}, "google", "default"),
        ({"usage": {"inputTokens": 1, "outputTokens": 1}}, "aws", "default"),
        (
            {"model": "mistral-large-latest", "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
            "mistral",
            "default",
        ),
        ({"model": "grok-4", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}, "x-ai", "default"),
        (
            {"model": "llama-3.3-70b", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "queue_time": 1}},
            "groq",
            "default",
        ),
        ({"model": "qwen/qwen3-32b", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}, "openrouter", "chat"),
        ({"model": "voyage-3", "usage": {"total_tokens": 4}}, "voyageai", "embeddings"),
        ({"model": "mistral-ocr-latest", "usage_info": {"pages_processed": 3}}, "mistral", "ocr"),
        (
            {"model": "mistral-ocr-latest", "usage_info": {"pages_processed": 3}, "document_annotation": "{}"},
            "mistral",
            "ocr_annotated",
        ),
    ],
)
def test_the_shape_of_an_answer_and_its_models_name_tell_whose_it_is(
    body: dict[str, object], provider: str, flavor: str
) -> None:
    assert detect(body) == provider
    extractor = fitting_extractor(load_extractors(), body, provider, None)
    assert extractor is not None
    assert extractor.flavor == flavor


def test_usual_names_and_hosts_of_providers_are_known() -> None:
    table = load_extractors()
    for name in ("Bedrock", "xai", "vertex", "moonshot", "gemini"):
        assert provider_id(name) in table.rows
    assert provider_of_host("bedrock-runtime.us-east-1.amazonaws.com") == "aws"
    assert provider_of_host("my.openai.azure.com:443") == "azure"
    assert provider_of_host("example.org") is None


def test_every_class_that_an_extractor_fills_reaches_a_meter() -> None:
    from tallystick.usage.inclusion import disjoint_meters
    from tallystick.usage.reading import Reported

    wholes = {"input_tokens": 10, "output_tokens": 10}
    for flavors in load_extractors().rows.values():
        for extractor in flavors.values():
            for field in extractor.fields:
                if field.usage_key.endswith("_text_tokens") or "_text_" in field.usage_key:
                    continue  # text is what is left of a whole
                # A tool's share of a kind comes with that kind.
                kind = {field.usage_key.replace("_tool_", "_"): 10} if "_tool_" in field.usage_key else {}
                meters = disjoint_meters(Reported({**wholes, **kind, field.usage_key: 10}, {}))
                assert sum(meters.values()) >= 10
                assert set(meters) <= set(METERS)
                if field.usage_key not in wholes:
                    assert meters != {"tokens_in": 10, "tokens_out": 10}, field
