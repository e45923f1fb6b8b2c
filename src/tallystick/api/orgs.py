"""Orgs: who they are, what they are subscribed to, and their events as stored."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from tallystick.api.context import OpenRuntime, OrgId
from tallystick.api.openapi import problems
from tallystick.api.shapes import Answer, CostLine
from tallystick.app.org_events import PAGE_EVENTS_MAX, list_org_events

router = APIRouter(prefix="/v1/orgs", tags=["orgs"])


class Correction(Answer):
    """What an event turned out to cost when its rate became known."""

    seq: int
    cost_usd: str | None
    cost_status: str
    rate_version: str


class StoredEvent(Answer):
    """A fact as it arrived, where it stands in the org's ledger, and what it cost us."""

    seq: int
    request_id: str
    time: str
    recorded_at: str
    user_id: str
    session_id: str
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
    attributes: dict[str, str]
    fingerprint: str
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


@router.get("/{org_id}/events", operation_id="list_org_events", responses=problems(404))
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
