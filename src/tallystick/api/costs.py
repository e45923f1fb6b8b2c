"""What an answer of a provider cost."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from tallystick.api.bodies import check_values
from tallystick.api.context import OpenRuntime, RawBody, describe_raw_body, raw_body
from tallystick.api.shapes import Answer, CostLine
from tallystick.api.strict import StrictRoute
from tallystick.app.answers import BODY_BYTES_MAX, Terms
from tallystick.app.cost import AnswerPricer, load_extractors
from tallystick.core.instants import parse_instant

router = APIRouter(tags=["costs"], route_class=StrictRoute)

_JSON, _STREAM = "application/json", "text/event-stream"
_VALUES_MAX = 1_000_000

_BODY = describe_raw_body(
    {
        _JSON: {
            "type": "object",
            "description": "The answer as the provider gave it, or an envelope: {body or sse, provider, flavor, model, "
            "at, price_context}.",
        },
        _STREAM: {"type": "string", "description": "A recorded stream of events."},
    }
)


class PricedAnswer(Answer):
    """What an answer used and what that cost us; `cost_usd` is null and `reason` says why when it is unpriced."""

    provider: str | None
    flavor: str | None
    model: str | None
    usage: dict[str, int]
    usage_of_other_models: dict[str, dict[str, int]] | None = None
    price_context: dict[str, str] | None = None
    lines: list[CostLine]
    cost_usd: str | None
    priced_as: str | None = None
    provider_cost_usd: str | None = None
    rate_version: str
    at: str
    status: str
    reason: str | None = None


@router.post(
    "/v1/cost", operation_id="price_answer", openapi_extra=_BODY, response_model_exclude_unset=True, summary="Price it"
)
def post_cost(
    runtime: OpenRuntime,
    body: Annotated[RawBody, Depends(raw_body(_JSON, _STREAM, bytes_max=BODY_BYTES_MAX))],
    provider: Annotated[str | None, Query(description="Who answered; found out when left out.")] = None,
    flavor: Annotated[str | None, Query(description="Which of the provider's APIs; found out when left out.")] = None,
    model: Annotated[str | None, Query(description="The model, where the answer does not name it.")] = None,
    at: Annotated[str | None, Query(description="When it was, RFC 3339; now when left out.")] = None,
) -> PricedAnswer:
    """Usage per meter, one line per meter, and the sum, by the newest rate card. Nothing is stored."""
    check_values(body.content, _VALUES_MAX)
    pricer = AnswerPricer(runtime.card, load_extractors(), runtime.clock)
    instant = None if at is None else parse_instant(at, where="at")
    terms = Terms(provider=provider, flavor=flavor, model=model, at=instant)
    if body.media_type == _STREAM:
        priced = pricer.price_stream([body.content], terms)
    else:
        priced = pricer.price_text(body.content, terms)
    return PricedAnswer.model_validate(priced.as_dict())
