"""Webhooks: where events are sent, what became of that, and sending them again.

A key of an org sees and changes that org's endpoints; to it, all others are none.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.requests import Request

from tallystick.api.access import OwnOrg, key_of, require_org
from tallystick.api.context import OpenRuntime
from tallystick.api.openapi import problems
from tallystick.api.strict import StrictRoute
from tallystick.api.webhook_shapes import (
    DeliveryDetail,
    DeliveryPage,
    EventType,
    EventTypes,
    NewWebhook,
    ReplayRequest,
    RotateRequest,
    Sent,
    Webhook,
    WebhookChange,
    WebhookList,
    WebhookRequest,
)
from tallystick.app.webhook_endpoints import (
    change,
    create_endpoint,
    list_endpoints,
    remove,
    rotate_secret,
    show_endpoint,
)
from tallystick.app.webhook_log import PAGE_MAX, list_deliveries, ping, replay, show_delivery
from tallystick.core.instants import parse_duration, parse_instant
from tallystick.core.webhook_events import EVENT_TYPES

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=StrictRoute)

EndpointId = Annotated[str, Path(description="Such as we_….", min_length=1, max_length=64)]


@router.post(
    "",
    operation_id="create_webhook",
    summary="Have events sent somewhere",
    status_code=201,
    responses=problems(409),
)
def post_webhook(runtime: OpenRuntime, request: Request, own_org: OwnOrg, asked: WebhookRequest) -> NewWebhook:
    """The answer has the secret that deliveries are signed with: once, for it can be shown to nobody again."""
    org_id = asked.org_id if asked.org_id is not None else own_org
    require_org(request, org_id)
    made = create_endpoint(
        runtime,
        url=asked.url,
        types=asked.types,
        org_id=org_id,
        description=asked.description,
        author=_author(request, asked.author),
    )
    return NewWebhook.model_validate(made.as_dict())


@router.get("", operation_id="list_webhooks", summary="Where events are sent")
def get_webhooks(
    runtime: OpenRuntime,
    own_org: OwnOrg,
    org_id: Annotated[str | None, Query(description="Only this org's.", max_length=512)] = None,
) -> WebhookList:
    """The oldest first; with a key of an org, its own. No secret is shown."""
    found = list_endpoints(runtime, org_id=org_id if own_org is None else own_org, scope=own_org)
    return WebhookList.model_validate({"endpoints": found})


@router.get("/types", operation_id="list_webhook_types", summary="What events there are")
def get_types() -> EventTypes:
    """The list is open: more may come, and receivers leave alone what they do not know."""
    return EventTypes(types=[EventType(type=name, description=said) for name, said in EVENT_TYPES.items()])


@router.get("/{endpoint_id}", operation_id="show_webhook", summary="One endpoint", responses=problems(404))
def get_webhook(runtime: OpenRuntime, own_org: OwnOrg, endpoint_id: EndpointId) -> Webhook:
    """How it stands."""
    return Webhook.model_validate(show_endpoint(runtime, endpoint_id, scope=own_org))


@router.patch("/{endpoint_id}", operation_id="change_webhook", summary="Change an endpoint", responses=problems(404))
def patch_webhook(
    runtime: OpenRuntime, request: Request, own_org: OwnOrg, endpoint_id: EndpointId, asked: WebhookChange
) -> Webhook:
    """Its URL, its types, or whether it is enabled. Enabled again, it is sent what still waits for it."""
    changed = change(
        runtime,
        endpoint_id,
        scope=own_org,
        url=asked.url,
        types=asked.types,
        description=asked.description,
        enabled=asked.enabled,
        reason=asked.reason,
        author=_author(request, asked.author),
    )
    return Webhook.model_validate(changed)


@router.delete("/{endpoint_id}", operation_id="remove_webhook", summary="Remove an endpoint", responses=problems(404))
def delete_webhook(
    runtime: OpenRuntime,
    request: Request,
    own_org: OwnOrg,
    endpoint_id: EndpointId,
    author: Annotated[str | None, Query(description="Who does it.", max_length=512)] = None,
) -> Webhook:
    """Nothing is sent there any more, not even what waits."""
    removed = remove(runtime, endpoint_id, scope=own_org, author=_author(request, author))
    return Webhook.model_validate(removed)


@router.post(
    "/{endpoint_id}/rotate",
    operation_id="rotate_webhook_secret",
    summary="Give an endpoint another secret",
    responses=problems(404),
)
def post_rotate(
    runtime: OpenRuntime, request: Request, own_org: OwnOrg, endpoint_id: EndpointId, asked: RotateRequest
) -> NewWebhook:
    """Until the overlap is over, each delivery is signed by both."""
    overlap = parse_duration(asked.overlap, where="overlap")
    author = _author(request, asked.author)
    made = rotate_secret(runtime, endpoint_id, scope=own_org, overlap=overlap, author=author)
    return NewWebhook.model_validate(made.as_dict())


@router.post(
    "/{endpoint_id}/test",
    operation_id="ping_webhook",
    summary="Send a test",
    status_code=202,
    responses=problems(404, 409),
)
def post_ping(runtime: OpenRuntime, own_org: OwnOrg, endpoint_id: EndpointId) -> Sent:
    """A `webhook.ping`, attempted once; its delivery says how it went."""
    return Sent(delivery_ids=[ping(runtime, endpoint_id, scope=own_org)])


@router.post(
    "/{endpoint_id}/replay",
    operation_id="replay_webhook",
    summary="Send events again",
    status_code=202,
    responses=problems(404),
)
def post_replay(runtime: OpenRuntime, own_org: OwnOrg, endpoint_id: EndpointId, asked: ReplayRequest) -> Sent:
    """With the ids that they had. What still waits for the endpoint is not doubled."""
    sent = replay(
        runtime,
        endpoint_id,
        scope=own_org,
        event_id=asked.event_id,
        since=None if asked.since is None else parse_instant(asked.since, where="since"),
        until=None if asked.until is None else parse_instant(asked.until, where="until"),
        types=asked.types,
        missed=asked.missed,
    )
    return Sent(delivery_ids=sent)


@router.get(
    "/{endpoint_id}/deliveries",
    operation_id="list_webhook_deliveries",
    summary="What was sent",
    responses=problems(404),
)
def get_deliveries(
    runtime: OpenRuntime,
    own_org: OwnOrg,
    endpoint_id: EndpointId,
    state: Annotated[
        Literal["waiting", "delivered", "failed", "canceled"] | None, Query(description="Only those that stand so.")
    ] = None,
    event_id: Annotated[str | None, Query(description="Only of this event.", max_length=64)] = None,
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the page before.", max_length=64)] = None,
    limit: Annotated[int, Query(description="Most deliveries on the page.", ge=1, le=PAGE_MAX)] = 100,
) -> DeliveryPage:
    """The newest first, each with what came of its last attempt."""
    page = list_deliveries(
        runtime, endpoint_id, scope=own_org, state=state, event_id=event_id, cursor=cursor, limit=limit
    )
    return DeliveryPage.model_validate(page)


@router.get(
    "/{endpoint_id}/deliveries/{delivery_id}",
    operation_id="show_webhook_delivery",
    summary="One delivery",
    responses=problems(404),
)
def get_delivery(
    runtime: OpenRuntime,
    own_org: OwnOrg,
    endpoint_id: EndpointId,
    delivery_id: Annotated[str, Path(description="Such as dlv_….", min_length=1, max_length=64)],
) -> DeliveryDetail:
    """With every attempt, and what is sent."""
    shown = show_delivery(runtime, delivery_id, endpoint_id=endpoint_id, scope=own_org)
    return DeliveryDetail.model_validate(shown)


def _author(request: Request, said: str | None) -> str:
    """Who was named, else whose key it is."""
    key = key_of(request)
    return said or (key.key_id if key is not None else "api")
