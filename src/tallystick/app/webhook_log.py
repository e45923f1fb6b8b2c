"""The log of webhooks: what was sent where, what was answered, and sending it again. See `app.webhook_endpoints` for
`scope`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tallystick.app.runtime import Runtime
from tallystick.app.webhook_courier import Courier
from tallystick.app.webhook_endpoints import existing, seeing
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.core.instants import format_instant
from tallystick.core.webhook_events import checked_patterns, event_id_of
from tallystick.journal.webhook_deliveries import (
    Attempt,
    Delivery,
    add_ping,
    attempts_of,
    data_of,
    deliveries,
    forget,
    send_again,
)
from tallystick.ledger.encoding import canonical_json

REPLAY_MAX = 10_000
"""Most events that are sent again by one request."""
PAGE_MAX = 1000
_FORGOTTEN_AT_ONCE = 1000


def list_deliveries(
    runtime: Runtime,
    endpoint_id: str,
    *,
    state: str | None = None,
    event_id: str | None = None,
    cursor: str | None = None,
    limit: int = 100,
    scope: str | None = None,
) -> dict[str, Any]:
    """A page of an endpoint's deliveries, the newest first, each with what came of its last attempt.

    Raises:
        BadInput: `invalid_cursor`.
        NotFound: `unknown_webhook`.
        Unavailable: `database_unreachable`.
    """
    with seeing(runtime, scope) as connection:
        existing(connection, endpoint_id)
        found = deliveries(
            connection, endpoint_id=endpoint_id, state=state, event_id=event_id, after=cursor, limit=limit + 1
        )
    if found is None:
        raise BadInput(
            "invalid_cursor",
            "that is no cursor of this list",
            next_step="use the next_cursor of the page before, or none for the first page",
            where="cursor",
        )
    page = found[:limit]
    next_cursor = page[-1].delivery_id if len(found) > limit else None
    return {"deliveries": [delivery_document(one) for one in page], "next_cursor": next_cursor}


def show_delivery(
    runtime: Runtime, delivery_id: str, *, endpoint_id: str | None = None, scope: str | None = None
) -> dict[str, Any]:
    """A delivery with every attempt and the event's data.

    Raises:
        NotFound: `unknown_delivery`.
        Unavailable: `database_unreachable`.
    """
    with seeing(runtime, scope) as connection:
        found = deliveries(connection, endpoint_id=endpoint_id, delivery_id=delivery_id, limit=1)
        if not found:
            raise NotFound(
                "unknown_delivery",
                "there is no delivery of that id",
                next_step="`tally webhooks deliveries ENDPOINT` has the ids of all; they begin with dlv_",
                where="delivery_id",
            )
        event = data_of(connection, found[0].event_id)
        attempts = attempts_of(connection, delivery_id)
    document = delivery_document(found[0])
    document["data"] = None if event is None else msgspec.json.decode(event[1])
    document["log"] = [attempt_document(one) for one in attempts]
    return document


def replay(
    runtime: Runtime,
    endpoint_id: str,
    *,
    event_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    types: Sequence[str] | None = None,
    missed: bool = False,
    scope: str | None = None,
) -> list[str]:
    """Send an event once more, or those of a half-open time, with the id that they had: the ids of the deliveries.

    Args:
        event_id: one event, whatever the endpoint chooses and whether it had it before.
        since, until: the events that happened then, as far as the endpoint chooses them.
        types: only these, by name or pattern.
        missed: only those that never reached the endpoint.

    Raises:
        BadInput: `missing_field`: neither an event nor a beginning is named; `unknown_event_type`; `replay_too_large`.
        NotFound: `unknown_webhook`, `unknown_webhook_event`.
        Unavailable: `database_unreachable`.
    """
    if (event_id is None) == (since is None):
        raise BadInput(
            "missing_field",
            "it is not said which events are to be sent again",
            next_step="name one event, or since when",
            where="event_id",
        )
    patterns = None if types is None else checked_patterns(types)
    with seeing(runtime, scope) as connection:
        to = existing(connection, endpoint_id)
        event = None if event_id is None else data_of(connection, event_id)
        if event_id is not None and (event is None or to.org_id not in (None, event[0])):
            raise _unknown_event()
    with runtime.database.writer() as connection:
        endpoint = existing(connection, endpoint_id, lock=True)
        sent = send_again(
            connection, endpoint, event_id=event_id, since=since, until=until, types=patterns, missed=missed,
            most=REPLAY_MAX + 1,
        )  # fmt: skip
        if len(sent) > REPLAY_MAX:
            raise BadInput(
                "replay_too_large",
                f"those are more than {REPLAY_MAX:,} events",
                next_step="name an end, and go on from there",
                where="until",
            )
    return sent


def ping(runtime: Runtime, endpoint_id: str, *, scope: str | None = None, now_by_us: bool = False) -> str:
    """Have a test event be sent to an endpoint, once, by whoever sends webhooks: the id of its delivery.

    Args:
        now_by_us: the caller sends it at once, and so may do it to an endpoint that is disabled.

    Raises:
        NotFound: `unknown_webhook`.
        Conflict: `webhook_disabled`.
        Unavailable: `database_unreachable`.
    """
    with seeing(runtime, scope) as connection:
        existing(connection, endpoint_id)
    now, key = runtime.clock(), secrets.token_hex(12)
    with runtime.database.writer() as connection:
        endpoint = existing(connection, endpoint_id)
        if endpoint.state != "enabled" and not now_by_us:
            raise Conflict(
                "webhook_disabled",
                f"nothing is sent to {endpoint_id}: {endpoint.reason}",
                next_step="enable it first",
                where="endpoint_id",
            )
        delivery_id = f"dlv_{secrets.token_hex(16)}"
        add_ping(
            connection,
            endpoint,
            event_id=event_id_of(endpoint.org_id, "webhook.ping", key),
            key=key,
            delivery_id=delivery_id,
            data=canonical_json({"endpoint_id": endpoint_id}).decode(),
            at=now,
        )
    return delivery_id


def ping_now(runtime: Runtime, endpoint_id: str) -> dict[str, Any]:
    """Send a test event and wait for what comes of it: the delivery, as `show_delivery` gives it.

    Raises:
        BadInput, NotFound: as `ping`, or what the key of the secrets raises.
        Unavailable: `database_unreachable`.
    """
    delivery_id = ping(runtime, endpoint_id, now_by_us=True)
    Courier(runtime).deliver_one(delivery_id)
    return show_delivery(runtime, delivery_id)


def forget_old(runtime: Runtime) -> int:
    """Forget events, and the log of sending them, once they are as old as the operator has said: how many."""
    before = runtime.clock() - timedelta(days=runtime.settings.webhook_log_days)
    forgotten = 0
    while True:
        with runtime.database.operator() as connection:
            count = forget(connection, before, _FORGOTTEN_AT_ONCE)
        forgotten += count
        if count < _FORGOTTEN_AT_ONCE:
            return forgotten


def delivery_document(delivery: Delivery) -> dict[str, Any]:
    """A delivery as JSON members."""
    waits = delivery.state == "waiting"
    last = None
    if delivery.started_at is not None and delivery.latency_ms is not None:
        last = attempt_document(
            Attempt(
                delivery.attempts, delivery.started_at, delivery.latency_ms, delivery.status, delivery.error,
                delivery.response or "",
            )
        )  # fmt: skip
    return {
        "delivery_id": delivery.delivery_id,
        "event_id": delivery.event_id,
        "type": delivery.type,
        "org_id": delivery.event_org_id,
        "at": format_instant(delivery.at),
        "endpoint_id": delivery.endpoint_id,
        "ordinal": delivery.ordinal,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "attempts_max": delivery.attempts_max,
        "next_attempt_at": format_instant(delivery.next_at) if waits and delivery.attempts else None,
        "ended_at": None if delivery.ended_at is None else format_instant(delivery.ended_at),
        "last_attempt": last,
    }


def attempt_document(attempt: Attempt) -> dict[str, Any]:
    """An attempt as JSON members."""
    return {
        "attempt": attempt.attempt,
        "started_at": format_instant(attempt.started_at),
        "latency_ms": attempt.latency_ms,
        "status": attempt.status,
        "error": attempt.error,
        "response": attempt.response,
    }


def _unknown_event() -> NotFound:
    return NotFound(
        "unknown_webhook_event",
        "there is no event of that id, or it is forgotten by now",
        next_step="`tally webhooks deliveries ENDPOINT` names the events; their ids begin with msg_",
        where="event_id",
    )
