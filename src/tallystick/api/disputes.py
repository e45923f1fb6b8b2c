"""Disputes: opened, shown, decided; and their evidence, which a customer can check offline.

A key of an org sees and opens that org's; to it, those of others are none. An operator's names the org where several
have a dispute of that id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from tallystick.api.access import OwnOrg
from tallystick.api.context import OpenRuntime
from tallystick.api.dispute_shapes import (
    DecisionRequest,
    DisputeAnswer,
    DisputePage,
    DisputeRequest,
    DoneAnswer,
    ReviewRequest,
    State,
    UpholdRequest,
)
from tallystick.api.openapi import problems
from tallystick.api.shapes import Asked
from tallystick.api.strict import StrictRoute
from tallystick.app.dispute_bundle import bundle_name, make_bundle
from tallystick.app.disputes import (
    DoneDispute,
    begin_review,
    open_dispute,
    reject_dispute,
    uphold_dispute,
    withdraw_dispute,
)
from tallystick.app.disputes_shown import list_disputes, org_of_dispute, show_dispute
from tallystick.app.runtime import Runtime

router = APIRouter(prefix="/v1/disputes", tags=["disputes"], route_class=StrictRoute)

DisputeId = Annotated[str, Path(description="Such as q17.", min_length=1, max_length=32)]
OrgQuery = Annotated[
    str | None, Query(alias="org_id", description="Whose it is; a key of an org needs none.", max_length=512)
]


@router.post(
    "",
    operation_id="open_dispute",
    summary="Dispute a charge",
    status_code=201,
    response_model_exclude_unset=True,
    responses={200: {"model": DoneAnswer, "description": "It was opened before."}, **problems(404, 409)},
)
def post_dispute(runtime: OpenRuntime, own_org: OwnOrg, asked: DisputeRequest, response: Response) -> DoneAnswer:
    """The ledger is replayed at once, and what that finds is attached as evidence. The same request id again is the
    same dispute.
    """
    done = open_dispute(runtime, _members(asked), org_id=own_org)
    if not done.is_new:
        response.status_code = 200
    return DoneAnswer.model_validate(done.as_dict())


@router.get("", operation_id="list_disputes", summary="Disputes")
def get_disputes(
    runtime: OpenRuntime,
    own_org: OwnOrg,
    org_id: Annotated[str | None, Query(description="Only this org's.", max_length=512)] = None,
    state: Annotated[State | None, Query(description="Only those that stand so.")] = None,
    overdue: Annotated[bool, Query(description="Only those that should have been answered by now.")] = False,
    invoice_id: Annotated[str | None, Query(description="Only those on this invoice.", max_length=128)] = None,
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the page before.", max_length=700)] = None,
    limit: Annotated[int, Query(description="Most disputes on the page.", ge=1, le=1000)] = 100,
) -> DisputePage:
    """Those first that were opened last; with a key of an org, its own."""
    found = list_disputes(
        runtime,
        org_id=org_id if own_org is None else own_org,
        state=state,
        overdue=overdue,
        invoice_id=invoice_id,
        after=cursor,
        limit=limit + 1,
    )
    page = found[:limit]
    next_cursor = page[-1].cursor() if len(found) > limit else None
    return DisputePage.model_validate({"disputes": [one.as_dict() for one in page], "next_cursor": next_cursor})


@router.get("/{dispute_id}", operation_id="show_dispute", summary="One dispute", responses=problems(404))
def get_dispute(
    runtime: OpenRuntime, own_org: OwnOrg, dispute_id: DisputeId, asked_org: OrgQuery = None
) -> DisputeAnswer:
    """How it stands, and all that has happened to it."""
    org_id = _org(runtime, own_org, asked_org, dispute_id)
    return DisputeAnswer.model_validate(show_dispute(runtime, org_id, dispute_id).as_dict())


@router.post(
    "/{dispute_id}/review",
    operation_id="review_dispute",
    summary="Begin to look at a dispute",
    responses=problems(404, 409),
)
def post_review(
    runtime: OpenRuntime, own_org: OwnOrg, dispute_id: DisputeId, asked: ReviewRequest, asked_org: OrgQuery = None
) -> DoneAnswer:
    """It is under review from then on."""
    return _done(begin_review, runtime, _org(runtime, own_org, asked_org, dispute_id), dispute_id, asked)


@router.post(
    "/{dispute_id}/uphold",
    operation_id="uphold_dispute",
    summary="The customer is right",
    responses=problems(404, 409),
)
def post_uphold(
    runtime: OpenRuntime, own_org: OwnOrg, dispute_id: DisputeId, asked: UpholdRequest, asked_org: OrgQuery = None
) -> DoneAnswer:
    """In the same transaction a credit note follows on the invoice, a credit for the next one where it is on none yet,
    and refunds of the credits that were charged.
    """
    return _done(uphold_dispute, runtime, _org(runtime, own_org, asked_org, dispute_id), dispute_id, asked)


@router.post(
    "/{dispute_id}/reject",
    operation_id="reject_dispute",
    summary="What was charged stands",
    responses=problems(404, 409),
)
def post_reject(
    runtime: OpenRuntime, own_org: OwnOrg, dispute_id: DisputeId, asked: DecisionRequest, asked_org: OrgQuery = None
) -> DoneAnswer:
    """The reason is the explanation that the customer reads."""
    return _done(reject_dispute, runtime, _org(runtime, own_org, asked_org, dispute_id), dispute_id, asked)


@router.post(
    "/{dispute_id}/withdraw",
    operation_id="withdraw_dispute",
    summary="No longer dispute it",
    responses=problems(404, 409),
)
def post_withdraw(
    runtime: OpenRuntime, own_org: OwnOrg, dispute_id: DisputeId, asked: DecisionRequest, asked_org: OrgQuery = None
) -> DoneAnswer:
    """By the customer, before it is decided."""
    return _done(withdraw_dispute, runtime, _org(runtime, own_org, asked_org, dispute_id), dispute_id, asked)


@router.get(
    "/{dispute_id}/bundle",
    operation_id="dispute_bundle",
    summary="Its evidence",
    response_class=Response,
    responses={
        200: {
            "description": "A ZIP; docs/disputes.md describes its files.",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        },
        **problems(404, 409),
    },
)
def get_bundle(runtime: OpenRuntime, own_org: OwnOrg, dispute_id: DisputeId, asked_org: OrgQuery = None) -> Response:
    """One ZIP with everything that is needed to check the dispute offline: `tally dispute check FILE`."""
    org_id = _org(runtime, own_org, asked_org, dispute_id)
    name = bundle_name(org_id, dispute_id)
    return Response(
        make_bundle(runtime, org_id, dispute_id),
        media_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _org(runtime: Runtime, own_org: str | None, asked_org: str | None, dispute_id: str) -> str:
    return org_of_dispute(runtime, dispute_id, asked_org if own_org is None else own_org)


def _done(act: Callable[..., DoneDispute], runtime: Runtime, org_id: str, dispute_id: str, asked: Asked) -> DoneAnswer:
    return DoneAnswer.model_validate(act(runtime, dispute_id, _members(asked), org_id=org_id).as_dict())


def _members(asked: Asked) -> dict[str, Any]:
    return asked.model_dump(exclude_unset=True)
