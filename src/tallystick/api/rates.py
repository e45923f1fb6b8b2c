"""Rate cards: which versions there are, and what a model costs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from tallystick.api.context import OpenRuntime
from tallystick.api.openapi import problems
from tallystick.api.shapes import Answer, Instant
from tallystick.app.rates_view import list_versions, show_model
from tallystick.core.instants import parse_instant

router = APIRouter(prefix="/v1/rates", tags=["rates"])


class RateVersion(Answer):
    """One version: what was known from `known_at` on, its card file's hash, and how many rows it brought."""

    version: str
    known_at: Instant
    source: str
    sha256: str
    rates: int
    models: int
    retired: int


class RateVersions(Answer):
    """Every version in the order in which it became known; new events are priced with the last."""

    versions: list[RateVersion]


@router.get("", operation_id="list_rate_versions", summary="Rate-card versions")
def get_versions(runtime: OpenRuntime) -> RateVersions:
    """They form one chain, to which versions are appended and in which none is changed."""
    return RateVersions.model_validate({"versions": list_versions(runtime.cards)})


class RateTier(Answer):
    """A cliff: with a prompt of more than `above` tokens, every unit of the request costs this."""

    above: int
    price_usd: str


class Rate(Answer):
    """What `per` units of a meter cost in a context, from when until when, and which version said so.

    `window` is a time of day in UTC, "HH:MM-HH:MM", half-open.
    """

    meter: str
    context: dict[str, str]
    price_usd: str
    per: int
    tiers: list[RateTier]
    window: str | None
    quantity_min: int
    valid_from: Instant | None
    valid_to: Instant | None
    version: str
    known_at: Instant


class ModelRates(Answer):
    """A model's rates under the ids of the card, which the name that was asked for resolved to."""

    provider: str
    model: str
    rate_version: str
    at: Instant | None
    rows: list[Rate]


@router.get(
    "/{provider}/{model:path}", operation_id="show_rates", summary="What a model costs", responses=problems(404)
)
def get_rates(
    runtime: OpenRuntime,
    provider: Annotated[str, Path(description="Who answers, such as openai.", min_length=1, max_length=512)],
    model: Annotated[str, Path(description="As the provider names it; it may hold slashes.", max_length=512)],
    at: Annotated[str | None, Query(description="Only rates in force then, RFC 3339; all when left out.")] = None,
    version: Annotated[str | None, Query(description="As known at this version; the newest when left out.")] = None,
) -> ModelRates:
    """Dated rows: from when until when each price holds, and since when it is known."""
    card = runtime.card if version is None else runtime.cards.at(version)
    instant = None if at is None else parse_instant(at, where="at")
    return ModelRates.model_validate(show_model(card, model, provider, instant))
