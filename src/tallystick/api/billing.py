"""What becomes of invoices: finalizing, payments, credit notes, voids, what is due; billing profiles; test clocks."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse
from pydantic import Field

from tallystick.api.access import OwnOrg
from tallystick.api.billing_shapes import (
    ActionAnswer,
    AdvanceAnswer,
    ClockAnswer,
    DueAnswer,
    FinalizeAnswer,
    LifeAnswer,
    LifeList,
    ProfileAnswer,
    ProfileHistory,
)
from tallystick.api.context import InvoiceId, OpenRuntime, OrgId
from tallystick.api.openapi import problems
from tallystick.api.shapes import Asked
from tallystick.api.strict import StrictRoute
from tallystick.app.invoice_actions import credit_invoice, due_csv, due_invoices, record_payment, void_invoice
from tallystick.app.invoice_due import finalize_due, finalize_due_of
from tallystick.app.invoice_life import finalize_month, life_cursor, list_life, show_life
from tallystick.app.parties import profile_history, set_profile
from tallystick.app.test_clock import advance_clock, make_test_org, show_clock
from tallystick.core.instants import parse_instant

router = APIRouter(tags=["billing"], route_class=StrictRoute)

RequestId = Annotated[str, Field(description="Your id of this request: sent again, it changes nothing.")]
Usd = Annotated[str, Field(description="A decimal string of USD above zero, in whole cents.", examples=["12.50"])]
State = Literal["draft", "final", "open", "partly_paid", "paid", "overdue", "void"]


class FinalizeRequest(Asked):
    """Which months are to be closed and issued."""

    month: Annotated[str | None, Field(description="Such as 2026-10; every month that is due when left out.")] = None
    orgs: Annotated[list[str] | None, Field(description="Only these orgs.", max_length=1000)] = None
    before_late_window: Annotated[bool, Field(description="Do not wait for late usage.")] = False


@router.post(
    "/v1/billing/finalize",
    operation_id="finalize_invoices",
    summary="Close months and issue their invoices",
    response_model_exclude_unset=True,
    responses={207: {"model": FinalizeAnswer, "description": "Some could not be; each says why."}},
)
def post_finalize(runtime: OpenRuntime, asked: FinalizeRequest, response: Response) -> FinalizeAnswer:
    """Each invoice has a number from then on, and is due. Doing it again changes nothing."""
    if asked.month is None:
        results = finalize_due_of(runtime, asked.orgs) if asked.orgs else finalize_due(runtime)
    else:
        results = finalize_month(runtime, asked.month, asked.orgs, before_late_window=asked.before_late_window)
    if any(one.error is not None for one in results):
        response.status_code = 207
    return FinalizeAnswer.model_validate({"results": [one.as_dict() for one in results]})


@router.get("/v1/billing/invoices", operation_id="list_invoice_states", summary="Invoices by their states")
def get_lives(
    runtime: OpenRuntime,
    own_org: OwnOrg,
    org_id: Annotated[str | None, Query(description="Only this org's.", max_length=512)] = None,
    month: Annotated[str | None, Query(description="Only of this month, such as 2026-10.")] = None,
    state: Annotated[State | None, Query(description="Only those that stand so.")] = None,
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the page before.", max_length=600)] = None,
    limit: Annotated[int, Query(description="Most invoices on the page.", ge=1, le=1000)] = 100,
) -> LifeList:
    """Newest month first. Drafts are computed as they are asked for: of one org, or with the state `draft`. With a key
    of an org, its own.
    """
    org = org_id if own_org is None else own_org
    found = list_life(runtime, org_id=org, month=month, state=state, after=cursor)
    page = list(islice(found, limit))
    more = next(found, None) if len(page) == limit else None
    next_cursor = None if more is None else life_cursor(page[-1])
    return LifeList.model_validate({"invoices": [one.as_dict() for one in page], "next_cursor": next_cursor})


@router.get(
    "/v1/billing/due",
    operation_id="list_due",
    summary="What is still to be paid",
    response_model=DueAnswer,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def get_due(
    runtime: OpenRuntime,
    own_org: OwnOrg,
    org_id: Annotated[str | None, Query(description="Only this org's.", max_length=512)] = None,
    due_format: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
    test: Annotated[bool, Query(description="Those of test orgs, too.")] = False,
) -> Any:
    """What is due first comes first; for the program that collects it. With a key of an org, its own."""
    due = due_invoices(runtime, org_id if own_org is None else own_org, tests=test)
    if due_format == "csv":
        return PlainTextResponse("".join(due_csv(due)), media_type="text/csv")
    return DueAnswer.model_validate({"due": due})


@router.get(
    "/v1/invoices/{invoice_id}/life",
    operation_id="show_invoice_life",
    summary="How an invoice stands",
    responses=problems(404),
)
def get_life(runtime: OpenRuntime, own_org: OwnOrg, invoice_id: InvoiceId) -> LifeAnswer:
    """Its number, state, balance and all that has happened to it, who sells, and who is billed."""
    return LifeAnswer.model_validate(show_life(runtime, invoice_id, org_id=own_org).as_dict())


class PaymentRequest(Asked):
    """Money that came in for an invoice, or went back."""

    request_id: Annotated[str, Field(description="The provider's own id of the payment: it counts once.")]
    provider: Annotated[str, Field(description="Who says so.", max_length=64)] = "manual"
    amount_usd: Usd
    currency: Annotated[str, Field(description="USD; anything else is refused.")] = "USD"
    returned: Annotated[bool, Field(description="Whether it went back to the customer.")] = False
    reference: Annotated[str | None, Field(description="What it is known by elsewhere.")] = None
    author: str


@router.post(
    "/v1/invoices/{invoice_id}/payments",
    operation_id="record_payment",
    summary="Record a payment",
    responses=problems(404, 409),
)
def post_payment(runtime: OpenRuntime, invoice_id: InvoiceId, asked: PaymentRequest) -> ActionAnswer:
    """In part, in full or more. The same event of the same provider again is the same payment."""
    return ActionAnswer.model_validate(record_payment(runtime, invoice_id, _members(asked)).as_dict())


class CreditNoteRequest(Asked):
    """A part of an invoice to be taken back."""

    request_id: RequestId
    amount_usd: Usd
    account: Literal["revenue", "promo_expense", "sla_expense", "dispute_expense"] = "revenue"
    line: Annotated[int | None, Field(description="The line that it is about.", ge=1, le=10_000)] = None
    author: str
    reason: str


@router.post(
    "/v1/invoices/{invoice_id}/credit-notes",
    operation_id="credit_invoice",
    summary="Take a part of an invoice back",
    responses=problems(404, 409),
)
def post_credit_note(runtime: OpenRuntime, invoice_id: InvoiceId, asked: CreditNoteRequest) -> ActionAnswer:
    """By a note with a number of its own, of at most what is left of the invoice, or of the line."""
    return ActionAnswer.model_validate(credit_invoice(runtime, invoice_id, _members(asked)).as_dict())


class VoidRequest(Asked):
    """All that is left of an invoice to be taken back."""

    request_id: Annotated[str | None, Field(description="Your id of this request; the invoice's when left out.")] = None
    author: str
    reason: str


@router.post(
    "/v1/invoices/{invoice_id}/void",
    operation_id="void_invoice",
    summary="Void an invoice",
    responses=problems(404, 409),
)
def post_void(runtime: OpenRuntime, invoice_id: InvoiceId, asked: VoidRequest) -> ActionAnswer:
    """Before anything was paid for it."""
    return ActionAnswer.model_validate(void_invoice(runtime, invoice_id, _members(asked)).as_dict())


class ProfileRequest(Asked):
    """Who is billed for an org."""

    request_id: Annotated[str | None, Field(description="Your id of this request.")] = None
    author: str
    name: Annotated[str, Field(description="Of the business, or the person.")]
    address: Annotated[list[str], Field(description="Line by line.", max_length=8)] = Field(default_factory=list)
    tax_id: str | None = None
    email: str | None = None
    language: Annotated[str | None, Field(description="Such as de-DE.")] = None
    purchase_order: str | None = None
    user_id: Annotated[str | None, Field(description="Of a sole trader: the user that this is.")] = None


@router.put(
    "/v1/orgs/{org_id:path}/billing-profile",
    operation_id="set_billing_profile",
    summary="Say who is billed",
    responses=problems(404, 409),
)
def put_profile(runtime: OpenRuntime, org_id: OrgId, asked: ProfileRequest) -> ProfileAnswer:
    """A new version; invoices that are issued keep the one that they name. The same again is none."""
    return ProfileAnswer.model_validate(set_profile(runtime, org_id, _members(asked)).as_dict())


@router.get(
    "/v1/orgs/{org_id:path}/billing-profile",
    operation_id="show_billing_profile",
    summary="Who is billed",
    responses=problems(404),
)
def get_profile(runtime: OpenRuntime, org_id: OrgId) -> ProfileHistory:
    """Every version, the first one first."""
    found = [one.as_dict() for one in profile_history(runtime, org_id)]
    return ProfileHistory.model_validate({"org_id": org_id, "profiles": found})


class ClockRequest(Asked):
    """Where the clock of a new test org begins."""

    at: Annotated[str, Field(description="RFC 3339.")]
    author: str


@router.put(
    "/v1/orgs/{org_id:path}/test-clock",
    operation_id="make_test_org",
    summary="Make a test org",
    responses=problems(409),
)
def put_clock(runtime: OpenRuntime, org_id: OrgId, asked: ClockRequest) -> ClockAnswer:
    """An org that is not there yet has a clock of its own from its beginning on. Put it on a plan then."""
    at = parse_instant(asked.at, where="at")
    return ClockAnswer.model_validate(make_test_org(runtime, org_id, at, author=asked.author).as_dict())


@router.get(
    "/v1/orgs/{org_id:path}/test-clock",
    operation_id="show_test_clock",
    summary="Where a test org's clock stands",
    responses=problems(409),
)
def get_clock(runtime: OpenRuntime, org_id: OrgId) -> ClockAnswer:
    """And where it was put before."""
    return ClockAnswer.model_validate(show_clock(runtime, org_id).as_dict())


class AdvanceRequest(Asked):
    """How far a test org's clock is to be put: one of the two."""

    to: Annotated[str | None, Field(description="RFC 3339.")] = None
    by: Annotated[str | None, Field(description="Such as 1mo, 10d, 36h, 2w or 1y.")] = None
    author: str


@router.post(
    "/v1/orgs/{org_id:path}/test-clock/advance",
    operation_id="advance_test_clock",
    summary="Put a test org's clock forward",
    response_model_exclude_unset=True,
    responses=problems(404, 409),
)
def post_advance(runtime: OpenRuntime, org_id: OrgId, asked: AdvanceRequest) -> AdvanceAnswer:
    """All that is due on the way is done, in order: ends, included credits, closes, invoices."""
    to = None if asked.to is None else parse_instant(asked.to, where="to")
    return AdvanceAnswer.model_validate(
        advance_clock(runtime, org_id, to=to, by=asked.by, author=asked.author).as_dict()
    )


def _members(asked: Asked) -> dict[str, Any]:
    return asked.model_dump(exclude_unset=True)
