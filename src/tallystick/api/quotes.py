"""What quantities would be charged under a plan."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from tallystick.api.context import OpenRuntime
from tallystick.api.openapi import problems
from tallystick.api.shapes import Answer, Asked
from tallystick.api.strict import StrictRoute
from tallystick.app.contracts import find_contract
from tallystick.app.quote import quote

router = APIRouter(tags=["quotes"], route_class=StrictRoute)

Quantities = Annotated[dict[str, str | int], Field(max_length=1000)]


class QuoteRequest(Asked):
    """Quantities by meter, as decimal strings ("1000000", "0.5", "-3") or whole numbers.

    With `running`, the totals charged before, each quantity is a change of its meter's total, and there is
    no base fee and no true-up.
    """

    contract: Annotated[str, Field(description="The name of an applied contract.")]
    version: Annotated[str | None, Field(description="Which version; the newest when left out.")] = None
    plan: str
    quantities: Quantities
    costs: Quantities = Field(default_factory=dict, description="Our cost of each, for prices that are a share of it.")
    running: Quantities = Field(default_factory=dict, description="The totals charged before.")


class QuoteTier(Answer):
    """One step of a line's arithmetic: `billed` × `unit_usd` / `per` + `flat_usd` = `amount_usd`, exactly."""

    tier: int
    quantity: str
    up_to: str | None
    basis: str
    billed: str
    unit_usd: str
    per: str
    flat_usd: str
    amount_usd: str


class QuoteLine(Answer):
    """One line as an invoice would have it: `amount_usd` to the cent, `exact_usd` before rounding."""

    kind: str
    meter: str | None
    quantity: str
    amount_usd: str
    exact_usd: str
    residue_usd: str
    price: str
    parts: dict[str, str]
    tiers: list[QuoteTier]
    description: str


class Quote(Answer):
    """What would be charged, and what of the quantities would not be."""

    contract: str
    version: str
    sha256: str
    plan: str
    lines: list[QuoteLine]
    total_usd: str
    exact_total_usd: str
    not_charged: dict[str, str]


@router.post("/v1/quote", operation_id="quote", summary="What it would cost", responses=problems(404))
def post_quote(runtime: OpenRuntime, asked: QuoteRequest) -> Quote:
    """The same arithmetic as an invoice's. Nothing is stored."""
    found = find_contract(runtime, asked.contract, asked.version)
    answer = quote(found.contract, asked.plan, _texts(asked.quantities), _texts(asked.costs), _texts(asked.running))
    return Quote.model_validate(answer.as_dict())


def _texts(quantities: Quantities) -> dict[str, str]:
    return {meter: str(quantity) for meter, quantity in quantities.items()}
