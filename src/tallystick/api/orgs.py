"""Orgs: who they are, what they are subscribed to, and their events as stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from tallystick.api.context import OpenRuntime, OrgId
from tallystick.api.openapi import problems
from tallystick.api.paging import page_after
from tallystick.api.shapes import Answer, Asked, CostLine, Instant
from tallystick.api.strict import StrictRoute
from tallystick.app.org_events import PAGE_EVENTS_MAX, list_org_events
from tallystick.app.orgs import all_orgs, find_org, leave_org, preview_change, set_subscription
from tallystick.core.instants import parse_instant

router = APIRouter(prefix="/v1/orgs", tags=["orgs"], route_class=StrictRoute)


class Subscription(Answer):
    """Which contract and plan an org is on from `effective_from` on, and on whose clocks its months begin.

    `plan` is null where the org has left.
    """

    ordinal: int
    contract: str
    plan: str | None
    time_zone: str
    effective_from: Instant
    recorded_at: Instant


class Org(Answer):
    """An org: how many ledger entries it has, its subscription in force now, and every one it ever had."""

    org_id: str
    entries: int
    subscription: Subscription | None
    history: list[Subscription]


class OrgPage(Answer):
    """Orgs in order of id; `next_cursor` is null on the last page."""

    orgs: list[Org]
    next_cursor: str | None


@router.get("", operation_id="list_orgs", summary="Who there is")
def get_orgs(
    runtime: OpenRuntime,
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the page before.", max_length=512)] = None,
    limit: Annotated[int, Query(description="Most orgs on the page.", ge=1, le=1000)] = 100,
) -> OrgPage:
    """Every org that has sent an event or has a subscription."""
    page, next_cursor = page_after(all_orgs(runtime), cursor, limit, name=lambda org: org.org_id)
    return OrgPage.model_validate({"orgs": page, "next_cursor": next_cursor})


class SubscriptionRequest(Asked):
    """Which plan to put the org on. The same again changes nothing."""

    contract: Annotated[str, Field(description="The name of an applied contract.")]
    plan: str
    time_zone: Annotated[
        str | None, Field(description="IANA name; where the org's months begin: what it has, else UTC. It stays.")
    ] = None
    effective_from: Annotated[str | None, Field(description="RFC 3339; the instant at which it begins.")] = None
    when: Annotated[
        Literal["now", "period_end"] | None,
        Field(
            description="In the place of an instant. With neither, an upgrade (a base fee as high or higher) holds "
            "now, a downgrade from the end of the org's present month on."
        ),
    ] = None


@router.put(
    "/{org_id:path}/subscription",
    operation_id="set_subscription",
    summary="Put it on a plan",
    responses=problems(404, 409),
)
def put_subscription(runtime: OpenRuntime, org_id: OrgId, asked: SubscriptionRequest) -> Subscription:
    """Append a subscription. What was in force before stays in force until this one begins.

    Without `effective_from` it takes the place of changes that were recorded for later.
    """
    return Subscription.model_validate(set_subscription(runtime, org_id, **_change(asked)))


class ChangeLine(Answer):
    """A line of the month in which a change of plan begins."""

    plan: str
    kind: str
    days: int
    days_of_month: int
    amount_usd: str
    description: str


class ChangeMonth(Answer):
    """That month's invoice as it stands."""

    total_usd: str
    lines: list[ChangeLine]


class ChangePreview(Answer):
    """What a change of plan would cost in the month in which it begins, from what is recorded so far.

    `before` and `after` are null where the org is on no plan in that month.
    """

    org_id: str
    month: str
    change: Literal["join", "upgrade", "downgrade", "leave", "none"]
    from_plan: str | None
    to_plan: str | None
    effective_from: str
    before: ChangeMonth | None
    after: ChangeMonth | None
    difference_usd: str
    next_base_usd: str


