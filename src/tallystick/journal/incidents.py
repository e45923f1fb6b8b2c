"""Incidents as they are stored. They are no tenant's to see: every connection here is an operator's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from tallystick.billing.incidents import Incident
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("sla")


def lock_incidents(connection: Connection) -> None:
    """Keep others from recording incidents until this transaction ends."""
    connection.execute(_SQL["lock"])


def incident_of_request(connection: Connection, request_id: str) -> Incident | None:
    """The record that was made under that request id."""
    return _one(connection.execute(_SQL["by_request"], {"request_id": request_id}).fetchone())


def find_incident(connection: Connection, number: int) -> Incident | None:
    """The record of that number."""
    return _one(connection.execute(_SQL["by_number"], {"incident": number}).fetchone())


def replaced_by(connection: Connection, number: int) -> int | None:
    """The number of the record that takes that one back, or stands in its place."""
    row = connection.execute(_SQL["replaced_by"], {"incident": number}).fetchone()
    return None if row is None else row[0]


def add_incident(connection: Connection, incident: Incident) -> Incident:
    """Append a record under the next number, whatever number it has; they are locked."""
    values = {
        "kind": incident.kind,
        "start": incident.start,
        "end": incident.end,
        "orgs": None if incident.orgs is None else list(incident.orgs),
        "feature": incident.feature,
        "reason": incident.reason,
        "author": incident.author,
        "request_id": incident.request_id,
        "recorded_at": incident.recorded_at,
        "replaces": incident.replaces,
    }
    (row,) = connection.execute(_SQL["add"], values).fetchall()
    return _incident(row)


def incident_page(
    connection: Connection,
    *,
    after: int,
    limit: int,
    org_id: str | None = None,
    kind: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[Incident]:
    """Records after a number, in the order in which they were made: of one org, of one kind, touching [start, end)."""
    values = {"after": after, "limit": limit, "org": org_id, "kind": kind, "start": start, "end": end}
    return [_incident(row) for row in connection.execute(_SQL["page"], values)]


def taken_back(connection: Connection, numbers: Iterable[int]) -> dict[int, int]:
    """Which of these records a later one takes back or replaces, and the number of that one."""
    return dict(connection.execute(_SQL["taken_back"], {"incidents": list(numbers)}).fetchall())


def incidents_touching(connection: Connection, start: datetime, end: datetime) -> list[Incident]:
    """Records that touch [start, end), and those that take one of them back."""
    return [_incident(row) for row in connection.execute(_SQL["touching"], {"start": start, "end": end})]


def last_incident(connection: Connection) -> int:
    """The number of the last record; 0 when there is none."""
    ((number,),) = connection.execute(_SQL["through"]).fetchall()
    return int(number)


def own_clocks(connection: Connection, orgs: Sequence[str]) -> list[datetime]:
    """How far the clocks of those of these orgs have come that have their own, one for each."""
    return [at for (at,) in connection.execute(_SQL["clocks"], {"orgs": list(orgs)})]


def _one(row: tuple[Any, ...] | None) -> Incident | None:
    return None if row is None else _incident(row)


def _incident(row: Sequence[Any]) -> Incident:
    number, kind, start, end, orgs, *rest = row
    return Incident(number, kind, start, end, None if orgs is None else tuple(orgs), *rest)
