"""Deliveries of webhooks in the database: claimed, ended, logged, made again, forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from tallystick.core.webhook_schedule import ATTEMPTS_MAX
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.webhook_endpoints import Endpoint

_SQL = load_queries("webhooks")


class Claimed(NamedTuple):
    """A delivery that is ours to attempt for a while.

    Attributes:
        org_id: the endpoint's.
        attempt: which one this is, counted from 1.
        claim: by which it is ours.
        type, at, data: of the event; data is canonical JSON.
    """

    delivery_id: str
    event_id: str
    endpoint_id: str
    org_id: str | None
    attempt: int
    attempts_max: int
    claim: str
    url: str
    type: str
    at: datetime
    data: str
    place: int


class Attempt(NamedTuple):
    """What came of an attempt: a status and the beginning of the answer's body, or why there was no answer."""

    attempt: int
    started_at: datetime
    latency_ms: int
    status: int | None
    error: str | None
    response: str


class Delivery(NamedTuple):
    """A delivery as the log has it, with its last attempt.

    Attributes:
        event_org_id: whose event it is.
        ordinal: above 1 where the event was sent again by hand.
        next_at: when it is due, while it waits.
    """

    delivery_id: str
    place: int
    event_id: str
    type: str
    event_org_id: str | None
    at: datetime
    endpoint_id: str
    ordinal: int
    state: str
    attempts: int
    attempts_max: int
    next_at: datetime
    ended_at: datetime | None
    started_at: datetime | None
    latency_ms: int | None
    status: int | None
    error: str | None
    response: str | None


def is_any_due(connection: Connection, now: datetime) -> bool:
    """Whether any delivery is due, perhaps to an endpoint that is disabled."""
    ((due,),) = connection.execute(_SQL["is_due"], {"now": now}).fetchall()
    return bool(due)


def claim_due(
    connection: Connection,
    *,
    now: datetime,
    until: datetime,
    claim: str,
    most: int,
    per_endpoint: int,
    per_owner: int,
) -> list[Claimed]:
    """Claim deliveries that are due, passing by those that others are claiming; a writer's transaction.

    Those first that have been due for longest; of one endpoint at most `per_endpoint` at once, whoever has claimed
    them, and one alone while it fails; of the endpoints of one org, or of operators, at most `per_owner`.
    """
    connection.execute(_SQL["bury"], {"now": now})
    values = {"now": now, "until": until, "claim": claim, "most": most}
    values |= {"per_endpoint": per_endpoint, "per_owner": per_owner}
    found = [Claimed(*row) for row in connection.execute(_SQL["claim"], values)]
    return sorted(found, key=lambda one: one.place)


def claim_one(connection: Connection, delivery_id: str, *, until: datetime, claim: str) -> Claimed | None:
    """Claim this one, unless somebody has, or it is over."""
    values = {"delivery": delivery_id, "until": until, "claim": claim}
    row = connection.execute(_SQL["claim_one"], values).fetchone()
    return None if row is None else Claimed(*row)


def end_attempt(
    connection: Connection,
    claimed: Claimed,
    attempt: Attempt,
    *,
    state: str,
    next_at: datetime | None,
    now: datetime,
) -> None:
    """Log an attempt, and say what becomes of the delivery, unless somebody else has claimed it meanwhile."""
    values = {**attempt._asdict(), "delivery": claimed.delivery_id, "org_id": claimed.org_id, "claim": claimed.claim}
    connection.execute(_SQL["log_attempt"], values)
    ended_at = None if state == "waiting" else now
    connection.execute(_SQL["end_attempt"], {**values, "state": state, "next_at": next_at, "ended_at": ended_at})


def note_well(connection: Connection, endpoint_id: str) -> None:
    """An attempt on the endpoint went well."""
    connection.execute(_SQL["well"], {"endpoint": endpoint_id})


def note_unwell(connection: Connection, endpoint_id: str, now: datetime) -> tuple[datetime, int]:
    """An attempt on the endpoint failed: since when nothing but that, and how often."""
    ((since, failures),) = connection.execute(_SQL["unwell"], {"endpoint": endpoint_id, "now": now}).fetchall()
    return since, int(failures)


def disable(connection: Connection, endpoint_id: str, reason: str, now: datetime) -> bool:
    """Send nothing there any more; whether anything would have been."""
    values = {"endpoint": endpoint_id, "reason": reason, "now": now}
    return connection.execute(_SQL["disable"], values).rowcount > 0


def send_again(
    connection: Connection,
    endpoint: Endpoint,
    *,
    event_id: str | None,
    since: datetime | None,
    until: datetime | None,
    types: Sequence[str] | None,
    missed: bool,
    most: int,
) -> list[str]:
    """Deliver events to an endpoint once more: the ids of the deliveries. What waits for it is not doubled.

    Args:
        event_id: this event, whatever the endpoint chooses; None for those of a half-open time that it would get.
        types: only these, by name or pattern.
        missed: only what was never delivered to it.
        most: no more than so many, those first that happened first.
    """
    values: dict[str, Any] = {"endpoint": endpoint.endpoint_id, "org_id": endpoint.org_id, "event": event_id}
    values["since"] = since
    values |= {"until": until, "types": None if types is None else list(types), "missed": missed, "most": most}
    rows = connection.execute(_SQL["send_again"], {**values, "attempts_max": ATTEMPTS_MAX})
    return [delivery_id for (delivery_id,) in rows]


def add_ping(
    connection: Connection, endpoint: Endpoint, *, event_id: str, key: str, delivery_id: str, data: str, at: datetime
) -> None:
    """A test event, and its delivery to this endpoint alone, which is attempted once."""
    values = {"endpoint": endpoint.endpoint_id, "org_id": endpoint.org_id, "event": event_id, "key": key}
    connection.execute(_SQL["add_ping"], {**values, "delivery": delivery_id, "data": data, "at": at})


def deliveries(
    connection: Connection,
    *,
    endpoint_id: str | None = None,
    delivery_id: str | None = None,
    event_id: str | None = None,
    state: str | None = None,
    after: str | None = None,
    limit: int,
) -> list[Delivery] | None:
    """The log, the newest first, as far as the connection may see it; None where there is no delivery `after`."""
    before = None
    if after is not None:
        row = connection.execute(_SQL["place_of"], {"delivery": after, "endpoint": endpoint_id}).fetchone()
        if row is None:
            return None
        before = row[0]
    values = {"endpoint": endpoint_id, "delivery": delivery_id, "event": event_id, "state": state, "before": before}
    return [Delivery(*row) for row in connection.execute(_SQL["deliveries"], {**values, "limit": limit})]


def attempts_of(connection: Connection, delivery_id: str) -> list[Attempt]:
    """Every attempt of a delivery that was ended, in order."""
    return [Attempt(*row) for row in connection.execute(_SQL["attempts"], {"delivery": delivery_id})]


def data_of(connection: Connection, event_id: str) -> tuple[str | None, str] | None:
    """Whose an event is, and its data as canonical JSON; None where there is none, or the tenant may not see it."""
    row = connection.execute(_SQL["data_of"], {"event": event_id}).fetchone()
    return None if row is None else (row[0], row[1])


def forget(connection: Connection, before: datetime, most: int) -> int:
    """Forget events recorded before then, and the log of sending them, unless one waits still; an operator's."""
    ((forgotten,),) = connection.execute(_SQL["forget"], {"before": before, "most": most}).fetchall()
    return int(forgotten)
