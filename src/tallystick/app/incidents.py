"""Incidents: downtime, slow service and announced maintenance, recorded by an operator and never changed."""

from __future__ import annotations

from typing import Any

from tallystick.app.audit import Act, record_act
from tallystick.app.operate import existing_org
from tallystick.app.runtime import Runtime
from tallystick.billing.incident_checks import (
    check_replaceable,
    incident_from,
    incident_number,
    is_same,
    unknown_incident,
    withdrawal_of,
)
from tallystick.billing.incidents import INCIDENT_KINDS, Incident, incident_id
from tallystick.core.errors import BadInput, Conflict
from tallystick.core.instants import format_instant, parse_instant
from tallystick.journal.database import Connection
from tallystick.journal.incidents import (
    add_incident,
    find_incident,
    incident_of_request,
    incident_page,
    lock_incidents,
    own_clocks,
    replaced_by,
    taken_back,
)

PAGE_MAX = 1000
_AFTER_ALL = 2**62


def record_incident(runtime: Runtime, raw: object) -> dict[str, Any]:
    """Record an incident; the same request id again is the same record.

    Args:
        raw: the decoded JSON value, with the members `billing.incident_checks.INCIDENT_MEMBERS`.

    Returns:
        The record, with `is_new`.

    Raises:
        BadInput, Problems: what is wrong with the request; `invalid_range`, `incident_in_future`,
            `incident_is_withdrawal`.
        NotFound: `unknown_org`, `unknown_incident`.
        Conflict: `request_id_conflict`, `incident_taken_back`.
        Unavailable: `database_unreachable`; sending the same again is safe.
    """
    asked = incident_from(raw, recorded_at=runtime.clock())
    for org_id in asked.orgs or ():
        existing_org(runtime, org_id)
    with runtime.database.operator() as connection:
        lock_incidents(connection)
        found = _known(connection, asked)
        if found is not None:
            return found.members() | {"is_new": False}
        if asked.kind != "maintenance":
            _check_begun(connection, asked)
        if asked.replaces is not None:
            former = find_incident(connection, asked.replaces)
            check_replaceable(former, asked.replaces, replaced_by(connection, asked.replaces))
        return _add(connection, asked)


def withdraw_incident(runtime: Runtime, incident: str, raw: object) -> dict[str, Any]:
    """Take a record back. What was credited because of it stays with the customer.

    Args:
        incident: its id, such as `inc3`.
        raw: the decoded JSON value, with the members `billing.incident_checks.WITHDRAWAL_MEMBERS`.

    Returns:
        The record that takes it back, with `is_new`.

    Raises:
        BadInput, Problems: what is wrong with the request; `incident_is_withdrawal`.
        NotFound: `unknown_incident`.
        Conflict: `request_id_conflict`, `incident_taken_back`.
        Unavailable: as `record_incident`.
    """
    number = incident_number(incident)
    with runtime.database.operator() as connection:
        lock_incidents(connection)
        former = find_incident(connection, number)
        if former is None:
            raise unknown_incident(incident)
        asked = withdrawal_of(former, raw, recorded_at=runtime.clock())
        found = _known(connection, asked)
        if found is not None:
            return found.members() | {"is_new": False}
        check_replaceable(former, number, replaced_by(connection, number))
        return _add(connection, asked)


def list_incidents(
    runtime: Runtime,
    *,
    org_id: str | None = None,
    kind: str | None = None,
    start: str | None = None,
    end: str | None = None,
    cursor: str | None = None,
    limit: int = 100,
) -> dict[str, Any]:
    """A page of records, in the order in which they were made; each with `taken_back_by`, None where it holds.

    Args:
        org_id, kind: only what concerned that org, only that kind; None for any.
        start, end: only what touches the half-open time between these instants; None for no bound.
        cursor: `next_cursor` of the page before.

    Raises:
        BadInput: `invalid_cursor`, `invalid_time`, `not_a_choice`.
        Unavailable: `database_unreachable`.
    """
    if kind not in (None, "withdrawal", *INCIDENT_KINDS):
        raise BadInput(
            "not_a_choice",
            f"no incident is of the kind {kind!r:.40}",
            next_step="name one of " + ", ".join((*INCIDENT_KINDS, "withdrawal")),
            where="kind",
        )
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and int(cursor[:30]) < _AFTER_ALL):
        raise BadInput(
            "invalid_cursor",
            f"{cursor[:60]!r} is no cursor of this list",
            next_step="use the next_cursor of the page before, or none for the first page",
            where="cursor",
        )
    with runtime.database.operator() as connection:
        found = incident_page(
            connection,
            after=int(cursor or 0),
            limit=limit + 1,
            org_id=org_id,
            kind=kind,
            start=None if start is None else parse_instant(start, where="from"),
            end=None if end is None else parse_instant(end, where="to"),
        )
        taken = taken_back(connection, [one.number for one in found])
    shown = found[:limit]
    members = [
        one.members() | {"taken_back_by": incident_id(taken[one.number]) if one.number in taken else None}
        for one in shown
    ]
    return {"incidents": members, "next_cursor": str(shown[-1].number) if len(found) > limit else None}


def _known(connection: Connection, asked: Incident) -> Incident | None:
    """The record of that request, when it was made already."""
    found = incident_of_request(connection, asked.request_id)
    if found is None or is_same(found, asked):
        return found
    raise Conflict(
        "request_id_conflict",
        f"{incident_id(found.number)} was recorded under the request id {asked.request_id!r}, with other content",
        next_step="send another incident under an id of its own",
        where="request_id",
    )


def _check_begun(connection: Connection, asked: Incident) -> None:
    """What has not happened yet was not down, and not slow: on the clock of each org that it concerned, of which those
    that have none of their own, and what concerned everyone, go by the real one.
    """
    clocks = own_clocks(connection, asked.orgs or ())
    now = min(clocks) if clocks and len(clocks) == len(asked.orgs or ()) else min([*clocks, asked.recorded_at])
    if asked.end > now:
        raise BadInput(
            "incident_in_future",
            f"it lasts until {format_instant(asked.end)}, and it is {format_instant(now)}",
            next_step="record it up to now, and replace the record when it is over",
            where="to",
        )


def _add(connection: Connection, asked: Incident) -> dict[str, Any]:
    added = add_incident(connection, asked)
    verb = "withdraw" if added.kind == "withdrawal" else "record"
    act = Act(
        act=f"incident.{verb}",
        subject=incident_id(added.number),
        at=added.recorded_at,
        author=added.author,
        reason=added.reason,
        after={name: value for name, value in added.members().items() if name not in ("author", "reason")},
    )
    record_act(connection, act)
    return added.members() | {"is_new": True}
