"""Alerts in the database: what fires, what happened, what nobody is to be told of, and what orgs want to be told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from tallystick.alerts.model import Change, Firing, Key, Severity, Silence, Transition, alert_id
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.encoding import canonical_json

_SQL = load_queries("alerts")
MACHINE = ""
"""The scope of all that lives by the machine's clock, in the table of marks."""


class AlertRow(NamedTuple):
    """An alert as it stood after something happened to it.

    Attributes:
        n: rises with every event, over all alerts.
        ordinal: of the event within its alert.
        told_level: the highest level that somebody was told of; None once it fires no more.
    """

    n: int
    org_id: str | None
    alert_id: str
    ordinal: int
    change: Change
    rule: str
    subject: str
    level: int
    severity: Severity
    summary: str
    figures: Mapping[str, Any]
    next_step: str
    held_back: str | None
    is_test: bool
    at: datetime
    fired_at: datetime
    told_level: int | None


class SilenceRow(NamedTuple):
    """A silence as it stands, who wants it, and why."""

    silence_id: str
    org_id: str | None
    rule: str | None
    subject: str | None
    starts_at: datetime
    ends_at: datetime
    reason: str
    author: str
    recorded_at: datetime

    def as_silence(self) -> Silence:
        """What it holds back."""
        return Silence(*self[:6])


class PreferencesRow(NamedTuple):
    """A version of what is wanted, as it was said."""

    org_id: str | None
    version: int
    preferences: Any
    author: str
    recorded_at: datetime


class Written(NamedTuple):
    """A transition as it was written: of which alert, its how-manieth event, and whether somebody is told."""

    transition: Transition
    alert_id: str
    ordinal: int


def lock_alerts(connection: Connection) -> None:
    """Be the only one who changes what fires, until the transaction ends."""
    connection.execute(_SQL["lock"])


def marks_of(connection: Connection, scopes: Iterable[str]) -> dict[str, datetime]:
    """By what instant was looked last; '' stands for all that live by the machine's clock."""
    return dict(connection.execute(_SQL["marks"], {"scopes": list(scopes)}).fetchall())


def put_marks(connection: Connection, marks: Mapping[str, datetime]) -> None:
    """It was looked by these instants."""
    connection.execute(_SQL["put_marks"], {"scopes": list(marks), "ats": list(marks.values())})


def open_alerts(connection: Connection, org_id: str | None = None) -> list[Firing]:
    """What fires: of one org, or everything."""
    found = connection.execute(_SQL["open"], {"org": org_id})
    return [Firing._make([*row[:10], json.loads(row[10]), *row[11:]]) for row in found]


def fires_since(connection: Connection, key: Key) -> datetime | None:
    """Since when an alert fires; None where it does not."""
    org_id, rule, subject = key
    row = connection.execute(_SQL["since"], {"org": org_id, "rule": rule, "subject": subject}).fetchone()
    return None if row is None else row[0]


def write_transitions(
    connection: Connection, transitions: Sequence[Transition], recorded_at: datetime
) -> list[Written]:
    """Write down what changes; whoever calls has locked the alerts, and made the transitions from what fires then."""
    begun = [one for one in transitions if one.was is None]
    times = _times(connection, [one.key for one in begun])
    written = []
    rows: dict[str, list[dict[str, Any]]] = {"add_open": [], "change_open": [], "remove_open": [], "add_event": []}
    for one in transitions:
        if one.was is None:
            known, ordinal, told = alert_id(one.key, times[one.key] + 1), 1, 0
        else:
            known, ordinal, told = one.was.alert_id, one.was.changes + 1, one.was.told_level
        row = {
            "org_id": one.org_id,
            "alert_id": known,
            "ordinal": ordinal,
            "change": one.change,
            "rule": one.rule,
            "subject": one.subject,
            "level": one.level,
            "told_level": one.level if one.held_back is None else told,
            "severity": one.severity,
            "summary": one.summary,
            "figures": canonical_json(one.figures).decode(),
            "next_step": one.next_step,
            "held_back": one.held_back,
            "is_test": one.is_test,
            "at": one.at,
            "recorded_at": recorded_at,
        }
        query = {"firing": "add_open", "resolved": "remove_open"}.get(one.change, "change_open")
        rows[query].append(row)
        rows["add_event"].append(row)
        written.append(Written(one, known, ordinal))
    with connection.cursor() as cursor:
        for query, listed in rows.items():
            if listed:
                cursor.executemany(_SQL[query], listed)
    return written


