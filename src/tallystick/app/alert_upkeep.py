"""Evidence of how the service fares: sums, prices, jobs, sealing, the check of the ledger, disputes, endpoints."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from tallystick.alerts.model import Condition
from tallystick.alerts.preferences import Preferences
from tallystick.alerts.upkeep import (
    STOOD_STILL_SUBJECT,
    JobFacts,
    dispute_condition,
    endpoint_condition,
    job_conditions,
    rollup_condition,
    seal_condition,
    stopped_for,
    unpriced_condition,
    verification_condition,
)
from tallystick.app.rollup_health import LATE_AFTER, rollup_health
from tallystick.app.runtime import Runtime
from tallystick.app.verify_job import NOT_SOUND, VERIFY, last_outcome
from tallystick.journal.alert_evidence import (
    View,
    disabled_endpoints,
    overdue_disputes,
    unpriced_models,
    unsealed,
)
from tallystick.journal.alerts import MACHINE, fires_since, marks_of

Wanted = Callable[[str | None], Preferences]
SUBJECTS_MAX = 100
"""Of unpriced models and overdue disputes, so many are alerts of their own."""


def operators(runtime: Runtime, view: View, wanted: Wanted, *, by_job: bool = False) -> list[Condition]:
    """All that the operator alone is to look at."""
    preferences, now = wanted(None), view.now
    health = rollup_health(runtime)
    with runtime.database.operator() as connection:
        unpriced = unpriced_models(connection, SUBJECTS_MAX)
        waiting, oldest_at = unsealed(connection)
        disputes = overdue_disputes(connection, now, SUBJECTS_MAX)
        looked_at = marks_of(connection, [MACHINE]).get(MACHINE)
        told_at = fires_since(connection, (None, "failed_job", STOOD_STILL_SUBJECT))
    stopped = stopped_for(looked_at=looked_at, told_at=told_at, now=now, by_job=by_job)
    found = [
        rollup_condition(
            health.entries_behind,
            health.orgs_behind,
            health.lag_seconds,
            [(one.org_id, one.day) for one in health.missing],
            late_after=LATE_AFTER,
            stopped=stopped,
        ),
        *_jobs(runtime, now, looked_at, told_at),
        *(unpriced_condition(one.provider, one.model, one.requests, one.orgs, one.since) for one in unpriced),
        *(dispute_condition(*one, now=now) for one in disputes),
    ]
    if runtime.settings.seal_seconds:
        found.append(seal_condition(waiting, oldest_at, now, preferences.seal_lag_minutes, stopped=stopped))
    return [one for one in found if one is not None]


def endpoints(runtime: Runtime, view: View) -> list[Condition]:
    """Webhook endpoints that get nothing any more."""
    with runtime.database.operator() as connection:
        rows = disabled_endpoints(connection, view)
    return [endpoint_condition(*row, is_test=row.org_id in view.clocks) for row in rows]


def _jobs(runtime: Runtime, now: datetime, looked_at: datetime | None, told_at: datetime | None) -> list[Condition]:
    from tallystick.app.job_list import list_jobs

    with runtime.database.operator() as connection:
        verified = last_outcome(connection)
    found: list[Condition] = []
    jobs = []
    if verified is not None and verified.error is not None:
        found.append(verification_condition(verified.error, verified.ended_at or verified.seen_at))
    for row in list_jobs(runtime):
        latest = row.latest
        # What the check of the ledger has found is an alert of its own.
        is_told = row.name == VERIFY and row.failing and latest is not None and NOT_SOUND in (latest.last_error or "")
        failures = 0 if latest is None or is_told else latest.failures
        jobs.append(
            JobFacts(
                row.name,
                failures,
                row.late and not is_told,
                row.lag_seconds,
                None if latest is None else latest.last_error,
                None if latest is None else latest.last_error_at,
            )
        )
    return [*found, *job_conditions(jobs, looked_at=looked_at, told_at=told_at, now=now)]
