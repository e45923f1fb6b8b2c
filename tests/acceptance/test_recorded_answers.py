"""Every recorded answer and stream goes through, and every difference from the recorded prices has a reason."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from genai_prices import calc_price
from genai_prices.data import providers as source_providers

from tallystick.app.answers import Terms
from tallystick.app.cards import load_card_history
from tallystick.app.cost import AnswerPricer, PricedAnswer, load_extractors
from tallystick.core.errors import BadInput
from tallystick.core.money import PICO_PER_USD
from tallystick.usage.extract import decode_body
from tallystick.usage.meters import METERS, PROMPT_METERS

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the recorded answers are not beside the repository")

AT = datetime(2026, 8, 15, 12, tzinfo=UTC)
"""When the recorded prices were computed."""

REASONS = {
    "iterations": "usage.iterations holds samplings that the counts at the top leave out",
    "the provider's own cost": "OpenRouter states what it charged; the recorded price is another program's estimate",
    "web searches": "searches that the provider ran are billed, and the recorded reading leaves them out",
    "web searches without a rate": "the same, where no rate is known for them: unpriced rather than free",
    "the source changed since": "the source's later release, which our card is made from, gives our amount",
    "name resolved": "the name is one of the card's with a vendor, a path or a snapshot around it",
    "name not trusted": "the source takes any name with that beginning; we never price one model as another",
}
STRICT_NAMES = {
    (
        "deepseek",
        "deepseek-r1-distill-llama-70b",
    ): "a distilled Llama is not DeepSeek R1, whose price the source gives it",
}
SOURCE = {provider.id: provider for provider in source_providers}


@pytest.fixture(scope="module")
def pricer() -> AnswerPricer:
    return AnswerPricer(load_card_history().latest, load_extractors(), lambda: AT)


def rows(name: str) -> Iterator[dict[str, Any]]:
    with (DATA / name).open("rb") as file:
        yield from map(decode_body, file)


def readings() -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, str]]]:
    """(body, recorded usage, recorded extractor with its prices) of every way of reading every answer."""
    for row in rows("provider_responses.jsonl"):
        for reading in row["extracted"]:
            for extractor in reading["extractors"]:
                yield row["body"], reading["usage"], extractor


def test_every_reading_of_every_recorded_answer_costs_what_was_recorded_or_differs_for_a_stated_reason(
    pricer: AnswerPricer,
) -> None:
    found: Counter[str] = Counter()
    unexplained = []
    for body, _, extractor in readings():
        answer = pricer.price_value(body, Terms(extractor["provider_id"], extractor["api_flavor"]))
        recorded = recorded_usd(extractor)
        if usd(answer) == recorded:
            found["the same"] += 1
            continue
        reason = reason_for(pricer, body, extractor, answer, recorded)
        if reason is None:
            unexplained.append((extractor, body, usd(answer)))
        else:
            found[reason] += 1
    assert not unexplained, unexplained[:5]
    assert set(found) == {"the same", *REASONS}, "a reason that explains nothing is out of date"
    assert dict(found) == documented_differences(), "docs/extraction.md states other numbers"


def documented_differences() -> dict[str, int]:
    """The numbers that docs/extraction.md states for each reason."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "extraction.md").read_text()
    numbers = {reason: int(number) for number, reason in re.findall(r"^\| (\d+) \| \*\*(.+?)\*\*", text, re.MULTILINE)}
    same = re.search(r"([\d,]+) come to the same amount", text)
    return {**numbers, "the same": int(same[1].replace(",", "")) if same else 0}


def reason_for(
    pricer: AnswerPricer,
    body: dict[str, Any],
    extractor: dict[str, str],
    answer: PricedAnswer,
    recorded: Fraction | None,
) -> str | None:
    ours, used = usd(answer), answer.used
    if len(used.parts) > 1 and ours == sum(source_usd(part, extractor, answer) or 0 for part in iterations(body)):
        return "iterations"
    if used.provider == "openrouter" and "cost" in body["usage"] and ours == Fraction(body["usage"]["cost"]):
        return "the provider's own cost"
    searches = [line for line in answer.cost.lines if line.meter == "web_searches"]
    if searches and ours is None and recorded is not None:
        return "web searches without a rate"
    if searches and recorded is not None and ours == recorded + Fraction(searches[0].amount_pico or 0, PICO_PER_USD):
        return "web searches"
    if ours is not None and ours == source_usd(body, extractor, answer):
        return "the source changed since"
    if ours is not None and recorded is None and same_model(answer.cost.model, used.model or ""):
        return "name resolved"
    if ours is None and recorded is not None and (used.provider, used.model) in STRICT_NAMES:
        return "name not trusted"
    return None


