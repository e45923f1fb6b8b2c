"""What holds for every answer: nothing is counted twice or lost, and a stream is the same however it is cut."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from nested_values import nested
from tallystick.app.cost import load_extractors
from tallystick.core.errors import BadInput
from tallystick.usage.extract import extract
from tallystick.usage.meters import METERS, PROMPT_METERS
from tallystick.usage.streams import UsageStream

TABLE = load_extractors()
COMPLETION_METERS = {name for name, meter in METERS.items() if meter.unit == "token" and not meter.prompt}
counts = st.integers(0, 1000)


def total(meters: dict[str, int], names: set[str] | frozenset[str]) -> int:
    return sum(quantity for name, quantity in meters.items() if name in names)


@given(counts, counts, counts, counts, counts, counts, counts)
def test_meters_of_a_chat_add_up_to_its_prompt_and_its_completion(
    prompt: int, cached: int, audio: int, image: int, completion: int, reasoning: int, spoken: int
) -> None:
    body = {
        "model": "gpt-4o",
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": audio, "image_tokens": image},
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": spoken},
        },
    }
    possible = max(cached, audio + image) <= prompt and reasoning + spoken <= completion
    if not possible:
        with pytest.raises(BadInput, match="more than the whole"):
            extract(TABLE, body, provider="openai", flavor="chat")
        return
    meters = extract(TABLE, body, provider="openai", flavor="chat").meters
    assert total(meters, PROMPT_METERS) == prompt
    assert total(meters, COMPLETION_METERS) == completion
    assert all(quantity > 0 for quantity in meters.values())
    audio_meters = {"audio_tokens_in", "cache_read_audio_tokens"}
    assert total(meters, audio_meters) == audio
    assert total(meters, {name for name in METERS if name.startswith("cache_read")}) == cached


@given(counts, counts, counts, counts, counts, counts)
def test_meters_of_a_message_add_up_to_input_and_cache_and_output(
    plain: int, read: int, short: int, long: int, rest: int, output: int
) -> None:
    usage = {
        "input_tokens": plain,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": short + long + rest,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": output,
    }
    meters = extract(TABLE, {"model": "claude-sonnet-4-6", "usage": usage}, provider="anthropic").meters
    assert total(meters, PROMPT_METERS) == plain + read + short + long + rest
    assert total(meters, COMPLETION_METERS) == output


modalities = st.dictionaries(st.sampled_from(["TEXT", "AUDIO", "IMAGE", "VIDEO", "DOCUMENT"]), counts, max_size=5)


@given(modalities, modalities, modalities, counts, st.data())
def test_meters_of_gemini_add_up_whatever_the_kinds(
    prompt: dict[str, int], tool: dict[str, int], output: dict[str, int], thoughts: int, data: st.DataObject
) -> None:
    def details(kinds: dict[str, int]) -> list[dict[str, Any]]:
        return [{"modality": kind, "tokenCount": count} for kind, count in kinds.items()]

    cached = {kind: data.draw(st.integers(0, count)) for kind, count in prompt.items()}
    usage = {
        "promptTokenCount": sum(prompt.values()),
        "promptTokensDetails": details(prompt),
        "cachedContentTokenCount": sum(cached.values()),
        "cacheTokensDetails": details(cached),
        "toolUsePromptTokenCount": sum(tool.values()),
        "toolUsePromptTokensDetails": details(tool),
        "candidatesTokenCount": sum(output.values()),
        "candidatesTokensDetails": details(output),
        "thoughtsTokenCount": thoughts,
    }
    meters = extract(TABLE, {"modelVersion": "gemini-2.5-pro", "usageMetadata": usage}).meters
    assert total(meters, PROMPT_METERS) == sum(prompt.values()) + sum(tool.values())
    assert total(meters, COMPLETION_METERS) == sum(output.values()) + thoughts
    assert meters.get("cache_read_audio_tokens", 0) == cached.get("AUDIO", 0)


texts = st.text(max_size=12)
endings = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A stream of one of the framings, with text that needs escaping and more than a byte a character."""
    pieces = draw(st.lists(texts, max_size=5))
    usage = {"prompt_tokens": draw(counts), "completion_tokens": draw(counts)}
    events: list[Any] = [{"model": "gpt-4o", "choices": [{"delta": {"content": piece}}]} for piece in pieces]
    if draw(st.booleans()):
        events.append({"model": "gpt-4o", "choices": [], "usage": usage})
    written = [json.dumps(event, ensure_ascii=draw(st.booleans())) for event in events]
    framing = draw(st.sampled_from(["sse", "lines", "array"]))
    end = draw(st.integers(0, 10_000))
    if framing == "array":
        return ("[" + ",\r\n".join(written) + "]").encode()[:end]
    ending = draw(endings)
    if framing == "lines":
        return ending.join(written).encode()[:end]
    done = f"data: [DONE]{ending}{ending}" if draw(st.booleans()) else ""
    text = f": comment{ending}{ending}".join(f"data: {line}{ending}{ending}" for line in written)
    return (text + done).encode()[:end]


def outcome(pieces: list[bytes]) -> Any:
    stream = UsageStream(TABLE, provider="openai")
    try:
        for piece in pieces:
            stream.feed(piece)
        return stream.finish()
    except BadInput as error:
        return error.as_dict()


@settings(max_examples=examples(100))
@given(streams(), st.lists(st.integers(0, 400), max_size=12))
def test_a_stream_is_the_same_however_its_bytes_are_cut(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]
    whole = outcome([data])
    assert outcome(pieces) == whole
    assert outcome([data[index : index + 1] for index in range(len(data))]) == whole


@given(st.binary(max_size=200), st.sampled_from([b"", b"data: ", b"{", b"[{", b"event: x\n"]))
def test_no_bytes_at_all_break_the_fold_with_anything_but_a_clear_error(data: bytes, head: bytes) -> None:
    assert outcome([head + data]) is not None


AROUND = (
    "model", "usage", "usageMetadata", "output", "candidates", "groundingMetadata", "webSearchQueries", "iterations",
    "type", "error", "message", "response", "service_tier", "cost", "is_byok", "choices", "delta", "x_groq", "metadata",
)  # fmt: skip
FIELDS = [field for flavors in TABLE.rows.values() for extractor in flavors.values() for field in extractor.fields]
NAMES = sorted({*AROUND, *(step for field in FIELDS for step in field.steps if isinstance(step, str))})
names = st.sampled_from(NAMES)
decimals = st.integers(-(10**20), 10**20).map(lambda number: Decimal(number).scaleb(number % 40 - 20))
leaves = st.sampled_from([None, False, True, *range(-3, 101)]) | decimals | texts
anything = nested(leaves, names, list_max=3, members_max=6)
bodies = st.dictionaries(names, anything, max_size=6)


@settings(max_examples=examples(100))
@given(bodies, st.sampled_from([None, *TABLE.rows]))
def test_no_answer_at_all_breaks_the_reading_with_anything_but_a_clear_error(
    body: dict[str, Any], provider: str | None
) -> None:
    try:
        used = extract(TABLE, body, provider=provider)
    except BadInput as error:
        assert error.next_step  # noqa: PT017 - an answer or a refusal, both are fine
    else:
        assert all(
            isinstance(quantity, int) and quantity > 0 for part in used.parts for quantity in part.meters.values()
        )


@given(st.lists(bodies, max_size=4))
def test_no_events_at_all_break_the_fold_with_anything_but_a_clear_error(events: list[dict[str, Any]]) -> None:
    assert outcome([f"data: {json.dumps(event, default=str)}\n\n".encode() for event in events]) is not None
