"""Rate cards: which versions there are, and what a model costs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query

from tallystick.api.context import OpenRuntime
from tallystick.api.openapi import problems
from tallystick.api.shapes import Answer, Instant
from tallystick.core.errors import NotFound
from tallystick.core.instants import format_instant, parse_instant
from tallystick.core.money import pico_to_usd
from tallystick.rates.card import RateCard
from tallystick.rates.model import DailyWindow, RateRow

router = APIRouter(prefix="/v1/rates", tags=["rates"])


class RateVersion(Answer):
    """One version: what was known from `known_at` on, and the hash of its card file."""

    version: str
    known_at: Instant
    source: str
    sha256: str


class RateVersions(Answer):
    """Every version in the order in which it became known; new events are priced with the last."""

    versions: list[RateVersion]


@router.get("", operation_id="list_rate_versions", summary="Rate-card versions")
def get_versions(runtime: OpenRuntime) -> RateVersions:
    """They form one chain, to which versions are appended and in which none is changed."""
    return RateVersions(
        versions=[
            RateVersion(
                version=version.name,
                known_at=format_instant(version.header.known_at),
                source=version.header.source,
                sha256=version.sha256,
            )
            for version in runtime.cards.versions
        ]
    )


class RateTier(Answer):
    """A cliff: with a prompt of more than `above` tokens, every unit of the request costs this."""

    above: int
    price_usd: str | None


class DayWindow(Answer):
    """A time of day in UTC, "HH:MM", half-open."""

    start: str
    end: str


class Rate(Answer):
    """What `per` units of a meter cost in a context, from when until when, and which version said so."""

    meter: str
    context: dict[str, str]
    price_usd: str | None
    per: int
    tiers: list[RateTier]
    window: DayWindow | None
    quantity_min: int
    valid_from: Instant | None
    valid_to: Instant | None
    version: str


class ModelRates(Answer):
    """A model's rates under the ids of the card, which the name that was asked for resolved to."""

    provider: str
    model: str
    rate_version: str
    rates: list[Rate]


@router.get(
    "/{provider}/{model:path}", operation_id="show_rates", summary="What a model costs", responses=problems(404)
)
def get_rates(
    runtime: OpenRuntime,
    provider: Annotated[str, Path(description="Who answers, such as openai.", max_length=512)],
    model: Annotated[str, Path(description="The model as the provider names it; it may hold slashes.", max_length=512)],
    at: Annotated[str | None, Query(description="Only rates in force then, RFC 3339; all when left out.")] = None,
    version: Annotated[str | None, Query(description="As known at this version; the newest when left out.")] = None,
) -> ModelRates:
    """Dated rows. Where several are in force, the one of the latest version prevails."""
    card = runtime.card if version is None else runtime.cards.at(version)
    resolved = card.resolve(provider, model)
    if resolved is None:
        raise _unknown_model(provider, model, card)
    instant = None if at is None else parse_instant(at, where="at")
    rates = [_rate(row, said_by) for row, said_by in card.rows(resolved, instant)]
    return ModelRates(provider=resolved.provider, model=resolved.model, rate_version=card.version, rates=rates)


def _rate(row: RateRow, version: str) -> Rate:
    return Rate(
        meter=row.meter,
        context=dict(row.context),
        price_usd=_usd(row.price_pico),
        per=row.per,
        tiers=[RateTier(above=tier.above, price_usd=_usd(tier.price_pico)) for tier in row.tiers],
        window=_window(row.window),
        quantity_min=row.quantity_min,
        valid_from=_instant(row.valid_from),
        valid_to=_instant(row.valid_to),
        version=version,
    )


def _usd(price_pico: int | None) -> str | None:
    return None if price_pico is None else pico_to_usd(price_pico)


def _instant(value: datetime | None) -> str | None:
    return None if value is None else format_instant(value)


def _window(window: DailyWindow | None) -> DayWindow | None:
    if window is None:
        return None
    start, end = (f"{minute // 60:02d}:{minute % 60:02d}" for minute in (window.start_minute, window.end_minute))
    return DayWindow(start=start, end=end)


def _unknown_model(provider: str, model: str, card: RateCard) -> NotFound:
    return NotFound(
        "unknown_model",
        f"rate card {card.version} does not know for certain which model {model[:200]!r} of {provider[:200]!r} is",
        next_step="check both names; events of a model without a rate are stored and marked unpriced",
        where="model",
    )
