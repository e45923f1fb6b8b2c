"""How jobs fare: their last runs, what is late, and what has failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tallystick.app.health import Check
from tallystick.app.jobs import Job
from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError
from tallystick.core.instants import format_instant
from tallystick.journal.jobs import Latest, Queue, Run, is_running, last_runs, latest_runs, queue_state

GRACE = timedelta(minutes=5)
"""How much later than due a job may be before it is called late; for those in loops, besides their own period."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job and how it fares.

    Attributes:
        name, title: of the job.
        every_seconds: how often it runs; 0 when it is switched off.
        runs_in: `loop`, beside the server, or `queue`.
        running: whether somebody is at it now.
        latest: its last run; None when it never ran.
        next_run_at: when it is due; None when it is switched off.
        lag_seconds: for how long a run has been due that did not go well yet; 0 when none is.
        late: whether that is more than it may be.
    """

    name: str
    title: str
    every_seconds: int
    runs_in: str
    running: bool
    latest: Latest | None
    next_run_at: datetime | None
    lag_seconds: float
    late: bool

    @property
    def failing(self) -> bool:
        """Whether its last run that ended went wrong."""
        return self.latest is not None and self.latest.failures > 0

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        latest = self.latest
        run = None if latest is None else run_dict(latest.run)
        error_at = None if latest is None or latest.last_error_at is None else format_instant(latest.last_error_at)
        return {
            "name": self.name,
            "title": self.title,
            "every_seconds": self.every_seconds,
            "runs_in": self.runs_in,
            "running": self.running,
            "last_run": run,
            "last_success_at": _instant(None if latest is None else latest.well_at),
            "failures_since": 0 if latest is None else latest.failures,
            "last_error": None if latest is None else latest.last_error,
            "last_error_at": error_at,
            "next_run_at": _instant(self.next_run_at),
            "lag_seconds": round(self.lag_seconds, 3),
            "late": self.late,
        }


def job_rows(runtime: Runtime, jobs: Mapping[str, Job]) -> list[JobRow]:
    """How these jobs fare.

    Raises:
        Unavailable: `database_unreachable`.
    """
    now = runtime.clock()
    with runtime.database.operator() as connection:
        latest = latest_runs(connection)
        running = {name for name in jobs if is_running(connection, name)}
    return [_row(job, latest.get(job.name), job.name in running, now) for job in jobs.values()]


def runs_of(runtime: Runtime, job: str, limit: int) -> list[Run]:
    """The last runs of a job, the newest first."""
    with runtime.database.operator() as connection:
        return last_runs(connection, job, limit)


def queue_of(runtime: Runtime) -> Queue:
    """How many jobs wait, how many are at work, and how many workers live."""
    with runtime.database.operator() as connection:
        return queue_state(connection)


def check_jobs(runtime: Runtime, jobs: Mapping[str, Job]) -> Check:
    """Jobs as one of the things that readiness tells: they may degrade the service, and never stop it."""
    try:
        rows = job_rows(runtime, jobs)
    except TallyError as error:
        return Check("jobs", False, error.detail)
    failing = [row.name for row in rows if row.failing]
    late = [row.name for row in rows if row.late and not row.failing]
    figures = {f"{row.name}_lag_seconds": round(row.lag_seconds, 3) for row in rows if row.every_seconds}
    said = []
    if failing:
        said.append(f"failed: {', '.join(failing)}")
    if late:
        said.append(f"late: {', '.join(late)}")
    detail = "; ".join(said) + ": see `tally jobs`" if said else f"{len(rows)} jobs run when they are due"
    return Check("jobs", not said, detail, figures)


def run_dict(run: Run) -> dict[str, Any]:
    """A run as plain JSON members."""
    ended = run.ended_at
    seconds = None if ended is None or run.looks > 1 else round((ended - run.started_at).total_seconds(), 3)
    return {
        "started_at": format_instant(run.started_at),
        "seen_at": format_instant(run.seen_at),
        "ended_at": _instant(ended),
        "seconds": seconds,
        "outcome": run.outcome,
        "looks": run.looks,
        "done": run.done,
        "detail": run.detail,
        "error": run.error,
        "started_by": run.started_by,
    }


def _row(job: Job, latest: Latest | None, running: bool, now: datetime) -> JobRow:
    lag = _lag(job, latest, now)
    allowed = GRACE + (job.every if job.in_loop else timedelta(0))
    return JobRow(
        name=job.name,
        title=job.title,
        every_seconds=int(job.every.total_seconds()),
        runs_in="loop" if job.in_loop else "queue",
        running=running,
        latest=latest,
        next_run_at=job.due_after(now),
        lag_seconds=lag.total_seconds(),
        late=bool(job.every) and lag > allowed,
    )


def _lag(job: Job, latest: Latest | None, now: datetime) -> timedelta:
    """Since when a run is due that did not go well. Of what never ran nobody knows when it should have."""
    if latest is None or not job.every:
        return timedelta(0)
    due = job.due_after(latest.well_at or latest.run.started_at)
    return timedelta(0) if due is None else max(timedelta(0), now - due)


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)
