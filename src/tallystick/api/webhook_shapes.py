"""What is asked and answered about webhooks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tallystick.api.shapes import Answer, Asked

Types = Annotated[
    list[str],
    Field(
        description="Which events, by name or by pattern such as `invoice.*`; `*` for all.",
        max_length=50,
        examples=[["invoice.*", "alert.firing"]],
    ),
]
Url = Annotated[str, Field(description="https, of the public internet.", examples=["https://hooks.example.com/tally"])]
Author = Annotated[str | None, Field(description="Who does it; the key's id when left out.")]


class WebhookRequest(Asked):
    """Where events are to be sent."""

    url: Url
    types: Types = Field(default_factory=lambda: ["*"])
    org_id: Annotated[
        str | None, Field(description="Whose events; when left out, the key's org's, and an operator's: those of all.")
    ] = None
    description: Annotated[str, Field(description="For people.")] = ""
    author: Author = None


class WebhookChange(Asked):
    """What is to be otherwise; what is left out stays."""

    url: Url | None = None
    types: Types | None = None
    description: str | None = None
    enabled: Annotated[bool | None, Field(description="Whether anything is sent there.")] = None
    reason: Annotated[str, Field(description="Why it is disabled.")] = ""
    author: Author = None


class RotateRequest(Asked):
    """How long both secrets sign."""

    overlap: Annotated[str, Field(description="Such as 24h or 0s; 30d at most.")] = "24h"
    author: Author = None


class ReplayRequest(Asked):
    """Which events are to be sent again: one, or those of a half-open time."""

    event_id: Annotated[str | None, Field(description="Such as msg_…, its `webhook-id`.", max_length=64)] = None
    since: Annotated[str | None, Field(description="RFC 3339; what happened then or later.")] = None
    until: Annotated[str | None, Field(description="RFC 3339; what happened before that.")] = None
    types: Types | None = None
    missed: Annotated[bool, Field(description="Only what never reached the endpoint.")] = False


class WebhookSecret(Answer):
    """One of an endpoint's secrets, without itself. `signs_until` is null for the one that goes on."""

    ordinal: int
    created_at: str
    signs_until: str | None


class Webhook(Answer):
    """Where events are sent.

    `org_id` is null for an operator's, which gets those of every org. `failing_since` is null when the last attempt
    went well; `failures` counts those since then.
    """

    endpoint_id: str
    org_id: str | None
    url: str
    types: list[str]
    description: str
    state: Literal["enabled", "disabled", "removed"]
    reason: str | None
    failing_since: str | None
    failures: int
    secrets: list[WebhookSecret]
    author: str
    created_at: str
    changed_at: str


class NewWebhook(Webhook):
    """An endpoint with its secret, which nobody can show again."""

    secret: str


class WebhookList(Answer):
    """Endpoints, the oldest first."""

    endpoints: list[Webhook]


class EventType(Answer):
    """A type of events. The list is open: leave alone what you do not know."""

    type: str
    description: str


class EventTypes(Answer):
    """What events there are."""

    types: list[EventType]


class DeliveryAttempt(Answer):
    """What came of an attempt: a status and the beginning of the answer, or why there was none."""

    attempt: int
    started_at: str
    latency_ms: int
    status: int | None
    error: str | None
    response: str


class Delivery(Answer):
    """An event on its way to an endpoint; `ordinal` is above 1 where it was sent again by hand."""

    delivery_id: str
    event_id: str
    type: str
    org_id: str | None
    at: str
    endpoint_id: str
    ordinal: int
    state: Literal["waiting", "delivered", "failed", "canceled"]
    attempts: int
    attempts_max: int
    next_attempt_at: str | None
    ended_at: str | None
    last_attempt: DeliveryAttempt | None


class DeliveryDetail(Delivery):
    """A delivery with what is sent and every attempt."""

    data: dict[str, Any] | None
    log: list[DeliveryAttempt]


class DeliveryPage(Answer):
    """Deliveries, the newest first; `next_cursor` is null on the last page."""

    deliveries: list[Delivery]
    next_cursor: str | None


class Sent(Answer):
    """Deliveries that were begun."""

    delivery_ids: list[str]