def _times(connection: Connection, keys: Sequence[Key]) -> dict[Key, int]:
    """How often each has fired before."""
    if not keys:
        return {}
    orgs, rules, subjects = zip(*keys, strict=True)
    given = {"orgs": list(orgs), "rules": list(rules), "subjects": list(subjects)}
    return {keys[place - 1]: times for place, times in connection.execute(_SQL["times"], given)}


def list_alerts(
    connection: Connection,
    *,
    org_id: str | None,
    own: bool = False,
    rule: str | None = None,
    with_resolved: bool = False,
    before: int | None = None,
    limit: int,
) -> list[AlertRow]:
    """Alerts as they stand, those first that changed last.

    Args:
        org_id: whose; None for everybody's but test orgs'.
        own: only the operator's own.
        rule: only of this rule.
        with_resolved: those that are over, too.
        before: only those whose `n` is below it.
    """
    given = {"org": org_id, "own": own, "rule": rule, "before": before, "limit": limit}
    return [_row(row) for row in connection.execute(_SQL["list" if with_resolved else "firing"], given)]


def events_of(connection: Connection, known: str) -> list[AlertRow]:
    """What happened to an alert, in order; empty when there is none of that id."""
    return [_row(row) for row in connection.execute(_SQL["events_of"], {"alert": known})]


def _row(row: Sequence[Any]) -> AlertRow:
    return AlertRow._make([*row[:10], json.loads(row[10]), *row[11:]])


def silences_after(
    connection: Connection, after: datetime | None, *, org_id: str | None = None, everybodys: bool = False
) -> list[SilenceRow]:
    """Silences that end after an instant: of an org, of the operator's own (`org_id` None), or everybody's."""
    given = {"after": after, "org": org_id, "all": everybodys, "silence": None}
    return [SilenceRow(*row) for row in connection.execute(_SQL["silences"], given)]


def find_silence(connection: Connection, silence_id: str) -> SilenceRow | None:
    """The silence of that id, as far as the session may see it."""
    given = {"after": None, "org": None, "all": True, "silence": silence_id}
    row = connection.execute(_SQL["silences"], given).fetchone()
    return None if row is None else SilenceRow(*row)


def add_silence(connection: Connection, silence: SilenceRow) -> None:
    """A new silence, or another end of the one of that id."""
    connection.execute(_SQL["add_silence"], silence._asdict())


def preferences_of(
    connection: Connection, org_id: str | None = None, *, everybodys: bool = False
) -> dict[str | None, PreferencesRow]:
    """The last version of an org's preferences, of the operator's own (`org_id` None), or everybody's."""
    found = connection.execute(_SQL["preferences"], {"org": org_id, "all": everybodys})
    return {row[0]: PreferencesRow(row[0], row[1], json.loads(row[2]), *row[3:]) for row in found}


def add_preferences(
    connection: Connection, org_id: str | None, preferences: Mapping[str, Any], author: str, recorded_at: datetime
) -> None:
    """A new version of what is wanted."""
    connection.execute(_SQL["lock_preferences"], {"org": org_id})
    said = canonical_json(preferences).decode()
    connection.execute(
        _SQL["add_preferences"], {"org": org_id, "preferences": said, "author": author, "recorded_at": recorded_at}
    )


def unlike_events(connection: Connection, org_id: str | None = None) -> list[tuple[str, bool]]:
    """Alerts that fire otherwise than their events say: each id, and whether it is missing among those that fire."""
    return [(known, missing) for known, missing in connection.execute(_SQL["unlike"], {"org": org_id})]
