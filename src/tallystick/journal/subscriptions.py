"""Which contract and plan each org is on, from when: append-only, the latest word holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("subscriptions")


@dataclass(frozen=True, slots=True)
class Subscription:
    """One org's plan from `effective_from` on, in the time zone that its months begin in.

    `plan` is None from when on the org has left: it is on no plan, and `contract` is the one that it was on.
    """

    org_id: str
    ordinal: int
    contract: str
    plan: str | None
    time_zone: str
    effective_from: datetime
    recorded_at: datetime


def lock_subscriptions(connection: Connection, org_id: str) -> None:
    """Keep others from adding subscriptions of the org until this transaction ends."""
    connection.execute(_SQL["lock"], {"org_id": org_id})


def add_subscription(
    connection: Connection,
    *,
    org_id: str,
    contract: str,
    plan: str | None,
    time_zone: str,
    effective_from: datetime,
    recorded_at: datetime,
) -> Subscription:
    """Append a subscription under the org's next ordinal; they are locked."""
    values = {"org_id": org_id, "contract": contract, "plan": plan, "time_zone": time_zone}
    times = {"effective_from": effective_from, "recorded_at": recorded_at}
    (row,) = connection.execute(_SQL["add"], {**values, **times}).fetchall()
    return Subscription(*row)


def list_subscriptions(connection: Connection, org_id: str | None = None) -> list[Subscription]:
    """The subscriptions of one org, or of all, in the order in which they were recorded."""
    query = "all" if org_id is None else "of_org"
    return [Subscription(*row) for row in connection.execute(_SQL[query], {"org_id": org_id}, prepare=True)]


def last_seq(connection: Connection, org_id: str) -> int | None:
    """Where the org's sequence stands; None when it has never sent an event."""
    row = connection.execute(_SQL["last_seq"], {"org_id": org_id}).fetchone()
    return None if row is None else int(row[0])


def list_orgs(connection: Connection) -> list[tuple[str, int]]:
    """Every org that has an event or a subscription, with its last sequence number (0 without any event)."""
    return connection.execute(_SQL["orgs"]).fetchall()


def subscription_in_force(subscriptions: Iterable[Subscription], at: datetime) -> Subscription | None:
    """Of one org's subscriptions, the one in force at the instant: the latest to begin, then the last recorded."""
    begun = [one for one in subscriptions if one.effective_from <= at]
    return max(begun, key=lambda one: (one.effective_from, one.ordinal), default=None)