def test_usage_of_every_recorded_answer_is_what_was_recorded_or_more_of_what_the_answer_states() -> None:
    """Wholes and cache classes are the same but for iterations; finer classes are only ever split off from them."""
    differences: Counter[str] = Counter()
    table = load_extractors()
    pricer = AnswerPricer(load_card_history().latest, table, lambda: AT)
    for body, recorded, extractor in readings():
        used = pricer.price_value(body, Terms(extractor["provider_id"], extractor["api_flavor"])).used
        ours = inclusive(used.meters)
        for key in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"):
            if ours[key] == recorded.get(key, 0):
                continue
            reason = usage_reason(body, extractor, key, ours, recorded, len(used.parts))
            assert reason, (extractor, key, ours, recorded, body)
            differences[reason] += 1
    assert set(differences) == {"iterations", "xAI: inside the total", "stated, and not read by the source then"}


def usage_reason(
    body: Mapping[str, Any],
    extractor: dict[str, str],
    key: str,
    ours: Mapping[str, int],
    recorded: Mapping[str, int],
    parts: int,
) -> str | None:
    usage = body.get("usage", {})
    if parts > 1:
        return "iterations"
    if extractor["provider_id"] == "x-ai" and key == "output_tokens":
        inside = usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
        return "xAI: inside the total" if inside and ours[key] == usage["completion_tokens"] else None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    stated = {"cache_read_tokens": "cached_tokens", "cache_write_tokens": "cache_write_tokens"}
    if key in stated and key not in recorded and ours[key] == details.get(stated[key]):
        return "stated, and not read by the source then"
    return None


def test_openrouter_answers_cost_what_openrouter_charged(pricer: AnswerPricer) -> None:
    charged = 0
    for row in rows("provider_responses.jsonl"):
        body = row["body"]
        if "cost" in body.get("usage", {}):
            answer = pricer.price_value(body, Terms())
            assert answer.used.provider == "openrouter"
            assert usd(answer) == Fraction(body["usage"]["cost"]), body
            charged += 1
    assert charged == 23


def test_lines_of_every_recorded_answer_add_up_to_its_cost(pricer: AnswerPricer) -> None:
    for body, _, extractor in readings():
        answer = pricer.price_value(body, Terms(extractor["provider_id"], extractor["api_flavor"]))
        amounts = [line.amount_pico for line in answer.cost.lines]
        if answer.cost.total_pico is not None:
            assert sum(amount or 0 for amount in amounts) == answer.cost.total_pico
        else:
            assert answer.cost.status == "unpriced"
            assert answer.cost.reason


def test_every_recorded_answer_is_read_without_being_told_whose_it_is(pricer: AnswerPricer) -> None:
    """The recordings say in their names who answered; a model that only a host names is left to the caller."""
    same = ("anthropic", "cohere", "google", "groq", "mistral", "openrouter", "openai", "zai")
    told = {"bedrock": "aws", "gemini": "google", **{name: name for name in same}}
    checked = 0
    for row in rows("provider_responses.jsonl"):
        body = row["body"]
        detected = pricer.price_value(body, Terms()).used.provider
        recording = body["file"].rpartition("/")[2]
        matrix = re.search(r"test_tool_choice_matrix\[.*-(\w+?)(_responses)?\]", recording)
        if matrix and matrix[1] in told:
            assert detected == told[matrix[1]], body
            checked += 1
    assert checked > 50


def test_every_recorded_stream_is_final_and_says_who_answered(pricer: AnswerPricer) -> None:
    statuses: Counter[str] = Counter()
    for row in rows("provider_streams.jsonl"):
        answer = pricer.price_value(row, Terms())
        statuses[answer.used.status] += 1
        assert answer.used.meters, row["test"]
        assert answer.cost.lines
    assert statuses == {"final": 47}


