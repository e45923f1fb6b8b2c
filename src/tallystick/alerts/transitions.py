"""From what is found and what is firing to what changes: nothing else decides whether an alert fires.

An alert that fires and is found again changes nothing, unless it has come further. What nothing finds any more is
resolved; what could not be looked at stays as it is. A level of 0 is between the two: it keeps a firing alert firing
and fires none, so that what sways about a threshold is told once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime

from tallystick.alerts.model import SEVERITIES, Change, Condition, Firing, Key, Silence, Transition
from tallystick.alerts.preferences import Preferences

Clock = Callable[[str | None], datetime]
"""The present instant for an org, or for the operator."""
Looked = Callable[[Key], bool]
"""Whether the rule was looked at for that org: what was not, nothing is known of."""


def transitions(
    conditions: Iterable[Condition],
    firing: Iterable[Firing],
    *,
    now: Clock,
    looked: Looked,
    preferences: Mapping[str | None, Preferences],
    silences: Collection[Silence] = (),
) -> list[Transition]:
    """What changes, in the order of orgs, rules and subjects.

    Args:
        conditions: what was found; of the same key the one with the highest level counts.
        firing: all that fires.
        now: the present instant of each org.
        looked: of which keys something would have been found.
        preferences: by org; of one that is not there, the defaults.
        silences: those that may hold something back.
    """
    found: dict[Key, Condition] = {}
    for one in conditions:
        if one.key not in found or found[one.key].level < one.level:
            found[one.key] = one
    fires = {one.key: one for one in firing}
    quiet = _by_org(silences)
    changes = []
    for key in sorted(found.keys() | fires.keys(), key=lambda key: (key[0] or "", *key[1:])):
        wanted, at = preferences.get(key[0], _DEFAULTS), now(key[0])
        condition, was = found.get(key), fires.get(key)
        if condition is not None and key[1] in wanted.off:
            condition = None
        if condition is None:
            if was is not None and looked(key):
                changes.append(_resolved(was, at, _silenced(key, quiet.get(key[0], ()), at)))
            continue
        change = _change(condition, was)
        held_back = _silenced(key, quiet.get(key[0], ()), at) or _unwanted(condition, was, wanted, at)
        if change is None and was is not None and was.told_level < was.level and held_back is None:
            change = "told"
        if change is not None:
            changes.append(_transition(change, condition, was, held_back, at))
    return changes


_DEFAULTS = Preferences()


def _change(condition: Condition, was: Firing | None) -> Change | None:
    if was is None:
        return "firing" if condition.level > 0 else None
    return "escalated" if condition.level > was.level else None


def _transition(
    change: Change, condition: Condition, was: Firing | None, held_back: str | None, at: datetime
) -> Transition:
    # What is told late is told as it was when it came that far: it may be near its end by now.
    said = was if change == "told" and was is not None else condition
    return Transition(
        change=change,
        was=was,
        org_id=condition.org_id,
        rule=condition.rule,
        subject=condition.subject,
        level=said.level,
        severity=said.severity,
        summary=said.summary,
        figures=said.figures,
        next_step=said.next_step,
        is_test=condition.is_test,
        held_back=held_back,
        at=at,
    )


def _resolved(was: Firing, at: datetime, silenced: str | None) -> Transition:
    """What nobody was told of needs no end; quiet hours hold back no good news."""
    return Transition(
        change="resolved",
        was=was,
        org_id=was.org_id,
        rule=was.rule,
        subject=was.subject,
        level=was.level,
        severity=was.severity,
        summary=was.summary,
        figures=was.figures,
        next_step=was.next_step,
        is_test=was.is_test,
        held_back=silenced or (None if was.told_level else "never_told"),
        at=at,
    )


def _silenced(key: Key, silences: Iterable[Silence], at: datetime) -> str | None:
    return next((f"silence:{one.silence_id}" for one in silences if one.covers(key, at)), None)


def _unwanted(condition: Condition, was: Firing | None, wanted: Preferences, at: datetime) -> str | None:
    severity = condition.severity if was is None or condition.level > was.level else was.severity
    if SEVERITIES.index(severity) < SEVERITIES.index(wanted.min_severity):
        return "min_severity"
    if severity != "critical" and wanted.quiet_hours is not None and wanted.quiet_hours.covers(at):
        return "quiet_hours"
    return None


def _by_org(silences: Iterable[Silence]) -> dict[str | None, list[Silence]]:
    found: dict[str | None, list[Silence]] = {}
    for one in silences:
        found.setdefault(one.org_id, []).append(one)
    return found
