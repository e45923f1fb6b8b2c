"""What `tally rates` shows: versions, models, the prices of one model, what differs between two versions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tallystick.core.errors import NotFound
from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd
from tallystick.rates.card import CardHistory, RateCard
from tallystick.rates.cardfile import CardVersion
from tallystick.rates.changes import CardChanges, PriceChange, compare
from tallystick.rates.model import RateRow
from tallystick.rates.names import Resolved
from tallystick.rates.timeline import Flat, Price

_PER_WORDS = {
    ("ms", 3_600_000): "hour",
    ("token", 1_000_000): "1M tokens",
}


def list_versions(history: CardHistory) -> list[dict[str, Any]]:
    """Every version, oldest first: version, known_at, source, sha256, and how many rows it brought."""
    return [
        {
            "version": version.name,
            "known_at": format_instant(version.header.known_at),
            "source": version.header.source,
            "sha256": version.sha256,
            "rates": len(version.rates),
            "models": len(version.models),
            "retired": len(version.retired),
        }
        for version in history.versions
    ]


def list_models(card: RateCard, provider: str | None = None) -> list[dict[str, Any]]:
    """Every model known at a version, with how many prices it has now and ever had.

    Raises:
        NotFound: `unknown_provider`.
    """
    wanted = None
    if provider is not None:
        line = card.names.provider(provider)
        if line is None:
            raise NotFound(
                "unknown_provider",
                f"the rate card knows no provider {provider!r}",
                next_step="`tally rates list` shows the providers",
            )
        wanted = line.provider
    return [
        {"provider": resolved.provider, "model": resolved.model, "listed": listed, "prices": prices}
        for resolved, listed, prices in card.models()
        if wanted in (None, resolved.provider)
    ]


def show_model(card: RateCard, model: str, provider: str | None = None, at: datetime | None = None) -> dict[str, Any]:
    """The prices of the model that a name means: all of its history, or those in force at an instant.

    Raises:
        NotFound: `unknown_model`.
    """
    resolved = find_model(card, model, provider)
    rows = [row_dict(row, version) for row, version in card.effective(resolved) if at is None or row.valid_at(at)]
    return {
        "provider": resolved.provider,
        "model": resolved.model,
        "rate_version": card.version,
        "at": None if at is None else format_instant(at),
        "rows": rows,
    }


def find_model(card: RateCard, model: str, provider: str | None) -> Resolved:
    """The model that a name means; without a provider, the one that it is unmistakably of.

    Raises:
        NotFound: `unknown_model`.
    """
    resolved = card.resolve(provider, model)
    if resolved is not None:
        return resolved
    near = [] if provider else [one.provider for one, _, _ in card.models() if one.model.lower() == model.lower()]
    raise NotFound(
        "unknown_model",
        f"the rate card has no model {model!r}" + (f" at {provider}" if provider else ""),
        next_step=(
            f"name the provider that serves it: --provider {' or '.join(near)}"
            if near
            else "`tally rates list --provider NAME` shows the models of a provider"
        ),
    )


def row_dict(row: RateRow, version: CardVersion) -> dict[str, Any]:
    """A rate row as JSON members; amounts are decimal strings of USD."""
    return {
        "meter": row.meter,
        "context": dict(row.context),
        "price_usd": pico_to_usd(row.price_pico or 0),
        "per": row.per,
        "tiers": [{"above": tier.above, "price_usd": pico_to_usd(tier.price_pico)} for tier in row.tiers],
        "window": None if row.window is None else _clock(row.window.start_minute) + "-" + _clock(row.window.end_minute),
        "quantity_min": row.quantity_min,
        "valid_from": _instant(row.valid_from),
        "valid_to": _instant(row.valid_to),
        "version": version.name,
        "known_at": format_instant(version.header.known_at),
    }


def diff_versions(history: CardHistory, one: str, two: str) -> dict[str, Any]:
    """What version `two` says that version `one` does not.

    Raises:
        NotFound: `unknown_rate_version`.
    """
    first, second = history.ordinal(one), history.ordinal(two)
    changes = compare(history.versions[: first + 1], history.versions[: second + 1])
    return {"from": one, "to": two, **changes_dict(changes)}


def changes_dict(changes: CardChanges) -> dict[str, Any]:
    """Changes as JSON members."""
    return {
        "models_added": [f"{provider}/{model}" for provider, model in changes.models_added],
        "models_retired": [f"{provider}/{model}" for provider, model in changes.models_retired],
        "prices": [_change_dict(change) for change in changes.prices],
    }


def _change_dict(change: PriceChange) -> dict[str, Any]:
    provider, model, meter, context = change.key
    return {
        "kind": change.kind,
        "provider": provider,
        "model": model,
        "meter": meter,
        "context": dict(context),
        "valid_from": _instant(change.since),
        "valid_to": _instant(change.until),
        "before": _price_dict(change.before),
        "after": _price_dict(change.after),
    }


def _price_dict(price: Price | None) -> dict[str, Any] | None:
    if price is None:
        return None
    windows = {window: _flat_dict(flat) for window, flat in price.windows}
    flat = _flat_dict(price.day) if price.day is not None else {"price_usd": None}
    return {**flat, "per": price.per, **({"windows": windows} if windows else {})}


def _flat_dict(flat: Flat) -> dict[str, Any]:
    tiers = [{"above": above, "price_usd": pico_to_usd(price)} for above, price in flat.tiers]
    return {"price_usd": pico_to_usd(flat.price_pico), **({"tiers": tiers} if tiers else {})}


def price_words(price: Mapping[str, Any] | None, unit: str) -> str:
    """A price for a person: "$2.5 / 1M tokens, $5 above 200,000"."""
    if price is None:
        return "no price"
    words = f"${price['price_usd']} / {per_words(price['per'], unit)}"
    words += "".join(f", ${tier['price_usd']} above {tier['above']:,}" for tier in price.get("tiers", ()))
    return words + "".join(f", ${flat['price_usd']} at {window}" for window, flat in price.get("windows", {}).items())


def per_words(per: int, unit: str) -> str:
    """What a price is for: "1M tokens", "1,000 searches", "hour"."""
    if (unit, per) in _PER_WORDS:
        return _PER_WORDS[unit, per]
    plural = {"search": "searches"}.get(unit, unit + "s")
    return unit if per == 1 else f"{per:,} {plural}"


def _instant(value: datetime | None) -> str | None:
    return None if value is None else format_instant(value)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
