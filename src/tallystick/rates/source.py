"""Reads the price source (genai-prices, in the shape of its data.json) into timelines and names.

What the source says, in its own words:

    prices           one set of prices, or a list of sets under conditions: the last set whose condition
                     holds is used, and the first one when none does. A condition is a start date (from
                     midnight UTC) or a time of day (UTC).
    price_variants   prices for a context (batch, flex, fast, …): for each price, the first variant whose
                     context and condition hold overrides the standard price.
    base and tiers   a cliff: the whole request at the tier's price once the prompt exceeds `start`.

Prices are decimals of USD; binary noise of the source's own arithmetic (0.18000000000000002) is rounded
away at 12 significant digits before they become integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import msgspec

from tallystick.core.errors import BadInput
from tallystick.rates.cardfile import ModelLine, ProviderLine, why_no_clause
from tallystick.rates.timeline import BEGIN, Flat, Price, Timeline, combine

Key = tuple[str, str, str, tuple[tuple[str, str], ...]]
"""(provider, model, meter, context): what one timeline is about."""

SIGNIFICANT_DIGITS = 12

_MTOK, _KILO, _HOUR_MS = 1_000_000, 1_000, 3_600_000
METER_OF_PRICE: Mapping[str, tuple[str, int]] = {
    "input_mtok": ("tokens_in", _MTOK),
    "output_mtok": ("tokens_out", _MTOK),
    "cache_read_mtok": ("cache_read_tokens", _MTOK),
    "cache_write_mtok": ("cache_write_tokens", _MTOK),
    "cache_write_5m_mtok": ("cache_write_5m_tokens", _MTOK),
    "cache_write_1h_mtok": ("cache_write_1h_tokens", _MTOK),
    "input_tool_mtok": ("tool_prompt_tokens", _MTOK),
    "output_reasoning_mtok": ("reasoning_tokens", _MTOK),
    "output_citation_mtok": ("citation_tokens", _MTOK),
    **{f"input_{kind}_mtok": (f"{kind}_tokens_in", _MTOK) for kind in ("audio", "image", "video")},
    **{f"output_{kind}_mtok": (f"{kind}_tokens_out", _MTOK) for kind in ("audio", "image", "video")},
    **{
        f"cache_{kind}_{way}_mtok": (f"cache_{way}_{kind}_tokens", _MTOK)
        for kind in ("audio", "image", "video")
        for way in ("read", "write")
    },
    "web_searches_kcount": ("web_searches", _KILO),
    "social_searches_kcount": ("social_searches", _KILO),
    "storage_searches_kcount": ("storage_searches", _KILO),
    "rerank_searches_kcount": ("rerank_searches", _KILO),
    "code_executions_kcount": ("code_executions", _KILO),
    "requests_kcount": ("requests", _KILO),
    "input_mchars": ("characters_in", 1_000_000),
    "input_text_messages_kcount": ("messages_in", _KILO),
    "audio_hours": ("audio_ms", _HOUR_MS),
    "input_audio_hours": ("audio_in_ms", _HOUR_MS),
    "output_audio_hours": ("audio_out_ms", _HOUR_MS),
    "input_gpixels": ("pixels_in", 1_000_000_000),
    "input_document_kpages": ("pages_in", _KILO),
    "input_annotated_document_kpages": ("annotated_pages_in", _KILO),
}
"""Our meter, and how many of it the price is for, by the source's price key."""

# Groq bills every transcription as at least ten seconds; the source has it as a rule in its code.
_AUDIO_MIN_MS = 10_000
_QUANTITY_MIN = {
    ("groq", model, meter): _AUDIO_MIN_MS
    for model in ("whisper-large-v3", "whisper-large-v3-turbo")
    for meter in ("audio_ms", "audio_in_ms")
}

# The source calls a batch "processing"; a provider answers with a service tier, which is what we are given.
_CONTEXT_KEYS = {"processing": "service_tier"}
STANDARD_TIERS = frozenset({"standard", "default", "auto", "on_demand"})


