"""What comes with a request to record an incident, or to take one back, checked."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from tallystick.billing.incidents import INCIDENT_KINDS, Incident, incident_id
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.ledger.members import Members, short

INCIDENT_MEMBERS: Final = (
    "request_id", "kind", "from", "to", "orgs", "all", "feature", "reason", "author", "replaces",
)  # fmt: skip
WITHDRAWAL_MEMBERS: Final = ("request_id", "reason", "author")
ORGS_MAX: Final = 1000
_ID = re.compile(r"inc([1-9][0-9]{0,17})")
_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)


def incident_from(raw: object, *, recorded_at: datetime) -> Incident:
    """The record that is asked for; its number is not known yet, and is 0.

    Args:
        raw: the decoded JSON value, with the members `INCIDENT_MEMBERS`: `orgs`, or `all` as true, says whom it
            concerned; what is left out of `feature` and `replaces` is none.

    Raises:
        BadInput: the one fault, `where` being the member; `invalid_range`.
        Problems: `invalid_request`, several of them.
        NotFound: `unknown_incident`, of what `replaces` names.
    """
    members = Members(raw, INCIDENT_MEMBERS, "an incident")
    start, end = _instant(members, "from"), _instant(members, "to")
    if start is not None and end is not None and not _BEGINNING <= start < end:
        members.fault(
            "invalid_range",
            "to",
            "it is not after `from`" if start >= end else "it begins before the year 2000",
            "send the instant at which it was over, after the one at which it began",
        )
    orgs = members.texts("orgs", ORGS_MAX)
    everyone = members.flag("all")
    if everyone == bool(orgs):
        members.fault(
            "missing_field" if not orgs else "unknown_field",
            "orgs",
            "it names orgs, and says that it concerned all" if orgs else "whom it concerned is not said",
            'name the orgs, or send "all": true for everyone',
        )
    replaces = members.text_or_none("replaces")
    incident = Incident(
        number=0,
        kind=members.choice("kind", INCIDENT_KINDS),  # type: ignore[arg-type]
        start=start or _BEGINNING,
        end=end or _BEGINNING,
        orgs=None if everyone else tuple(sorted(set(orgs))),
        feature=members.text_or_none("feature"),
        reason=members.text("reason"),
        author=members.text("author"),
        request_id=members.text("request_id"),
        recorded_at=recorded_at,
        replaces=None,
    )
    members.raise_faults()
    return incident if replaces is None else replace(incident, replaces=incident_number(replaces, where="replaces"))


def withdrawal_of(former: Incident, raw: object, *, recorded_at: datetime) -> Incident:
    """The record that takes another one back.

    Args:
        raw: the decoded JSON value, with the members `WITHDRAWAL_MEMBERS`.

    Raises:
        BadInput, Problems: as `incident_from`.
    """
    members = Members(raw, WITHDRAWAL_MEMBERS, "a withdrawal")
    incident = Incident(
        number=0,
        kind="withdrawal",
        start=former.start,
        end=former.end,
        orgs=former.orgs,
        feature=former.feature,
        reason=members.text("reason"),
        author=members.text("author"),
        request_id=members.text("request_id"),
        recorded_at=recorded_at,
        replaces=former.number,
    )
    members.raise_faults()
    return incident


def incident_number(text: str, *, where: str = "incident") -> int:
    """The number in an id such as `inc3`.

    Raises:
        NotFound: `unknown_incident`.
    """
    match = _ID.fullmatch(text)
    if match is None:
        raise unknown_incident(text, where=where)
    return int(match[1])


def unknown_incident(text: str, *, where: str = "incident") -> NotFound:
    """That there is no such record."""
    return NotFound(
        "unknown_incident",
        f"no incident {short(text)!r} is recorded",
        next_step="see `tally incidents list`; ids are such as inc3",
        where=where,
    )


def is_same(found: Incident, asked: Incident) -> bool:
    """Whether a record is the one that is asked for again: all that was said of it is the same."""
    return _said(found) == _said(asked)


def _said(one: Incident) -> tuple[object, ...]:
    return one.kind, one.start, one.end, one.orgs, one.feature, one.reason, one.author, one.replaces


def _instant(members: Members, name: str) -> datetime | None:
    if not members.has(name):
        members.fault("missing_field", name, "it is mandatory", f"send {name}, such as 2026-10-01T09:30:00Z")
        return None
    return members.instant_or_none(name)


def check_replaceable(former: Incident | None, number: int, taken_by: int | None) -> Incident:
    """A record that may be taken back, or replaced.

    Raises:
        NotFound: `unknown_incident`.
        BadInput: `incident_is_withdrawal`.
        Conflict: `incident_taken_back`.
    """
    if former is None:
        raise unknown_incident(incident_id(number))
    if former.kind == "withdrawal":
        raise BadInput(
            "incident_is_withdrawal",
            f"{incident_id(number)} is itself what takes {incident_id(former.replaces or 0)} back",
            next_step="record the incident anew",
            where="incident",
        )
    if taken_by is not None:
        raise Conflict(
            "incident_taken_back",
            f"{incident_id(number)} was taken back by {incident_id(taken_by)} already",
            next_step=f"look at {incident_id(taken_by)}: it may be withdrawn or replaced in turn",
            where="incident",
        )
    return former
