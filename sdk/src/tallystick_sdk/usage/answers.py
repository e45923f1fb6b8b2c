"""What one answer used: its meters by sampling, what else decides the price, and the provider's own cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Final

from tallystick_sdk.usage.meters import disjoint
from tallystick_sdk.usage.reading import UsageUnreadable, at, items_of, part, text, word
from tallystick_sdk.usage.shapes import GEMINI, MESSAGES, RESPONSES, Shape, read_shape, shape_of

_STANDARD: Final = frozenset({"", "standard", "default", "auto", "on_demand", "unspecified", "none"})
_ANYWHERE: Final = frozenset({"", "global", "not_available", "none"})
_TIERS: Final = ("usage.service_tier", "service_tier", "usageMetadata.serviceTier", "usageMetadata.trafficType")
_SEARCHES: Final = {"web_search_call": "web_searches", "file_search_call": "storage_searches"}
_SUMMED: Final = ("in", "out", "cache_read", "cache_write")
_UNSTATED_OPENAI: Final = ("openai", "azure")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One sampling: its meters, and the model when it is not the answer's own."""

    meters: Mapping[str, int]
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Used:
    """What an answer used.

    Attributes:
        model: as the provider named it.
        parts: one for each sampling that is billed on its own.
        price_context: what else decides the price, as served.
        provider_cost_pico: what the provider itself says that it cost, in pico-USD.
        status: `final`, `partial` (it broke off) or `estimated` (no usage was stated).
    """

    model: str | None
    parts: tuple[Part, ...]
    price_context: Mapping[str, str] = field(default_factory=dict)
    provider_cost_pico: int | None = None
    status: str = "final"


def used_by(answer: Any, provider: str | None, status: str = "final") -> Used:
    """What an answer used.

    Args:
        answer: decoded JSON, or an object of a client library.
        provider: who answered: some count on their own, and some state their cost.
        status: `partial` for what a stream that broke off had stated.

    Raises:
        UsageUnreadable: `no_usage`, `invalid_quantity`, `contradictory_usage`.
    """
    shape = shape_of(answer)
    if shape is None:
        raise UsageUnreadable("no_usage", "the answer states no usage")
    model = text(part(answer, "model")) or text(part(answer, "modelVersion"))
    usage = at(answer, shape.root)
    stated = read_shape(shape, usage)
    if provider == "openrouter" and "out" in stated and shape.name == "chat":
        # Its count of reasoning comes from another tokenizer, and may be a token or two too many.
        stated["reasoning"] = min(stated.get("reasoning", 0), stated["out"])
    if provider == "x-ai" and shape.name == "chat" and not _is_reasoning_inside(usage, stated):
        stated["out"] = stated.get("out", 0) + stated.get("reasoning", 0)
    parts = [Part(meters=disjoint(one), model=other) for other, one in _samplings(shape, usage, stated, model)]
    searches = _searches(shape, provider, model, answer)
    if searches:
        parts[0] = Part(meters={**parts[0].meters, **searches})
    return Used(
        model=model,
        parts=tuple(parts),
        price_context=_price_context(answer),
        provider_cost_pico=_provider_cost_pico(provider, usage),
        status=status,
    )


def refusal_in(answer: Any) -> str | None:
    """What a provider's error answer says, though its status may have been good; None for an answer that is none."""
    error = part(answer, "error")
    if error:
        return text(part(error, "message")) or text(error) or "the provider answered with an error"
    return None


def _is_reasoning_inside(usage: Any, stated: Mapping[str, int]) -> bool:
    total = part(usage, "total_tokens")
    return not isinstance(total, int) or total == stated.get("in", 0) + stated.get("out", 0)


# ── samplings ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _samplings(
    shape: Shape, usage: Any, top: dict[str, int], model: str | None
) -> list[tuple[str | None, dict[str, int]]]:
    """Anthropic lists the samplings of an answer in `iterations`; the counts at the top are the sum of its own
    messages, and compactions and advisers are billed besides.
    """
    listed = items_of(part(usage, "iterations")) if shape is MESSAGES else ()
    own: list[dict[str, int]] = []
    besides: list[tuple[str | None, dict[str, int]]] = []
    for item in listed:
        other = text(part(item, "model"))
        other = None if other == model else other
        one = read_shape(shape, item)
        if (word(part(item, "type")) or "message") == "message" and other is None:
            own.append(one)
        else:
            besides.append((other, one))
    if own and all(sum(one.get(name, 0) for one in own) == top.get(name, 0) for name in _SUMMED):
        return [(None, one) for one in _shared(top, own)] + besides
    return [(None, top), *besides]