@dataclass(frozen=True)
class Release:
    """All that one release of the source says."""

    providers: Mapping[str, ProviderLine]
    models: Mapping[tuple[str, str], ModelLine]
    prices: Mapping[Key, Timeline]
    not_taken: tuple[str, ...] = ()
    """Price keys that no meter of ours counts, as "provider/model: key"; nothing else is left out."""


@dataclass(frozen=True, slots=True)
class _Condition:
    since: datetime | None
    window: tuple[int, int] | None
    prices: Mapping[str, Flat]
    when: tuple[tuple[str, str], ...] = ()

    def holds(self, instant: datetime, minute: int | None) -> bool:
        """Whether it holds on a date and at a minute of the day; None is a minute in no window."""
        if self.since is not None and instant < self.since:
            return False
        return self.window is None or (minute is not None and in_window(self.window, minute))


@dataclass
class _Reading:
    prices: dict[Key, Timeline] = field(default_factory=dict)
    not_taken: list[str] = field(default_factory=list)


def in_window(window: tuple[int, int], minute: int) -> bool:
    """Whether a minute of the day lies in [start, end); a window whose end is not later wraps past midnight."""
    start, end = window
    if start <= end:
        return start <= minute < end
    return minute >= start or minute < end


def decode_source(content: bytes) -> Any:
    """The source's JSON with its numbers as exact decimals.

    Raises:
        BadInput: `invalid_price_source`.
    """
    try:
        return msgspec.json.Decoder(float_hook=Decimal).decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidOperation) as error:
        raise _invalid(f"it is not JSON: {error}") from None


def read_release(raw: Any) -> Release:
    """What a decoded data.json says.

    Raises:
        BadInput: `invalid_price_source`.
    """
    reading = _Reading()
    providers: dict[str, ProviderLine] = {}
    models: dict[tuple[str, str], ModelLine] = {}
    if not isinstance(raw, list) or not raw:
        raise _invalid("it is not a list of providers")
    try:
        for provider in raw:
            name = provider["id"]
            providers[name] = ProviderLine(
                provider=name,
                match=provider.get("provider_match"),
                model_match=provider.get("model_match"),
                fallbacks=tuple(provider.get("fallback_model_providers") or ()),
            )
            for model in provider["models"]:
                models[name, model["id"]] = ModelLine(provider=name, model=model["id"], match=model["match"])
                if (why := why_no_clause(model["match"])) is not None:
                    raise ValueError(f"{name}/{model['id']}: {why}")
                _read_model(name, model, reading)
    except (KeyError, TypeError, AttributeError, ValueError, InvalidOperation) as error:
        raise _invalid(f"it does not have the shape of genai-prices' data.json ({error!r})") from None
    return Release(providers, models, reading.prices, tuple(sorted(set(reading.not_taken))))


def _invalid(why: str) -> BadInput:
    return BadInput(
        "invalid_price_source",
        f"the price source cannot be read: {why}",
        next_step="give a genai-prices wheel, or a file in the shape of its data.json",
    )


def _read_model(provider: str, model: Mapping[str, Any], reading: _Reading) -> None:
    name = model["id"]

    def condition(part: Mapping[str, Any]) -> _Condition:
        limit = part.get("constraint") or {}
        since = None
        if "start_date" in limit:
            since = datetime.combine(date.fromisoformat(limit["start_date"]), time(), UTC)
        window = None
        if "start_time" in limit:
            window = (_minute(limit["start_time"]), _minute(limit["end_time"]))
        when = sorted((_CONTEXT_KEYS.get(key, key), value) for key, value in part.get("when", {}).items())
        prices, unknown = _flat_prices(part["prices"])
        reading.not_taken.extend(f"{provider}/{name}: {key}" for key in unknown)
        return _Condition(since, window, prices, tuple(when))

    raw_prices = model.get("prices", {})
    standard = [condition(part) for part in ([{"prices": raw_prices}] if isinstance(raw_prices, dict) else raw_prices)]
    if standard:
        _add_timelines(provider, name, (), standard, _last_that_holds(standard), reading)
    variants = [condition(part) for part in model.get("price_variants") or ()]
    for when in sorted({variant.when for variant in variants}):
        if len(when) == 1 and when[0][0] == "service_tier" and when[0][1] in STANDARD_TIERS:
            continue  # another name for the standard price
        own = [variant for variant in variants if variant.when == when]
        # A variant without prices says that this context is known and costs what is standard.
        same = own + standard if not any(variant.prices for variant in own) else own
        pick = _last_that_holds(standard) if same is not own else _first_that_holds(own)
        _add_timelines(provider, name, when, same, pick, reading)