def test_a_recorded_stream_that_is_cut_anywhere_is_never_final_without_its_usage(pricer: AnswerPricer) -> None:
    for row in rows("provider_streams.jsonl"):
        whole = pricer.price_value(row, Terms())
        size = len(row["sse"])
        for end in range(0, size, max(size // 12, 1)):
            with suppress(BadInput):  # nothing of an answer was in it yet
                cut = pricer.price_value({**row, "sse": row["sse"][:end]}, Terms())
                if cut.used.status != "final":
                    continue
                assert cut.used.meters == whole.used.meters
                assert cut.cost.total_pico == whole.cost.total_pico


def test_recorded_streams_cost_what_the_same_usage_costs_at_the_source(pricer: AnswerPricer) -> None:
    """An independent reading: the last usage object of each stream, priced by the source itself."""
    compared = 0
    for row in rows("provider_streams.jsonl"):
        provider, flavor = {"api.openai.com": ("openai", None), "api.mistral.ai": ("mistral", "default")}.get(
            row["host"], (None, None)
        )
        if provider is None or "search_call" in row["sse"]:
            continue
        flavor = flavor or ("responses" if row["path"].endswith("/responses") else "chat")
        usage, _ = json.JSONDecoder().raw_decode(row["sse"], row["sse"].rindex('"usage":{') + len('"usage":'))
        body = {"model": row["request"]["model"], "usage": usage}
        answer = pricer.price_value(row, Terms())
        assert usd(answer) == source_usd(body, {"provider_id": provider, "api_flavor": flavor}, answer)
        compared += 1
    assert compared == 24


def test_every_recorded_refusal_is_told_apart_from_an_answer(pricer: AnswerPricer) -> None:
    refused = 0
    for row in rows("provider_errors.jsonl"):
        with pytest.raises(BadInput) as raised:
            pricer.price_value(row, Terms())
        assert raised.value.code == "provider_error", row
        refused += 1
    assert refused == 57


def usd(answer: PricedAnswer) -> Fraction | None:
    return None if answer.cost.total_pico is None else Fraction(answer.cost.total_pico, PICO_PER_USD)


def recorded_usd(extractor: Mapping[str, str]) -> Fraction | None:
    if "total_price" in extractor:
        return Fraction(extractor["total_price"])
    if "input_price" not in extractor:
        return None
    return Fraction(extractor["input_price"]) + Fraction(extractor["output_price"])


def iterations(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The samplings of an answer, each as an answer of its own."""
    return [
        {"model": item.get("model", body["model"]), "usage": item}
        for item in body.get("usage", {}).get("iterations", ())
    ]


def source_usd(body: Mapping[str, Any], extractor: Mapping[str, str], answer: PricedAnswer) -> Fraction | None:
    """What the pinned source reads and computes, to the pico-USD; None when it cannot."""
    provider = SOURCE[extractor["provider_id"]]
    plain = json.loads(json.dumps(body, default=float))
    try:
        model, usage = provider.extract_usage(plain, api_flavor=extractor["api_flavor"])
        price = calc_price(usage, model or "", provider_id=provider.id, genai_request_timestamp=answer.at)
    except (LookupError, ValueError):
        return None
    return Fraction(round(Fraction(price.total_price) * PICO_PER_USD), PICO_PER_USD)


def inclusive(meters: Mapping[str, int]) -> dict[str, int]:
    """Our meters in the source's classes, where a whole contains its parts."""
    prompt = PROMPT_METERS
    completion = {name for name, meter in METERS.items() if meter.unit == "token" and not meter.prompt}
    return {
        "input_tokens": sum(quantity for name, quantity in meters.items() if name in prompt),
        "output_tokens": sum(quantity for name, quantity in meters.items() if name in completion),
        "cache_read_tokens": sum(quantity for name, quantity in meters.items() if name.startswith("cache_read")),
        "cache_write_tokens": sum(quantity for name, quantity in meters.items() if name.startswith("cache_write")),
    }


def same_model(resolved: str, named: str) -> bool:
    """Whether two names are one model but for vendor, path, date and letter case."""

    def core(name: str) -> str:
        return re.sub(r"-20\d\d-?\d\d-?\d\d$", "", name.lower().rpartition("/")[2])

    return core(resolved) == core(named)
