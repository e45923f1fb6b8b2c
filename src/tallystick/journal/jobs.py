"""The runs of jobs as they are kept, and the lock that keeps a job from running twice at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Literal, NamedTuple

import psycopg

from tallystick.journal.database import Connection, Database
from tallystick.journal.migrate import unreachable
from tallystick.journal.named_sql import load_queries
from tallystick.journal.roles import JOBS, OPERATOR

RUNS_KEPT = 200
"""Runs of each job that are remembered."""

_SQL = load_queries("jobs")
Outcome = Literal["running", "done", "failed", "killed"]


class Run(NamedTuple):
    """A run of a job; see the table `job_runs`."""

    job: str
    run: int
    started_at: datetime
    seen_at: datetime
    ended_at: datetime | None
    outcome: Outcome
    looks: int
    done: int
    detail: str
    error: str | None
    started_by: str


class Latest(NamedTuple):
    """A job's last run, when one last went well, how many have not since, and what the last failure was."""

    run: Run
    well_at: datetime | None
    failures: int
    last_error: str | None
    last_error_at: datetime | None


class Queue(NamedTuple):
    """Jobs that wait and that are at work, and workers that live."""

    waiting: int
    running: int
    workers: int


@contextmanager
def alone(database: Database, job: str) -> Iterator[bool]:
    """Be the only one who runs the job while the block lasts, on a session of its own; false when somebody else is.

    Raises:
        Unavailable: `database_unreachable`.
    """
    try:
        connection = database.connect(OPERATOR)
    except psycopg.OperationalError as error:
        raise unreachable(error) from error
    try:
        connection.autocommit = True
        try:
            ((taken,),) = connection.execute(_SQL["begin_lock"], {"job": job}).fetchall()
        except psycopg.OperationalError as error:
            raise unreachable(error) from error
        yield bool(taken)
    finally:
        connection.close()


def begin_run(connection: Connection, job: str, now: datetime, by: str) -> int:
    """Note that a run begins; whoever calls is alone, so that what has no end has been killed. The run's number."""
    connection.execute(_SQL["bury"], {"job": job, "now": now})
    ((run,),) = connection.execute(_SQL["begin"], {"job": job, "now": now, "by": by}).fetchall()
    return int(run)


def end_run(
    connection: Connection, job: str, run: int, now: datetime, *, done: int, detail: str, error: str | None
) -> None:
    """Note how a run ended, and forget the oldest ones."""
    values = {"run": run, "now": now, "done": done, "detail": detail, "error": error}
    connection.execute(_SQL["end"], {**values, "outcome": "done" if error is None else "failed"})
    connection.execute(_SQL["forget"], {"job": job, "keep": RUNS_KEPT})


def note_run(
    connection: Connection,
    job: str,
    started_at: datetime,
    now: datetime,
    by: str,
    *,
    looks: int = 1,
    done: int,
    detail: str,
    error: str | None,
) -> None:
    """Note a run that is over; looks that find nothing to do become one row."""
    values = {"job": job, "now": now, "by": by, "looks": looks, "done": done, "detail": detail, "error": error}
    quiet = not done and error is None
    if quiet and connection.execute(_SQL["note_quiet"], values).rowcount:
        return
    outcome = "done" if error is None else "failed"
    connection.execute(_SQL["note"], {**values, "started_at": started_at, "outcome": outcome})
    connection.execute(_SQL["forget"], {"job": job, "keep": RUNS_KEPT})


def latest_runs(connection: Connection) -> dict[str, Latest]:
    """Of each job that ever ran its last run."""
    found = {}
    for *run, well_at, failures, error, error_at in connection.execute(_SQL["latest"]):
        found[run[0]] = Latest(Run(*run), well_at, failures, error, error_at)
    return found


def last_runs(connection: Connection, job: str, limit: int) -> list[Run]:
    """The last runs of a job, the newest first."""
    return [Run(*row) for row in connection.execute(_SQL["runs"], {"job": job, "limit": limit})]


def is_running(connection: Connection, job: str) -> bool:
    """Whether somebody runs the job now."""
    ((running,),) = connection.execute(_SQL["is_running"], {"job": job}).fetchall()
    return bool(running)


def queue_state(connection: Connection) -> Queue:
    """How long the queue is."""
    ((waiting, running, workers),) = connection.execute(_SQL["queue"]).fetchall()
    return Queue(waiting, running, workers)


def queue_conninfo(database: Database) -> str:
    """How the queue's own library connects, as libpq takes it: as the role that can do nothing else."""
    return database.conninfo(JOBS)
