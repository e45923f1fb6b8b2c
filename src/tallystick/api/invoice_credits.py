"""Credits in money: given to an org, listed with what is left of each; promo codes, defined and redeemed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import Field

from tallystick.api.context import OpenRuntime, OrgId
from tallystick.api.openapi import problems
from tallystick.api.shapes import Answer, Asked, Instant
from tallystick.api.strict import StrictRoute
from tallystick.app.invoice_credits import give_credit_asked, show_credits
from tallystick.app.promos import all_promos, create_promo, end_promo, redeem_promo, show_promo

router = APIRouter(tags=["credits in money"], route_class=StrictRoute)

Source = Literal["promo", "sla", "dispute", "goodwill"]
RequestId = Annotated[str, Field(description="Your id of this request: sent again, it changes nothing.")]
Usd = Annotated[str, Field(description="A decimal string of USD above zero, in whole cents.", examples=["25.00"])]
Code = Annotated[str, Path(description="The promo code; capitals or not.", min_length=1, max_length=64)]


class CreditRequest(Asked):
    """An amount that the org's next invoices use up."""

    request_id: RequestId
    source: Annotated[Source, Field(description="What for: invoices use them up in this order.")] = "goodwill"
    amount_usd: Usd
    author: str
    reason: str
    expires_at: Annotated[str | None, Field(description="RFC 3339; never when left out.")] = None
    from_month: Annotated[str | None, Field(description="The first month whose invoice may use it.")] = None
    about: Annotated[
        Any, Field(description="What it was computed from: JSON without fractions. It stands for good: name no person.")
    ] = None


class RedeemRequest(Asked):
    """A promo code for an org."""

    request_id: RequestId
    code: Annotated[str, Field(description="Capitals or not.", max_length=64)]
    author: str


class CreditEntry(Answer):
    """The entry of the ledger that it is."""

    seq: int
    recorded_at: Instant
    fingerprint: str
    leaf: str


class CreditAnswer(Answer):
    """What was given; `left_usd` is what is left of all amounts that the org was given. `is_new` is false when it was
    done before.
    """

    credit_id: str
    org_id: str
    request_id: str
    is_new: bool
    author: str
    reason: str | None
    what: str
    source: Source
    amount_usd: str | None
    expires_at: Instant | None
    left_usd: str
    from_month: str | None = None
    about: Any = None
    code: str | None = None
    code_version: int | None = None
    percent: str | None = None
    invoices: int | None = None
    cap_usd: str | None = None
    minimum_usd: str | None = None
    entry: CreditEntry


class CreditUse(Answer):
    """What an invoice used of it; `given_back` when that is void."""

    invoice_id: str
    number: str
    month: str
    amount_usd: str
    given_back: bool


class HeldCredit(Answer):
    """One credit as it stands: `open`, `used` up, or `over` by time."""

    credit_id: str
    source: Source
    code: str | None
    state: Literal["open", "used", "over"]
    amount_usd: str | None
    left_usd: str | None
    percent: str | None
    invoices_left: int | None
    cap_usd: str | None
    minimum_usd: str
    from_month: str | None
    given_at: Instant
    expires_at: Instant | None
    used: list[CreditUse]


class CreditList(Answer):
    """All that an org was given in money, the first one first; `beyond_usd` is what it has too much on its invoices."""

    org_id: str
    left_usd: str
    beyond_usd: str
    credits: list[HeldCredit]


class PromoRequest(Asked):
    """A promo code: `percent` or `amount_usd`, and for whom."""

    code: Annotated[str, Field(description="3 to 40 of A-Z, 0-9, - and _; capitals or not.")]
    percent: Annotated[str | None, Field(description="A share of invoices, such as 12.5.")] = None
    amount_usd: Annotated[str | None, Field(description="An amount, which invoices use up.")] = None
    invoices: Annotated[int | None, Field(description="Of how many invoices the share is taken.", ge=1)] = None
    cap_usd: Annotated[str | None, Field(description="The most that the share of one invoice may be.")] = None
    minimum_usd: Annotated[str | None, Field(description="Invoices that come to less do not use it.")] = None
    redeem_by: Annotated[str | None, Field(description="RFC 3339: until when it may be redeemed.")] = None
    expires_after: Annotated[str | None, Field(description="How long after it is redeemed, such as 90d.")] = None
    limit: Annotated[int | None, Field(description="How many orgs may redeem it.", ge=1)] = None
    contract: Annotated[str | None, Field(description="Only for orgs on this contract.")] = None
    plans: Annotated[list[str] | None, Field(description="Only for orgs on one of these plans.", max_length=100)] = None
    new_customers: Annotated[bool, Field(description="Only for orgs that have had no invoice.")] = False
    note: Annotated[str | None, Field(description="What it is for; customers do not see it.")] = None
    author: str
    reason: str | None = None
    replace: Annotated[bool, Field(description="A code that is there gives this from now on.")] = False


