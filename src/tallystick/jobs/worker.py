"""A worker: runs what is due in the queue, on a thread with an event loop of its own, until it is stopped.

What may go wrong with the queue's connections ends the library's worker, not this one: it begins again, a little later
each time. A job whose worker was killed is at work for nobody: as soon as that worker has been silent for long enough,
it is put back into the queue, by whichever worker sees it first, and its run goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from tallystick.app.jobs import Job
from tallystick.app.runtime import Runtime

CONCURRENCY = 3
"""Jobs that one worker runs at once."""
GRACE_SECONDS = 3
"""How long jobs may go on once the worker is to stop; what is committed stays, the rest is done by another run."""
_PAUSES_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
_log = structlog.get_logger("tallystick.jobs")


@dataclass(frozen=True, slots=True)
class Pulse:
    """How often a worker says that it lives, and after how much silence it is taken for dead, in seconds."""

    beat: float = 10.0
    dead: float = 30.0
    poll: float = 5.0


class JobsWorker:
    """A thread that works, from `start()` to `stop()`; `tally serve` has one, and each `tally worker`."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        wait_seconds: float = 0.0,
        jobs: Iterable[Job] | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        """Nothing is begun yet.

        Args:
            runtime: the running system.
            wait_seconds: how long to wait before it begins, so that whoever starts it is up first.
            jobs: which; None for all that the queue runs.
            pulse: how soon a worker that was killed is noticed.
        """
        self._runtime = runtime
        self._wait_seconds = wait_seconds
        self._jobs = None if jobs is None else tuple(jobs)
        self._pulse = pulse or Pulse()
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="tally-jobs", daemon=True)

    def __enter__(self) -> JobsWorker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; jobs that are under way leave what they can to their next run."""
        self._stopping.set()
        with self._guard:
            if self._loop is not None and self._task is not None:
                with contextlib.suppress(RuntimeError):  # it has ended already
                    self._loop.call_soon_threadsafe(self._task.cancel)
        if self._thread.is_alive():
            self._thread.join(GRACE_SECONDS + 1)

    def _run(self) -> None:
        if self._stopping.wait(self._wait_seconds):
            return
        logging.getLogger("procrastinate").setLevel(logging.WARNING)
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it is told here, in fewer words
        failures = 0
        while not self._stopping.is_set():
            try:
                asyncio.run(self._work())
                failures = 0
            except asyncio.CancelledError:
                return
            except Exception as error:  # the database is away, mostly; it is told elsewhere
                if not self._stopping.is_set():
                    _log.warning("jobs_wait", reason=f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])
                failures = min(failures + 1, len(_PAUSES_SECONDS))
            self._stopping.wait(_PAUSES_SECONDS[max(failures - 1, 0)])

    async def _work(self) -> None:
        from tallystick.jobs.queue import queue_of

        app = queue_of(self._runtime, self._stopping.is_set, self._jobs)
        with self._guard:
            if self._stopping.is_set():
                return
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            async with app.open_async(), asyncio.TaskGroup() as group:
                returning = group.create_task(self._return_orphans(app))
                await app.run_worker_async(
                    concurrency=CONCURRENCY,
                    install_signal_handlers=False,
                    listen_notify=False,
                    delete_jobs="always",
                    shutdown_graceful_timeout=GRACE_SECONDS,
                    fetch_job_polling_interval=self._pulse.poll,
                    update_heartbeat_interval=self._pulse.beat,
                    stalled_worker_timeout=self._pulse.dead,
                )
                returning.cancel()
        finally:
            with self._guard:
                self._loop = self._task = None

    async def _return_orphans(self, app: object) -> None:
        """Put jobs back whose worker was killed."""
        import procrastinate

        assert isinstance(app, procrastinate.App)  # noqa: S101 - its module is imported where it is needed
        while True:
            for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=self._pulse.dead):
                _log.warning("job_put_back", job=job.task_name, id=job.id)
                try:
                    await app.job_manager.retry_job(job)
                except procrastinate.exceptions.UniqueViolation:  # the same waits already, and does what this left
                    await app.job_manager.finish_job(job, procrastinate.jobs.Status.ABORTED, delete_job=True)
            await asyncio.sleep(self._pulse.dead / 2)
