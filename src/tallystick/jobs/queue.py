"""The queue: for each job a periodic task, deferred once for each period, however many workers there are."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from typing import Any

import procrastinate
import psycopg_pool

from tallystick.app.job_list import jobs_of
from tallystick.app.jobs import Done, Job, run_job, started_by
from tallystick.app.queue_session import queue_conninfo
from tallystick.app.runtime import Runtime

MISSED_FOR = 86_400
"""A period whose run nobody deferred is made up for within this many seconds, when a worker starts again."""
ATTEMPTS = 3
RETRY_SECONDS = 60
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_MINUTE = timedelta(minutes=1)


def cron_of(job: Job) -> str:
    """When the job is due, as cron says it in UTC: with seconds in front where its period has some.

    Raises:
        ValueError: the period does not divide an hour, a day or a minute, so that cron cannot say it.
    """
    every, offset = job.every, job.offset
    seconds, minutes, hours = offset.seconds % 60, offset.seconds // 60 % 60, offset.seconds // 3600
    if every < _MINUTE and not _MINUTE % every:
        return f"*/{every.seconds} * * * * *" if every.seconds > 1 else "* * * * * *"
    if _MINUTE <= every < _HOUR and not _HOUR % every and not seconds:
        return f"{minutes}-59/{every.seconds // 60} * * * *"
    if _HOUR <= every < _DAY and not _DAY % every and not seconds:
        return f"{minutes} {hours}-23/{every.seconds // 3600} * * *"
    if every == _DAY and not seconds:
        return f"{minutes} {hours} * * *"
    raise ValueError(f"cron cannot say every {every} after {offset}")


def queue_of(runtime: Runtime, is_stopping: Callable[[], bool], jobs: Iterable[Job] | None = None) -> procrastinate.App:
    """The queue of a running system, not opened yet.

    Args:
        runtime: the running system, which jobs work with.
        is_stopping: whether jobs are to leave the rest to their next run.
        jobs: which; None for all but those that loops run.
    """
    connector = procrastinate.PsycopgConnector(
        conninfo=queue_conninfo(runtime),
        min_size=1,
        max_size=4,
        timeout=10,
        pool_factory=psycopg_pool.AsyncConnectionPool,
    )
    app = procrastinate.App(connector=connector, periodic_defaults={"max_delay": MISSED_FOR})
    listed = jobs_of(runtime.settings).values() if jobs is None else jobs
    for job in listed:
        if job.every and not job.in_loop:
            _add(app, runtime, job, is_stopping)
    return app


def _add(app: procrastinate.App, runtime: Runtime, job: Job, is_stopping: Callable[[], bool]) -> None:
    by = started_by("queue")

    async def run(timestamp: int) -> dict[str, Any]:
        done = await _in_thread(job.name, partial(run_job, runtime, job, by=by, is_stopping=is_stopping))
        return {"busy": True} if done is None else {"done": done.count}

    task = app.task(
        name=job.name,
        queueing_lock=job.name,
        retry=procrastinate.RetryStrategy(max_attempts=ATTEMPTS, wait=RETRY_SECONDS),
    )(run)
    app.periodic(cron=cron_of(job))(task)


async def _in_thread(name: str, work: Callable[[], Done | None]) -> Done | None:
    """Have it done beside the event loop, by a thread that keeps no process alive: whoever stops waits for a moment,
    and what is not done by then ends as if it were killed, which every job can bear.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Done | None] = loop.create_future()

    def give(done: Done | None, error: BaseException | None) -> None:
        if answer.done():  # nobody waits any more
            return
        if error is None:
            answer.set_result(done)
        else:
            answer.set_exception(error)

    def run() -> None:
        done, failed = None, None
        try:
            done = work()
        except BaseException as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(give, done, failed)

    threading.Thread(target=run, name=f"tally-job-{name}", daemon=True).start()
    return await answer
