"""Payments that are collected elsewhere: providers' callbacks, what became of them, and whose money it is by hand."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Literal

import anyio
import anyio.to_thread
from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.requests import Request

from tallystick.api.bodies import bounded_body
from tallystick.api.context import OpenRuntime
from tallystick.api.openapi import problems
from tallystick.api.shapes import Answer, Asked, Instant
from tallystick.api.strict import StrictRoute
from tallystick.app.body_budget import BodyBudget
from tallystick.app.payment_events import (
    TakenEvent,
    assign_event,
    event_cursor,
    event_members,
    list_payment_events,
    retry_event,
    signed_event,
    take_event,
)
from tallystick.app.payments.adapter import invalid_callback, unavailable
from tallystick.core.errors import Unavailable

CALLBACK_BYTES_MAX = 256 * 1024
"""Largest body of a callback; a provider's events are a tenth of that."""
CALLBACK_SECONDS = 10
"""How long a body may take to come: nobody has shown a key."""
CALLBACK_BYTES_ALL = 8 * 1024 * 1024
"""Most bytes of callbacks in memory at once; they take nothing of what there is for callers who show a key."""
WORK_SECONDS = 30
"""How long its sender waits, its turn included. What goes on after that leaves its place to others, and is safe."""
CALLBACKS_AT_ONCE = 4
"""How many callbacks are worked on at once; each may wait for the provider."""
CALLBACKS_WAITING_MAX = 64
"""How many wait beyond that; whoever comes then is told to come again, as providers do."""

router = APIRouter(tags=["payments"])
strict = APIRouter(tags=["payments"], route_class=StrictRoute)

Provider = Annotated[str, Path(description="The payment provider, such as stripe.", min_length=1, max_length=64)]
EventId = Annotated[str, Path(description="The provider's id of the event.", min_length=1, max_length=255)]
State = Literal["pending", "recorded", "ignored", "unmatched", "refused"]


class CallbackAnswer(Answer):
    """What became of an event: it is kept, and need not be sent again."""

    provider: str
    event_id: str
    type: str
    state: State
    code: Annotated[str | None, Field(description="Why nothing was recorded.")]
    is_new: Annotated[bool, Field(description="Whether it came for the first time.")]


class PaymentMovement(Answer):
    """Money that moved at the provider; it counts once, by its id."""

    id: str
    what: Literal["paid", "returned", "reverted"]
    amount: Annotated[int, Field(description="In the currency's smallest unit, as the provider counts.")]
    currency: str


class PaymentEvent(Answer):
    """An event, as its provider has confirmed it, and what became of it at last."""

    provider: str
    event_id: str
    type: str
    payment_id: str | None
    livemode: bool
    received_at: Instant
    movements: list[PaymentMovement]
    said_invoice_id: str | None
    said_invoice_number: str | None
    said_org_id: str | None
    state: State
    code: str | None
    detail: str | None
    org_id: str | None
    invoice_id: str | None
    entries: list[int]
    author: str | None
    at: Instant | None


class PaymentEventPage(Answer):
    """Events, the newest first; `next_cursor` is null on the last page."""

    events: list[PaymentEvent]
    next_cursor: str | None


class AssignRequest(Asked):
    """Whose money it is."""

    invoice: Annotated[str, Field(description="The invoice's id or number, or ORG/MONTH.")]
    author: Annotated[str, Field(description="Who says so.")]


@router.post(
    "/v1/payments/callbacks/{provider}",
    operation_id="take_payment_callback",
    summary="A provider's callback",
    responses=problems(400, 404, 503),
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def post_callback(request: Request, runtime: OpenRuntime, provider: Provider) -> CallbackAnswer:
    """No key is needed: the provider signs its callbacks. Nothing in the body is believed: the provider is asked about
    the event, and what it answers is done, once.
    """
    body = await _read(request, request.app.state.callback_budget)
    headers = {name.lower(): value for name, value in request.headers.items()}

    def check() -> str:
        return signed_event(runtime, provider, headers, body)

    event_id = await anyio.to_thread.run_sync(check)  # before it waits: what nobody has signed takes nobody's place
    limiter: anyio.CapacityLimiter = request.app.state.callback_limiter
    if limiter.statistics().tasks_waiting >= CALLBACKS_WAITING_MAX:
        raise Unavailable("busy", "other callbacks are worked on", next_step="send it again", retry_after_seconds=5)

    def take() -> TakenEvent:
        return take_event(runtime, provider, event_id, sha256(body).digest())

    with anyio.move_on_after(WORK_SECONDS):
        taken = await anyio.to_thread.run_sync(take, limiter=limiter, abandon_on_cancel=True)
        return CallbackAnswer.model_validate(taken.receipt())
    raise unavailable(provider, f"it was not done within {WORK_SECONDS} seconds")


async def _read(request: Request, budget: BodyBudget) -> bytes:
    with anyio.move_on_after(CALLBACK_SECONDS):
        async with bounded_body(request, CALLBACK_BYTES_MAX, budget) as body:
            return body
    raise invalid_callback(f"its body did not come within {CALLBACK_SECONDS} seconds")


@strict.get("/v1/payments/events", operation_id="list_payment_events", summary="What providers have told")
def get_events(
    runtime: OpenRuntime,
    state: Annotated[State | None, Query(description="Only those that stand so.")] = None,
    provider: Annotated[str | None, Query(description="Only this provider's.", max_length=64)] = None,
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the page before.", max_length=512)] = None,
    limit: Annotated[int, Query(description="Most events on the page.", ge=1, le=999)] = 100,
) -> PaymentEventPage:
    """The newest first. `unmatched` are those of which somebody has to say whose money it is."""
    found = list_payment_events(runtime, state=state, provider=provider, cursor=cursor, limit=limit + 1)
    page = found[:limit]
    next_cursor = event_cursor(page[-1]) if len(found) > limit else None
    return PaymentEventPage.model_validate({"events": [event_members(one) for one in page], "next_cursor": next_cursor})


@strict.post(
    "/v1/payments/events/{provider}/{event_id}/assign",
    operation_id="assign_payment_event",
    summary="Say whose money it is",
    responses=problems(404, 409),
)
def post_assign(runtime: OpenRuntime, provider: Provider, event_id: EventId, asked: AssignRequest) -> PaymentEvent:
    """Of an event that is unmatched. The money counts once, whatever is said afterwards."""
    stored = assign_event(runtime, provider, event_id, asked.invoice, asked.author)
    return PaymentEvent.model_validate(event_members(stored))


@strict.post(
    "/v1/payments/events/{provider}/{event_id}/retry",
    operation_id="retry_payment_event",
    summary="Try an event again",
    responses=problems(404),
)
def post_retry(runtime: OpenRuntime, provider: Provider, event_id: EventId) -> PaymentEvent:
    """Of an event that is pending, unmatched or refused: its invoice may have been issued meanwhile."""
    return PaymentEvent.model_validate(event_members(retry_event(runtime, provider, event_id)))


router.include_router(strict)