def _shared(top: Mapping[str, int], own: list[dict[str, int]]) -> list[dict[str, int]]:
    """What only the top states: thinking goes to each up to its output, the rest to the first."""
    only_top = {name: count for name, count in top.items() if all(name not in one for one in own)}
    thinking = only_top.pop("reasoning", 0)
    found = []
    for one in own:
        mine = min(thinking, one.get("out", 0))
        thinking -= mine
        found.append({**one, **only_top, **({"reasoning": mine} if mine else {})})
        only_top = {}
    return found


# ── what is not in the usage object ─────────────────────────────────────────────────────────────────────────────────


def searches_listed(provider: str | None, model: str | None, answer: Any) -> dict[str, int]:
    """Searches that an answer lists, whatever it states of its usage; by meter."""
    shape = GEMINI if part(answer, "candidates") is not None else RESPONSES
    return _searches(shape, provider, model, answer)


def _searches(shape: Shape, provider: str | None, model: str | None, answer: Any) -> dict[str, int]:
    if shape is RESPONSES and (provider is None or provider in _UNSTATED_OPENAI):
        return _listed_searches(answer)
    if shape is GEMINI:
        return _grounding(model or "", answer)
    return {}


def _listed_searches(answer: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in items_of(part(answer, "output")):
        meter = _SEARCHES.get(word(part(item, "type")))
        # Opening a page and finding in it are steps of a search that OpenAI does not bill.
        if meter and (word(at(item, "action.type")) or "search") == "search":
            counts[meter] = counts.get(meter, 0) + 1
    stated = at(answer, "tool_usage.web_search.num_requests")
    if isinstance(stated, int) and not isinstance(stated, bool) and stated >= 0:
        counts["web_searches"] = stated
    return {name: count for name, count in counts.items() if count}


def _grounding(model: str, answer: Any) -> dict[str, int]:
    queries = [
        query
        for candidate in items_of(part(answer, "candidates"))
        for query in items_of(at(candidate, "groundingMetadata.webSearchQueries"))
        if text(query) and query.strip()
    ]
    if not queries:
        return {}
    # Up to Gemini 2 the whole answer is billed as one.
    return {"web_searches": 1 if any(f"gemini-{old}" in model for old in ("1", "2")) else len(queries)}


def _price_context(answer: Any) -> dict[str, str]:
    context: dict[str, str] = {}
    for path in _TIERS:
        tier = word(at(answer, path))
        for prefix in ("service_tier_", "traffic_type_", "on_demand_"):
            tier = tier.removeprefix(prefix)
        if tier not in _STANDARD:
            context["service_tier"] = tier
            break
    speed = word(at(answer, "usage.speed"))
    if speed not in ("", "standard"):
        context["speed"] = speed
    place = word(at(answer, "usage.inference_geo"))
    if place not in _ANYWHERE:
        context["inference_geo"] = place
    return context


def _provider_cost_pico(provider: str | None, usage: Any) -> int | None:
    if provider == "openrouter":
        cost = _pico(part(usage, "cost"), 10**12)
        if cost is None or part(usage, "is_byok") is not True:
            return cost
        upstream = _pico(at(usage, "cost_details.upstream_inference_cost"), 10**12)
        return None if upstream is None else cost + upstream
    if provider == "x-ai":
        return _pico(part(usage, "cost_in_usd_ticks"), 100)  # ticks of 10**-10 USD
    if provider == "perplexity":
        return _pico(at(usage, "cost.total_cost"), 10**12)
    return None


def _pico(value: Any, pico: int) -> int | None:
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    try:
        # A float is read as it was written in JSON; its noise is finer than any price.
        exact = Context(prec=60).multiply(Decimal(str(value)), Decimal(pico)).to_integral_value(ROUND_HALF_EVEN)
    except InvalidOperation:
        return None
    return int(exact) if exact.is_finite() and 0 <= exact < 2**63 else None
