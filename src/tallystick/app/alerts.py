"""Alerts: a look at everything that is looked out for, and what changes by it.

A look reads its evidence over all orgs at once, decides (`alerts.transitions`), and writes what changes together with
the webhook events that tell of it, in one transaction under one lock. Two looks at once are one after the other: the
second finds nothing left to change. One whose evidence is older than what was decided last changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import structlog

from tallystick.alerts.model import RULES, Condition, Key, customers_figures
from tallystick.alerts.preferences import Preferences, read_preferences
from tallystick.alerts.transitions import transitions
from tallystick.app.alert_allowances import OnPlan, orgs_on_plans, refills, used_allowances
from tallystick.app.alert_spending import low_balances, spend_spikes, unpaid_invoices
from tallystick.app.alert_upkeep import endpoints, operators
from tallystick.app.runtime import Runtime
from tallystick.core.instants import format_instant
from tallystick.journal.alert_evidence import View, test_clocks
from tallystick.journal.alerts import (
    MACHINE,
    Written,
    lock_alerts,
    marks_of,
    open_alerts,
    preferences_of,
    put_marks,
    silences_after,
    write_transitions,
)
from tallystick.journal.webhooks import NewEvent, enqueue_events

BACK_MAX = timedelta(hours=1)
"""A look by a clock that is behind the last look's by no more changes nothing; further back, that one was wrong."""
_LOG = "tallystick.alerts"
_DEFAULTS = Preferences()


class Evaluated(NamedTuple):
    """What a look came to: what changed, and the first thing that went wrong with a rule, if any did."""

    changes: tuple[Written, ...]
    conditions: int
    error: Exception | None = None

    @property
    def fired(self) -> int:
        """How many began to fire."""
        return sum(one.transition.change == "firing" for one in self.changes)

    @property
    def resolved(self) -> int:
        """How many are over."""
        return sum(one.transition.change == "resolved" for one in self.changes)


class _Evidence(NamedTuple):
    """What was found, and of which rules nothing is known because looking at them failed."""

    conditions: list[Condition]
    failed: set[str]
    error: Exception | None


def evaluate(runtime: Runtime, org_id: str | None = None, *, by_job: bool = False) -> Evaluated:
    """Look at everything, or at one org's, and have told what has changed.

    A rule that cannot be looked at keeps no other from it: its alerts stay as they are, and the error is in the answer.

    Args:
        by_job: whether it is the job that looks, beside all others, and not a person.

    Raises:
        Unavailable: `database_unreachable`, …; nothing has changed then, and a later look does it.
    """
    now = runtime.clock()
    with runtime.database.operator() as connection:
        stored = preferences_of(connection, org_id, everybodys=org_id is None)
        view = View(now, test_clocks(connection), org_id)
    preferences = {key: read_preferences(row.preferences) for key, row in stored.items()}
    evidence = _evidence(runtime, view, preferences, by_job=by_job)
    changes = _decide(runtime, view, evidence, preferences)
    for one in changes:
        _tell_log(one)
    return Evaluated(tuple(changes), len(evidence.conditions), evidence.error)


def _evidence(runtime: Runtime, view: View, preferences: dict[str | None, Preferences], *, by_job: bool) -> _Evidence:
    def wanted(org_id: str | None) -> Preferences:
        return preferences.get(org_id, _DEFAULTS)

    known = (_DEFAULTS, *preferences.values())

    @cache
    def orgs() -> list[OnPlan]:
        return orgs_on_plans(runtime, view)

    looks: list[tuple[tuple[str, ...], Callable[[], list[Condition]]]] = [
        (("spend_spike",), lambda: spend_spikes(runtime, view, wanted, min(one.spike_usd_pico for one in known))),
        (("limit", "budget"), lambda: used_allowances(runtime, view, wanted, orgs())),
        (
            ("low_balance",),
            lambda: low_balances(
                runtime,
                view,
                wanted,
                refills(orgs()),
                [org for org, one in preferences.items() if org and one.balance_pico],
            ),
        ),
        (("unpaid_invoice",), lambda: unpaid_invoices(runtime, view, wanted)),
        (("webhook_disabled",), lambda: endpoints(runtime, view)),
    ]
    if view.org_id is None:
        ours = tuple(rule.name for rule in RULES.values() if rule.scope == "operator")
        looks.append((ours, lambda: operators(runtime, view, wanted, by_job=by_job)))
    conditions, failed, error = list[Condition](), set[str](), None
    for rules, look in looks:
        try:
            conditions += look()
        except Exception as gone:
            _logger().exception("alerts_not_looked_at", rules=rules)
            failed.update(rules)
            error = error or gone
    return _Evidence(conditions, failed, error)


