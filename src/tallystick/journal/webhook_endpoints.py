"""Endpoints of webhooks in the database, and the secrets that they are signed with, which are encrypted here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("webhooks")


class Endpoint(NamedTuple):
    """Where events are sent.

    Attributes:
        org_id: whose events; None: an operator's, for those of every org.
        types: which of them, by name or pattern; sorted.
        state: `enabled`; `disabled`, by hand or since it failed; `removed`.
        reason: of a state that is not `enabled`.
        failing_since: since when nothing but failure came of it; None when the last attempt went well.
        failures: how many since then.
    """

    endpoint_id: str
    org_id: str | None
    url: str
    types: list[str]
    description: str
    state: str
    reason: str
    failing_since: datetime | None
    failures: int
    author: str
    created_at: datetime
    changed_at: datetime


class SealedSecret(NamedTuple):
    """A secret as it is kept.

    Attributes:
        ordinal: counted from 1 for each endpoint.
        key_id: of the key under which it is sealed.
        signs_until: until when it signs; None for the newest.
    """

    endpoint_id: str
    ordinal: int
    sealed: bytes
    key_id: str
    created_at: datetime
    signs_until: datetime | None


def lock_owner(connection: Connection, org_id: str | None) -> int:
    """Keep others from adding endpoints of that org, or of operators, until the transaction ends; how many it has."""
    connection.execute(_SQL["lock_owner"], {"org": org_id})
    ((count,),) = connection.execute(_SQL["count_endpoints"], {"org": org_id}).fetchall()
    return int(count)


def add_endpoint(connection: Connection, endpoint: Endpoint) -> None:
    """Add an enabled endpoint; a writer's transaction."""
    connection.execute(_SQL["add_endpoint"], {**endpoint._asdict(), "at": endpoint.created_at})


def endpoint_of(connection: Connection, endpoint_id: str, *, lock: bool = False) -> Endpoint | None:
    """The endpoint, as far as the connection may see it; with `lock`, a writer's, nobody else changes it meanwhile."""
    if lock:
        connection.execute(_SQL["lock_endpoint"], {"endpoint": endpoint_id})
    row = connection.execute(_SQL["endpoint"], {"endpoint": endpoint_id}).fetchone()
    return None if row is None else Endpoint(*row)


def endpoints(
    connection: Connection, org_id: str | None = None, *, operators: bool = False, removed: bool = False
) -> list[Endpoint]:
    """All endpoints, those of one org, or operators' alone; the oldest first."""
    values = {"org": org_id, "operators": operators, "removed": removed}
    return [Endpoint(*row) for row in connection.execute(_SQL["endpoints"], values)]


def change_endpoint(connection: Connection, endpoint: Endpoint, now: datetime) -> None:
    """Have an endpoint be as it is given; what waits for one that is removed is canceled. A writer's transaction."""
    connection.execute(_SQL["change_endpoint"], {**endpoint._asdict(), "endpoint": endpoint.endpoint_id, "at": now})
    if endpoint.state == "removed":
        connection.execute(_SQL["cancel_deliveries"], {"endpoint": endpoint.endpoint_id, "at": now})


def add_secret(
    connection: Connection,
    endpoint: Endpoint,
    *,
    ordinal: int,
    sealed: bytes,
    key_id: str,
    before_until: datetime | None,
    author: str,
    now: datetime,
) -> None:
    """Have an endpoint's deliveries be signed by this secret, and by the one before until then."""
    values: dict[str, Any] = {
        "endpoint_id": endpoint.endpoint_id,
        "org_id": endpoint.org_id,
        "ordinal": ordinal,
        "sealed": sealed,
    }
    values |= {"key_id": key_id, "before_until": before_until, "author": author, "at": now}
    connection.execute(_SQL["add_secret"], values)


def secrets_of(connection: Connection, endpoint_ids: Collection[str]) -> Sequence[SealedSecret]:
    """The secrets of endpoints, of each the newest first."""
    rows = connection.execute(_SQL["secrets"], {"endpoints": list(endpoint_ids)})
    return [SealedSecret(*row) for row in rows]


def newest_secrets(connection: Connection) -> list[tuple[str, str]]:
    """Each endpoint that is told of events, and the id of the key under which its newest secret is sealed."""
    return connection.execute(_SQL["newest_secrets"]).fetchall()


def is_any_secret(connection: Connection) -> bool:
    """Whether any secret is kept."""
    ((kept,),) = connection.execute(_SQL["any_secret"]).fetchall()
    return bool(kept)