class PromoEnd(Asked):
    """Why a code is redeemed no more."""

    author: str
    reason: str | None = None


class PromoVersion(Answer):
    """Who has said when what a code gives, or that it is ended."""

    version: int
    ended: bool
    author: str
    reason: str
    recorded_at: Instant


class Promo(Answer):
    """A promo code as it stands, and how many have redeemed it."""

    code: str
    version: int
    ended: bool
    percent: str | None
    amount_usd: str | None
    invoices: int | None
    cap_usd: str | None
    minimum_usd: str
    redeem_by: Instant | None
    expires_after_seconds: int | None
    limit: int | None
    contract: str | None
    plans: list[str]
    new_customers: bool
    note: str
    redeemed: int
    redeemed_by_test_orgs: int
    left: int | None
    is_new: bool
    history: list[PromoVersion]


class PromoList(Answer):
    """Every promo code, by name."""

    promos: list[Promo]


@router.post(
    "/v1/orgs/{org_id:path}/invoice-credits",
    operation_id="give_invoice_credit",
    summary="Give an org a credit in USD",
    response_model_exclude_unset=True,
    responses=problems(404, 409),
)
def post_credit(runtime: OpenRuntime, org_id: OrgId, asked: CreditRequest) -> CreditAnswer:
    """Its next invoices use it up; none comes below nothing, and the rest is for the one after."""
    return CreditAnswer.model_validate(give_credit_asked(runtime, org_id, _members(asked)).as_dict())


@router.get(
    "/v1/orgs/{org_id:path}/invoice-credits",
    operation_id="list_invoice_credits",
    summary="What an org was given in USD",
    responses=problems(404),
)
def get_credits(runtime: OpenRuntime, org_id: OrgId) -> CreditList:
    """What is left of each credit and promo code, and which invoices have used it."""
    return CreditList.model_validate(show_credits(runtime, org_id).as_dict())


@router.post(
    "/v1/orgs/{org_id:path}/promos",
    operation_id="redeem_promo",
    summary="Redeem a promo code",
    response_model_exclude_unset=True,
    responses=problems(404, 409),
)
def post_redeem(runtime: OpenRuntime, org_id: OrgId, asked: RedeemRequest) -> CreditAnswer:
    """Once for an org. What is refused takes no place of a code that is limited."""
    return CreditAnswer.model_validate(redeem_promo(runtime, org_id, _members(asked)).as_dict())


@router.post(
    "/v1/promos",
    operation_id="create_promo",
    summary="Define a promo code",
    responses=problems(404, 409),
)
def post_promo(runtime: OpenRuntime, asked: PromoRequest) -> Promo:
    """The same again changes nothing; another one under its name only with `replace`."""
    members = _members(asked)
    replace = bool(members.pop("replace", False))
    return Promo.model_validate(create_promo(runtime, members, replace=replace).as_dict())


@router.get("/v1/promos", operation_id="list_promos", summary="Promo codes")
def get_promos(runtime: OpenRuntime) -> PromoList:
    """What each gives, to whom, until when, and how many have redeemed it."""
    return PromoList.model_validate({"promos": [one.as_dict() for one in all_promos(runtime)]})


@router.get("/v1/promos/{code}", operation_id="show_promo", summary="One promo code", responses=problems(404))
def get_promo(runtime: OpenRuntime, code: Code) -> Promo:
    """With all its versions."""
    return Promo.model_validate(show_promo(runtime, code).as_dict())


@router.post("/v1/promos/{code}/end", operation_id="end_promo", summary="End a promo code", responses=problems(404))
def post_end(runtime: OpenRuntime, code: Code, asked: PromoEnd) -> Promo:
    """Nobody redeems it from then on; who has, keeps what it gave."""
    return Promo.model_validate(end_promo(runtime, code, author=asked.author, reason=asked.reason or "").as_dict())


def _members(asked: Asked) -> dict[str, Any]:
    return asked.model_dump(exclude_unset=True)
