"""Promised service: incidents that breached it, and what an org's month is credited for them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from tallystick.api.context import OpenRuntime, OrgId
from tallystick.api.openapi import problems
from tallystick.api.shapes import Answer, Asked, Instant
from tallystick.api.strict import StrictRoute
from tallystick.app.incidents import PAGE_MAX, list_incidents, record_incident, withdraw_incident
from tallystick.app.sla import show_sla

router = APIRouter(tags=["service credits"], route_class=StrictRoute)

Kind = Literal["downtime", "latency", "maintenance"]
RecordKind = Literal["downtime", "latency", "maintenance", "withdrawal"]
RequestId = Annotated[str, Field(description="Your id of this request: sent again, it changes nothing.")]


class IncidentRequest(Asked):
    """What was down, slow or announced, when, and whom it concerned."""

    request_id: RequestId
    kind: Kind
    begin: Annotated[str, Field(alias="from", description="RFC 3339: the first instant.")]
    end: Annotated[str, Field(alias="to", description="RFC 3339: the first instant at which it was over.")]
    orgs: Annotated[list[str] | None, Field(description="Whom it concerned.", max_length=1000)] = None
    everyone: Annotated[bool, Field(alias="all", description="In the place of `orgs`: it concerned everyone.")] = False
    feature: Annotated[str | None, Field(description="What it concerned; everything when left out.")] = None
    reason: Annotated[str, Field(description="What happened; customers read it.")]
    author: str
    replaces: Annotated[str | None, Field(description="The record that this one stands in the place of.")] = None


class WithdrawalRequest(Asked):
    """That a record was wrong."""

    request_id: RequestId
    reason: str
    author: str


class OrgIncident(Answer):
    """An incident, as an org that it concerned sees it."""

    incident_id: str
    kind: RecordKind
    begin: Instant = Field(alias="from")
    end: Instant = Field(alias="to")
    feature: str | None
    reason: str
    recorded_at: Instant
    replaces: str | None


class Incident(OrgIncident):
    """A record; `orgs` is null when it concerned everyone."""

    orgs: list[str] | None
    author: str
    request_id: str


class RecordedIncident(Incident):
    """A record that was asked for; `is_new` tells whether it was made now."""

    is_new: bool


class ListedIncident(Incident):
    """A record; `taken_back_by` is the one that withdraws or replaces it, null where it holds."""

    taken_back_by: str | None


class IncidentPage(Answer):
    """Records in the order in which they were made; `next_cursor` is null on the last page."""

    incidents: list[ListedIncident]
    next_cursor: str | None


class SlowRequests(Answer):
    """How many requests there were, and how many of them took longer than that."""

    over_ms: int
    requests: int
    slow: int


class ReachedStep(Answer):
    """A step of the promise that was reached, and the share that it credits."""

    step: str
    credit: str


class Term(Answer):
    """A term of the promise, in words."""

    term: str
    says: str


class PlanCredit(Answer):
    """What one plan of the month comes to: what it promises, what was measured, and the arithmetic line by line."""

    section: int
    contract: str
    contract_version: str
    contract_sha256: str
    plan: str
    base: Literal["charges", "base_fee"]
    base_usd: str
    time_seconds: str
    downtime_seconds: str
    slow_seconds: str
    requests: list[SlowRequests]
    reached: list[ReachedStep]
    share: str
    exact_usd: str
    incidents: list[str]
    rule: list[Term]
    why: list[str]


class GivenCredit(Answer):
    """A credit that was given for the month."""

    credit_id: str
    request_id: str
    amount_usd: str


class SlaMonth(Answer):
    """What a month is credited: in all, given by now, and still to be given.

    `invoice_id` is null before it is closed.
    """

    org_id: str
    month: str
    invoice_id: str | None
    credit_usd: str
    given_usd: str
    to_give_usd: str
    plans: list[PlanCredit]
    incidents: list[OrgIncident]
    given: list[GivenCredit]


_RECORDED: dict[int | str, dict[str, Any]] = {
    200: {"model": RecordedIncident, "description": "It was recorded already."}
}


@router.post(
    "/v1/incidents",
    operation_id="record_incident",
    summary="Record an incident",
    status_code=201,
    responses={**_RECORDED, **problems(404, 409)},
)
def post_incident(runtime: OpenRuntime, asked: IncidentRequest, response: Response) -> RecordedIncident:
    """Downtime, slow service, or announced maintenance. A record is never changed; it may be withdrawn or replaced."""
    return _answer(
        record_incident(runtime, asked.model_dump(by_alias=True, exclude_none=True, exclude_unset=True)), response
    )


@router.post(
    "/v1/incidents/{incident_id}/withdraw",
    operation_id="withdraw_incident",
    summary="Take a record of an incident back",
    status_code=201,
    responses={**_RECORDED, **problems(404, 409)},
)
def post_withdrawal(
    runtime: OpenRuntime,
    incident_id: Annotated[str, Path(description="Such as inc3.", max_length=30)],
    asked: WithdrawalRequest,
    response: Response,
) -> RecordedIncident:
    """What was credited because of it stays with the customer."""
    return _answer(withdraw_incident(runtime, incident_id, asked.model_dump()), response)


@router.get("/v1/incidents", operation_id="list_incidents", summary="Recorded incidents")
def get_incidents(
    runtime: OpenRuntime,
    org_id: Annotated[str | None, Query(description="Only what concerned this org.", max_length=512)] = None,
    kind: Annotated[RecordKind | None, Query(description="Only of this kind.")] = None,
    begin: Annotated[str | None, Query(alias="from", description="RFC 3339; only what was not over by then.")] = None,
    end: Annotated[str | None, Query(alias="to", description="RFC 3339; only what began before that.")] = None,
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the page before.", max_length=30)] = None,
    limit: Annotated[int, Query(description="Most records on the page.", ge=1, le=PAGE_MAX)] = 100,
) -> IncidentPage:
    """In the order in which they were recorded, withdrawn ones among them."""
    page = list_incidents(
        runtime, org_id=org_id, kind=kind, start=begin, end=end, cursor=cursor, limit=limit
    )  # fmt: skip
    return IncidentPage.model_validate(page)


@router.get(
    "/v1/orgs/{org_id:path}/sla/{month}",
    operation_id="show_sla",
    summary="What a month is credited for breaches of the promised service",
    responses=problems(404),
)
def get_sla(
    runtime: OpenRuntime,
    org_id: OrgId,
    month: Annotated[str, Path(description="Such as 2026-10.", max_length=20)],
) -> SlaMonth:
    """Plan by plan and line by line, with the incidents known now. Nothing is given by looking."""
    return SlaMonth.model_validate(show_sla(runtime, org_id, month))


def _answer(members: dict[str, object], response: Response) -> RecordedIncident:
    if not members["is_new"]:
        response.status_code = 200
    return RecordedIncident.model_validate(members)
