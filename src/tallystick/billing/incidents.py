"""Recorded breaches of promised service, and which of the records hold.

A record is never changed. One that was wrong is withdrawn, or replaced by a later record that names it; either happens
to it once, and a replacement may be withdrawn or replaced in turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from tallystick.core.instants import format_instant

IncidentKind = Literal["downtime", "latency", "maintenance"]
INCIDENT_KINDS: tuple[IncidentKind, ...] = get_args(IncidentKind)
RecordKind = Literal["downtime", "latency", "maintenance", "withdrawal"]


@dataclass(frozen=True, slots=True)
class Incident:
    """One record.

    Attributes:
        number: its place among all records, from 1, in the order in which they were made.
        kind: `downtime`, `latency` (it was slow), `maintenance` (announced, and left out of downtime and latency), or
            the `withdrawal` of an earlier record, which has no time and concerns whom that one did.
        start, end: the half-open time [start, end).
        orgs: whom it concerned, in order; None for everyone.
        feature: what it concerned; None for everything.
        reason: what happened, for a person; customers read it.
        replaces: the record that this one takes back, or stands in the place of.
    """

    number: int
    kind: RecordKind
    start: datetime
    end: datetime
    orgs: tuple[str, ...] | None
    feature: str | None
    reason: str
    author: str
    request_id: str
    recorded_at: datetime
    replaces: int | None = None

    def concerns(self, org_id: str) -> bool:
        """Whether it concerned that org."""
        return self.orgs is None or org_id in self.orgs

    def members(self, *, of_org: bool = False) -> dict[str, Any]:
        """As plain JSON members; of one org's view, without whom else it concerned and who wrote it down."""
        members: dict[str, Any] = {
            "incident_id": incident_id(self.number),
            "kind": self.kind,
            "from": format_instant(self.start),
            "to": format_instant(self.end),
            "feature": self.feature,
            "reason": self.reason,
            "recorded_at": format_instant(self.recorded_at),
            "replaces": None if self.replaces is None else incident_id(self.replaces),
        }
        if not of_org:
            orgs = None if self.orgs is None else list(self.orgs)
            members |= {"orgs": orgs, "author": self.author, "request_id": self.request_id}
        return members


def incident_id(number: int) -> str:
    """What a record is called, such as `inc3`."""
    return f"inc{number}"


def holding(records: Iterable[Incident], through: int | None = None) -> list[Incident]:
    """Those of the records up to number `through` (None for all) that no later one of these takes back, in order."""
    known = [one for one in records if through is None or one.number <= through]
    taken_back = {one.replaces for one in known}
    kept = [one for one in known if one.number not in taken_back and one.kind != "withdrawal"]
    return sorted(kept, key=lambda one: one.number)
