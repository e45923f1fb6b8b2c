"""Jobs: what runs by itself, each known by name, run by one at a time, and with its last runs written down.

A job is idempotent: run twice, or again after it was killed in the middle, it does what is left to do. Who runs it is
somebody else's matter: a queue (`tallystick.jobs`), a loop beside the server, or a person (`tally jobs run`). Whoever
it is takes the job's lock first, which the database gives back when the process dies.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tallystick.app.acting import Actor, acting
from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError
from tallystick.journal import jobs as journal
from tallystick.journal.jobs import RUNS_KEPT, Latest, Outcome, Queue, Run
from tallystick.journal.steps import reached

__all__ = ["RUNS_KEPT", "Done", "Job", "JobRun", "Latest", "Outcome", "Queue", "Recorder", "Run", "run_job"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_QUIET_SECONDS = 30
_log = logging.getLogger("tallystick.jobs")


@dataclass(frozen=True, slots=True)
class Done:
    """What a run did: how many things (0: there was nothing to do), and a sentence."""

    count: int
    detail: str


@dataclass(frozen=True, slots=True)
class JobRun:
    """What a run is given.

    Attributes:
        runtime: the running system.
        is_stopping: asked now and then whether to leave the rest to the next run.
    """

    runtime: Runtime
    is_stopping: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Job:
    """Something that runs by itself.

    Attributes:
        name: by which it is known, in commands, figures and tables.
        title: what it does, in a few words.
        every: how often it runs; `timedelta(0)` when it is switched off here.
        offset: how long after a full period, counted from midnight UTC.
        run: does it. It raises what went wrong.
        in_loop: a loop beside the server runs it rather than the queue, because it is due every few seconds.
    """

    name: str
    title: str
    every: timedelta
    run: Callable[[JobRun], Done]
    offset: timedelta = timedelta(0)
    in_loop: bool = False

    def due_after(self, instant: datetime) -> datetime | None:
        """When it is due next after that instant; None when it never is."""
        if not self.every:
            return None
        passed = (instant - _EPOCH - self.offset) // self.every
        return _EPOCH + self.offset + (passed + 1) * self.every


def started_by(what: str) -> str:
    """Who starts a run: what for, on which machine, in which process."""
    return f"{what} {socket.gethostname()}:{os.getpid()}"


def run_job(runtime: Runtime, job: Job, *, by: str, is_stopping: Callable[[], bool] = lambda: False) -> Done | None:
    """Run a job now and write down how it went; None when somebody else is running it.

    Raises:
        TallyError, Exception: whatever the job raises; it is written down, too.
    """
    with journal.alone(runtime.database, job.name) as alone:
        if not alone:
            return None
        with runtime.database.operator() as connection:
            number = journal.begin_run(connection, job.name, runtime.clock(), by)
        reached("job.begun")
        try:
            with acting(Actor("job", job.name, by)):
                done = job.run(JobRun(runtime, is_stopping))
        except BaseException as error:
            _end(runtime, job, number, Done(0, ""), sentence_of(error))
            raise
        reached("job.done")
        _end(runtime, job, number, done, None)
        return done


def _end(runtime: Runtime, job: Job, number: int, done: Done, error: str | None) -> None:
    try:
        with runtime.database.operator() as connection:
            journal.end_run(
                connection, job.name, number, runtime.clock(), done=done.count, detail=done.detail, error=error
            )
    except TallyError as gone:  # what the job did stands; that it did is written down by its next run, as killed
        _log.warning("how %s ended could not be written down: %s", job.name, gone.detail)


def sentence_of(error: BaseException) -> str:
    """What went wrong, in a sentence."""
    if isinstance(error, TallyError):
        return f"{error.detail} [{error.code}]"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:2000]


class Recorder:
    """Writes down the looks of a loop: every one that did something or failed, and now and then those that did not.

    A loop must go on whatever becomes of this: what cannot be written down is logged.
    """

    def __init__(self, runtime: Runtime, job: str) -> None:
        self._runtime = runtime
        self._job = job
        self._by = started_by("serve")
        self._guard = threading.Lock()
        self._looks = 0
        self._noted_at: datetime | None = None
        self._error: str | None = None

    def note(self, started_at: datetime, done: int, detail: str, error: str | None = None) -> None:
        """A look has ended."""
        with self._guard:
            self._looks += 1
            now = self._runtime.clock()
            recently = self._noted_at is not None and (now - self._noted_at).total_seconds() < _QUIET_SECONDS
            if recently and not done and error == self._error:
                return
            try:
                with self._runtime.database.operator() as connection:
                    journal.note_run(
                        connection, self._job, started_at, now, self._by,
                        looks=self._looks, done=done, detail=detail, error=error,
                    )  # fmt: skip
            except TallyError as gone:
                _log.debug("a look of %s could not be written down: %s", self._job, gone.detail)
                return
            self._looks, self._noted_at, self._error = 0, now, error
