"""What else an answer says about its price: the tier and place it was served at, and the provider's own cost."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.money import PICO_MAX, PICO_PER_USD
from tallystick.usage.reading import first

_STANDARD_TIERS = frozenset({"", "standard", "default", "auto", "on_demand", "unspecified", "none"})
_ANY_PLACE = frozenset({"", "global", "not_available", "none"})

_TIER_PATHS = (
    "usage.service_tier",  # Anthropic
    "service_tier",  # OpenAI, Groq
    "usageMetadata.serviceTier",  # Gemini
    "usageMetadata.trafficType",  # Gemini on Vertex
    "serviceTier.type",  # Bedrock
)
"""Where providers say at which tier they served a request (not: at which one it was asked for)."""

_PICO_PER_XAI_TICK = 100
"""xAI states costs in ticks of 10**-10 USD (docs.x.ai, "Cost Tracking")."""


def price_context(body: Mapping[str, Any]) -> dict[str, str]:
    """What besides the meters decides the price, as served; empty for the standard price."""
    context: dict[str, str] = {}
    for path in _TIER_PATHS:
        tier = _tier(first(body, path))
        if tier:
            context["service_tier"] = tier
            break
    speed = _word(first(body, "usage.speed"))
    if speed and speed != "standard":
        context["speed"] = speed
    place = _word(first(body, "usage.inference_geo"))
    if place and place not in _ANY_PLACE:
        context["inference_geo"] = place
    return context


def provider_cost_pico(provider: str, body: Mapping[str, Any]) -> int | None:
    """What the provider itself says that the request cost, in pico-USD (half to even), or None.

    OpenRouter states `usage.cost`. With a key of our own at the upstream provider (`is_byok`) that is only
    OpenRouter's fee; the upstream cost comes on top, and without it the rate card decides. xAI states ticks,
    Perplexity a total.

    Raises:
        BadInput: `invalid_cost` for a cost that is no number, is negative or too large to hold.
    """
    if provider == "openrouter":
        cost = _usd(body, "usage.cost")
        if cost is None or first(body, "usage.is_byok") is not True:
            return cost
        upstream = _usd(body, "usage.cost_details.upstream_inference_cost")
        return None if upstream is None else cost + upstream
    if provider == "x-ai":
        return _usd(body, "usage.cost_in_usd_ticks", pico=_PICO_PER_XAI_TICK)
    if provider == "perplexity":
        return _usd(body, "usage.cost.total_cost")
    return None


def _usd(body: Mapping[str, Any], path: str, *, pico: int = PICO_PER_USD) -> int | None:
    value = first(body, path)
    if value is None:
        return None
    # Compared before it is multiplied: a number of a billion digits cannot be.
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not 0 <= value <= PICO_MAX // pico + 1:
        raise _invalid_cost(path)
    # JSON carries OpenRouter's floats with their noise; 10**-12 USD is finer than any of its prices.
    exact = Context(prec=60).multiply(Decimal(value), Decimal(pico))
    amount = int(exact.to_integral_value(ROUND_HALF_EVEN))
    if amount > PICO_MAX:
        raise _invalid_cost(path)
    return amount


def _invalid_cost(path: str) -> BadInput:
    return BadInput(
        "invalid_cost",
        "the provider's cost is not an amount of money",
        next_step="send the answer as the provider gave it",
        where=path,
    )


def _tier(value: Any) -> str:
    tier = _word(value)
    for prefix in ("service_tier_", "traffic_type_", "on_demand_"):
        tier = tier.removeprefix(prefix)
    return "" if tier in _STANDARD_TIERS else tier


def _word(value: Any) -> str:
    return value.strip().lower()[:64] if isinstance(value, str) else ""
