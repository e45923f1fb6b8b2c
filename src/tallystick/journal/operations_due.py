"""Whose accounts have something to be done without anybody asking: a look across orgs, without any lock."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec

from tallystick.journal.counters import Progress
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("operations")


class SubscribedOrg(NamedTuple):
    """An org on a contract at an instant; `included` is the last month that included credits were given for."""

    org_id: str
    contract: str
    plan: str | None
    time_zone: str
    included: str | None


def orgs_due(connection: Connection, now: datetime, *, limit: int) -> list[str]:
    """Orgs that have holds or lots whose life is over, those first that have waited longest."""
    return [org_id for (org_id,) in connection.execute(_SQL["due"], {"now": now, "limit": limit})]


def subscribed_orgs(connection: Connection, now: datetime, *, after: str, limit: int) -> list[SubscribedOrg]:
    """The next orgs after `after`, by id."""
    rows = connection.execute(_SQL["subscribed"], {"now": now, "after": after, "limit": limit})
    return [
        SubscribedOrg(org_id, contract, plan, zone, msgspec.json.decode(progress, type=Progress).included)
        for org_id, contract, plan, zone, progress in rows
    ]