@router.post(
    "/{org_id:path}/subscription/preview",
    operation_id="preview_subscription",
    summary="What a plan would cost",
    responses=problems(404, 409),
)
def post_preview(runtime: OpenRuntime, org_id: OrgId, asked: SubscriptionRequest) -> ChangePreview:
    """The month in which the change would begin, with it and without. Nothing is recorded."""
    return ChangePreview.model_validate(preview_change(runtime, org_id, **_change(asked)).as_dict())


def _change(asked: SubscriptionRequest) -> dict[str, Any]:
    begins = None if asked.effective_from is None else parse_instant(asked.effective_from, where="effective_from")
    return {
        "contract": asked.contract,
        "plan": asked.plan,
        "time_zone": asked.time_zone,
        "effective_from": begins,
        "when": asked.when,
    }


class LeaveAnswer(Answer):
    """The record of leaving; null when the org was on no plan then anyway."""

    org_id: str
    subscription: Subscription | None


@router.delete(
    "/{org_id:path}/subscription", operation_id="leave", summary="Take it off its plan", responses=problems(404)
)
def delete_subscription(
    runtime: OpenRuntime,
    org_id: OrgId,
    at: Annotated[str | None, Query(description="RFC 3339; the instant at which it ends.", max_length=40)] = None,
    when: Annotated[
        Literal["now", "period_end"] | None,
        Query(description="In the place of an instant; with neither, the end of the org's present month."),
    ] = None,
) -> LeaveAnswer:
    """End the org's subscription. Nothing is deleted: it is a record of its own, and what was stays in the record."""
    instant = None if at is None else parse_instant(at, where="at")
    recorded = leave_org(runtime, org_id, at=instant, when=when)
    return LeaveAnswer(org_id=org_id, subscription=None if recorded is None else Subscription.model_validate(recorded))


class Correction(Answer):
    """What an event turned out to cost when its rate became known."""

    seq: int
    cost_usd: str | None
    cost_status: str
    rate_version: str


class StoredEvent(Answer):
    """A fact as it arrived, where it stands in the org's ledger, and what it cost us.

    Where a person was erased, `erased` is true, and there is no user, session or attribute any more.
    """

    seq: int
    request_id: str
    time: Instant
    recorded_at: Instant
    user_id: str | None
    session_id: str | None
    feature: str
    environment: str
    provider: str | None
    model: str
    api_key_id: str | None
    action: str | None
    latency_ms: int | None
    outcome: str
    usage_status: str
    meters: dict[str, int]
    price_context: dict[str, str]
    provider_cost_usd: str | None
    payer: Literal["seller", "customer"]
    attributes: dict[str, str]
    erased: bool
    fingerprint: str
    leaf: str
    cost_usd: str | None
    cost_status: str
    rate_version: str
    reason: str | None
    lines: list[CostLine]
    correction: Correction | None


class EventPage(Answer):
    """Events in the order in which they were stored; `next_cursor` is null on the last page."""

    events: list[StoredEvent]
    next_cursor: str | None


@router.get("/{org_id:path}/events", operation_id="list_org_events", summary="Its events", responses=problems(404))
def get_events(
    runtime: OpenRuntime,
    org_id: OrgId,
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the page before.", max_length=40)] = None,
    limit: Annotated[int, Query(description="Most events on the page.", ge=1, le=PAGE_EVENTS_MAX)] = 100,
) -> EventPage:
    """An org's events as stored, a page at a time.

    What is stored later comes after what was read: following the cursor misses nothing and repeats nothing.
    """
    page: dict[str, Any] = list_org_events(runtime, org_id, cursor=cursor, limit=limit)
    return EventPage.model_validate(page)


# An org id may hold slashes: this address comes last, since it matches those above as well.
@router.get("/{org_id:path}", operation_id="show_org", summary="One org", responses=problems(404))
def get_org(runtime: OpenRuntime, org_id: OrgId) -> Org:
    """Its subscription in force, and every one it ever had."""
    return Org.model_validate(find_org(runtime, org_id))