def _decide(
    runtime: Runtime, view: View, evidence: _Evidence, preferences: dict[str | None, Preferences]
) -> list[Written]:
    scopes = {org_id: at for org_id, at in view.clocks.items() if view.org_id in {None, org_id}}
    if view.org_id is None or view.org_id not in view.clocks:
        scopes[MACHINE] = view.now
    with runtime.database.writer() as connection:
        lock_alerts(connection)
        marks = marks_of(connection, scopes)
        behind = {scope for scope, at in scopes.items() if _is_behind(at, marks.get(scope))}

        def is_behind(org_id: str | None) -> bool:
            return (org_id if org_id in view.clocks else MACHINE) in behind

        def looked(key: Key) -> bool:
            return key[1] not in evidence.failed and not is_behind(key[0])

        changes = transitions(
            [one for one in evidence.conditions if not is_behind(one.org_id)],
            open_alerts(connection, view.org_id),
            now=view.at,
            looked=looked,
            preferences=preferences,
            silences=[
                row.as_silence()
                for row in silences_after(connection, None, org_id=view.org_id, everybodys=view.org_id is None)
            ],
        )
        written = write_transitions(connection, changes, runtime.clock())
        told = [one for one in written if one.transition.held_back is None]
        enqueue_events(connection, [_webhook(one) for one in told])
        put_marks(connection, {scope: at for scope, at in scopes.items() if scope not in behind})
    return written


def _is_behind(at: datetime, mark: datetime | None) -> bool:
    return mark is not None and at < mark and mark - at <= BACK_MAX


def _webhook(written: Written) -> NewEvent:
    """What webhooks are told: of an org's alert nothing but what the org may know, for its own endpoints hear it."""
    one = written.transition
    kind = "alert.resolved" if one.change == "resolved" else "alert.firing"
    key = f"{written.alert_id}:{written.ordinal}"
    return NewEvent(one.org_id, kind, key, told_members(written), one.at)


def told_members(written: Written) -> dict[str, Any]:
    """A change of an alert as plain JSON members."""
    one = written.transition
    fired_at = one.at if one.was is None else one.was.fired_at
    return {
        "alert_id": written.alert_id,
        "change": one.change,
        "org_id": one.org_id,
        "rule": one.rule,
        "title": RULES[one.rule].title,
        "subject": one.subject,
        "severity": one.severity,
        "level": one.level,
        "summary": one.summary,
        "figures": dict(one.figures) if one.org_id is None else customers_figures(one.figures),
        "next_step": one.next_step,
        "fired_at": format_instant(fired_at),
        "at": format_instant(one.at),
        "test": one.is_test,
    }


def _tell_log(written: Written) -> None:
    """A line for the operator, of what is told; test orgs' alerts are none of the operator's."""
    one = written.transition
    if one.held_back is not None or one.is_test:
        return
    log = _logger()
    say = log.info if one.change == "resolved" or one.severity == "info" else log.warning
    say(
        "alert_resolved" if one.change == "resolved" else "alert_firing",
        alert_id=written.alert_id,
        change=one.change,
        org_id=one.org_id,
        rule=one.rule,
        subject=one.subject,
        severity=one.severity,
        summary=one.summary,
        figures=dict(one.figures),
    )


def _logger() -> Any:
    """The log as the process has it; of a command, which has none, standard error: its output is for what was asked."""
    if structlog.is_configured():
        return structlog.get_logger(_LOG)
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
    ]
    processors.append(structlog.processors.JSONRenderer(ensure_ascii=False))
    return structlog.wrap_logger(structlog.WriteLogger(sys.stderr), processors)