_Pick = Callable[[str, datetime, int | None], Flat | None]


def _last_that_holds(conditions: list[_Condition]) -> _Pick:
    def pick(key: str, instant: datetime, minute: int | None) -> Flat | None:
        for condition in reversed(conditions):
            if condition.holds(instant, minute):
                return condition.prices.get(key)
        return conditions[0].prices.get(key)

    return pick


def _first_that_holds(variants: list[_Condition]) -> _Pick:
    def pick(key: str, instant: datetime, minute: int | None) -> Flat | None:
        for variant in variants:
            if key in variant.prices and variant.holds(instant, minute):
                return variant.prices[key]
        return None

    return pick


def _add_timelines(
    provider: str,
    model: str,
    context: tuple[tuple[str, str], ...],
    conditions: list[_Condition],
    pick: _Pick,
    reading: _Reading,
) -> None:
    dates = {condition.since for condition in conditions if condition.since is not None}
    edges = sorted({minute for condition in conditions for minute in condition.window or ()})
    for key in sorted({key for condition in conditions for key in condition.prices}):
        meter, per = METER_OF_PRICE[key]
        quantity_min = _QUANTITY_MIN.get((provider, model, meter), 0)

        def price_at(
            instant: datetime, key: str = key, per: int = per, quantity_min: int = quantity_min
        ) -> Price | None:
            day = pick(key, instant, None)
            windows = tuple(_windows(edges, day, lambda minute: pick(key, instant, minute)))
            return None if day is None and not windows else Price(per, day, windows, quantity_min)

        timeline = combine(dates, price_at)
        if timeline != ((BEGIN, None),):
            reading.prices[provider, model, meter, context] = timeline


def _windows(edges: list[int], day: Flat | None, flat_at: Callable[[int], Flat | None]) -> Iterable[tuple[str, Flat]]:
    """The times of day whose price is not that of the rest of the day."""
    for start, end in zip(edges, edges[1:] + edges[:1], strict=True):
        flat = flat_at(start)
        if flat == day:
            continue
        if flat is None:
            raise ValueError("a price that ends at a time of day cannot be expressed")
        yield f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}", flat


def _flat_prices(raw: Mapping[str, Any]) -> tuple[dict[str, Flat], list[str]]:
    prices: dict[str, Flat] = {}
    unknown = []
    for key, value in raw.items():
        if value is None:
            continue
        if key not in METER_OF_PRICE:
            unknown.append(key)
        elif isinstance(value, Mapping):
            tiers = sorted((int(tier["start"]), _pico(tier["price"])) for tier in value["tiers"])
            prices[key] = Flat(_pico(value["base"]), tuple(tiers))
        else:
            prices[key] = Flat(_pico(value))
    return prices, unknown


_ROUND = Context(prec=SIGNIFICANT_DIGITS)


def _pico(value: Any) -> int:
    """Whole pico-USD of a price in USD, its binary noise rounded away."""
    usd = _ROUND.plus(Decimal(str(value)))
    if not usd.is_finite() or usd < 0:
        raise ValueError(f"{value!r} is not a price")
    return int((usd * 10**12).to_integral_value())


def _minute(text: str) -> int:
    clock = time.fromisoformat(text)
    if clock.tzinfo is not None and clock.utcoffset():
        raise ValueError(f"{text!r} is not in UTC")
    if clock.second or clock.microsecond:
        raise ValueError(f"{text!r} is not a whole minute")
    return clock.hour * 60 + clock.minute
