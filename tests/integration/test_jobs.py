"""Jobs: each period's once, whoever works; one run at a time; what was killed is run again; how it went is kept."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from journal_helpers import query
from tallystick.app.job_list import find_job, jobs_of, list_jobs
from tallystick.app.job_runs import check_jobs, queue_of, runs_of
from tallystick.app.jobs import RUNS_KEPT, Done, Job, JobRun, Recorder, run_job
from tallystick.app.runtime import Runtime
from tallystick.core.errors import NotFound, Unavailable
from tallystick.jobs.queue import cron_of
from tallystick.jobs.worker import JobsWorker, Pulse
from tallystick.journal.roles import APP, JOBS, WRITER

FAST = Pulse(beat=0.3, dead=1.5, poll=0.1)


def job(run: Callable[[JobRun], Done], name: str = "tick", every: timedelta = timedelta(seconds=1)) -> Job:
    return Job(name, "a test", every, run)


def wait_for(what: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_a_run_is_written_down_with_what_it_did(runtime: Runtime) -> None:
    assert run_job(runtime, job(lambda _: Done(3, "three things")), by="me") == Done(3, "three things")
    (run,) = runs_of(runtime, "tick", 10)
    assert (run.outcome, run.done, run.detail, run.error, run.started_by) == ("done", 3, "three things", None, "me")


def test_a_run_that_fails_is_written_down_with_its_reason_and_until_one_goes_well(runtime: Runtime) -> None:
    def fail(_: JobRun) -> Done:
        raise Unavailable("journal_busy", "too much to do", next_step="wait")

    for _ in range(2):
        with pytest.raises(Unavailable):
            run_job(runtime, job(fail, "rollups"), by="me")
    (row,) = [row for row in list_jobs(runtime) if row.name == "rollups"]
    assert (row.failing, row.latest and row.latest.failures) == (True, 2)
    assert row.as_dict()["last_error"] == "too much to do [journal_busy]"
    check = check_jobs(runtime, jobs_of(runtime.settings))
    assert not check.ok
    assert "failed: rollups" in check.detail
    run_job(runtime, find_job(runtime.settings, "rollups"), by="me")
    assert check_jobs(runtime, jobs_of(runtime.settings)).ok


def test_a_job_runs_once_at_a_time_whoever_starts_it(runtime: Runtime) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(_: JobRun) -> Done:
        begun.set()
        assert go.wait(20)
        return Done(1, "")

    thread = threading.Thread(target=run_job, args=(runtime, job(slow)), kwargs={"by": "first"})
    thread.start()
    assert begun.wait(20)
    assert run_job(runtime, job(lambda _: Done(9, "")), by="second") is None
    assert list_running(runtime) == ["first"]
    go.set()
    thread.join()
    assert [run.outcome for run in runs_of(runtime, "tick", 10)] == ["done"]


def list_running(runtime: Runtime) -> list[str]:
    return [run.started_by for run in runs_of(runtime, "tick", 10) if run.outcome == "running"]


def test_a_run_without_an_end_was_killed_and_the_next_one_says_so(runtime: Runtime) -> None:
    with runtime.database.operator() as connection:
        connection.execute(
            "insert into tallystick_jobs.job_runs (job, started_at, seen_at, outcome, started_by)"
            " values ('tick', now(), now(), 'running', 'gone')"
        )
    run_job(runtime, job(lambda _: Done(0, "")), by="me")
    assert [(run.outcome, run.started_by) for run in runs_of(runtime, "tick", 10)] == [
        ("done", "me"),
        ("killed", "gone"),
    ]


def test_history_is_bounded_and_quiet_looks_take_one_row(runtime: Runtime) -> None:
    with runtime.database.operator() as connection:
        connection.execute(
            "insert into tallystick_jobs.job_runs (job, started_at, seen_at, ended_at, outcome, started_by)"
            " select 'tick', now(), now(), now(), 'done', 'me' from generate_series(1, %s)",
            [RUNS_KEPT + 5],
        )
    run_job(runtime, job(lambda _: Done(1, "")), by="me")
    assert len(runs_of(runtime, "tick", 1000)) == RUNS_KEPT
    moment = [datetime(2026, 11, 2, tzinfo=UTC)]
    runtime.clock = lambda: moment[0]
    recorder = Recorder(runtime, "looking")
    for _ in range(50):
        recorder.note(moment[0], 0, "nothing")
        moment[0] += timedelta(seconds=31)
    recorder.note(moment[0], 2, "two")
    recorder.note(moment[0], 0, "", "broken")
    found = [(run.outcome, run.looks, run.done, run.error) for run in runs_of(runtime, "looking", 10)]
    assert found == [("failed", 1, 0, "broken"), ("done", 1, 2, None), ("done", 50, 0, None)]


def test_several_workers_run_each_periods_job_once(runtime: Runtime) -> None:
    ran: list[float] = []

    def note(_: JobRun) -> Done:
        ran.append(time.time())
        return Done(1, "")

    ticking = job(note)
    workers = [JobsWorker(runtime, jobs=[ticking], pulse=FAST) for _ in range(3)]
    for worker in workers:
        worker.start()
    wait_for(lambda: len(ran) >= 4)
    for worker in workers:
        worker.stop()
    # A run begins within its period, or a little later: no two of them are for one and the same.
    deferred = Counter(run.outcome for run in runs_of(runtime, "tick", 100))
    assert deferred == {"done": len(ran)}
    assert len(ran) <= max(ran) - min(ran) + 2
    assert queue_of(runtime).running == 0


def test_a_job_whose_worker_was_killed_is_run_again_by_another(runtime: Runtime) -> None:
    ran = threading.Event()

    def note(_: JobRun) -> Done:
        ran.set()
        return Done(1, "")

    daily = job(note, every=timedelta(days=1))
    with psycopg.connect(runtime.database.url, autocommit=True) as connection:  # as a worker leaves it that was killed
        connection.execute("set search_path = tallystick_jobs")
        gone = "insert into procrastinate_workers (last_heartbeat) values (now() - interval '1 hour')"
        connection.execute(gone)
        connection.execute(
            "insert into procrastinate_jobs (queue_name, task_name, queueing_lock, args, status, worker_id)"
            " select 'default', 'tick', 'tick', '{\"timestamp\": 1}', 'doing', id from procrastinate_workers"
        )
        # Today's run is not due any more.
        midnight = int(datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp())
        connection.execute(
            "insert into procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)"
            " values ('tick', '', %s)",
            [midnight],
        )
    with JobsWorker(runtime, jobs=[daily], pulse=FAST):
        assert ran.wait(20)
        wait_for(lambda: query(runtime, "select count(*) from tallystick_jobs.procrastinate_jobs") == [(0,)])


def test_a_failed_job_is_tried_again_and_does_not_end_the_worker(runtime: Runtime) -> None:
    ran = Counter[str]()

    def fail(_: JobRun) -> Done:
        ran["failing"] += 1
        raise RuntimeError("no")

    jobs = [job(fail, "failing"), job(lambda _: (ran.update(["well"]), Done(1, ""))[1], "well")]
    with JobsWorker(runtime, jobs=jobs, pulse=FAST):
        wait_for(lambda: ran["well"] >= 2 and ran["failing"] >= 1)
    (run, *_) = runs_of(runtime, "failing", 5)
    assert (run.outcome, run.error) == ("failed", "RuntimeError: no")


def test_a_worker_goes_on_when_its_connections_were_cut(runtime: Runtime) -> None:
    ran = Counter[str]()
    with JobsWorker(runtime, jobs=[job(lambda _: (ran.update(["well"]), Done(1, ""))[1])], pulse=FAST):
        wait_for(lambda: ran["well"])
        with psycopg.connect(runtime.database.url, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
                " and datname = current_database()"
            )
        before = ran["well"]
        wait_for(lambda: ran["well"] > before + 1)


def test_a_stopped_worker_is_gone_at_once_and_a_job_under_way_is_asked_to_leave(runtime: Runtime) -> None:
    begun = threading.Event()

    def patient(given: JobRun) -> Done:
        begun.set()
        wait_for(given.is_stopping)
        return Done(1, "left the rest")

    worker = JobsWorker(runtime, jobs=[job(patient)], pulse=FAST)
    worker.start()
    assert begun.wait(20)
    start = time.monotonic()
    worker.stop()
    assert time.monotonic() - start < 5
    assert runs_of(runtime, "tick", 1)[0].detail == "left the rest"
    assert query(runtime, "select count(*) from tallystick_jobs.procrastinate_workers") == [(0,)]


def test_a_job_that_does_not_listen_keeps_nobody_from_stopping(runtime: Runtime) -> None:
    begun, go, ran = threading.Event(), threading.Event(), Counter[str]()
    before = {one for one in threading.enumerate() if not one.daemon}

    def deaf(_: JobRun) -> Done:
        ran["tick"] += 1
        begun.set()
        go.wait(30 if ran["tick"] == 1 else 0)
        return Done(1, "")

    daily = job(deaf)
    worker = JobsWorker(runtime, jobs=[daily], pulse=FAST)
    worker.start()
    try:
        assert begun.wait(20)
        start = time.monotonic()
        worker.stop()
        assert time.monotonic() - start < 4.5
        # At its end a process waits for threads that are no daemons.
        assert {one for one in threading.enumerate() if not one.daemon} <= before
        assert query(runtime, "select count(*) from tallystick_jobs.procrastinate_jobs where status = 'doing'") == [
            (0,)
        ]
    finally:
        go.set()
    with JobsWorker(runtime, jobs=[daily], pulse=FAST):
        wait_for(lambda: ran["tick"] > 1)


def test_the_queues_role_sees_nothing_but_the_queue_and_tenants_see_none_of_it(runtime: Runtime) -> None:
    with runtime.database.connect(JOBS) as connection:
        connection.execute("select from procrastinate_jobs")
        for table in ("public.ledger_entries", "public.org_heads", "public.api_keys", "tallystick_jobs.job_runs"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(f"select from {table}".encode())
    for role in (APP, WRITER):
        with runtime.database.connect(role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select from tallystick_jobs.procrastinate_jobs")


def test_every_job_runs_on_an_empty_ledger_and_again(runtime: Runtime) -> None:
    for _ in range(2):
        for one in jobs_of(runtime.settings).values():
            assert run_job(runtime, one, by="me") is not None
    assert {row.latest.run.outcome for row in list_jobs(runtime) if row.latest} == {"done"}
    with pytest.raises(NotFound):
        find_job(runtime.settings, "no-such")


@pytest.mark.parametrize(
    ("every", "offset", "cron"),
    [
        (timedelta(seconds=10), timedelta(0), "*/10 * * * * *"),
        (timedelta(minutes=5), timedelta(minutes=2), "2-59/5 * * * *"),
        (timedelta(hours=1), timedelta(minutes=12), "12 0-23/1 * * *"),
        (timedelta(hours=6), timedelta(hours=1), "0 1-23/6 * * *"),
        (timedelta(days=1), timedelta(hours=3, minutes=4), "4 3 * * *"),
    ],
)
def test_a_period_is_said_in_cron_and_both_agree(every: timedelta, offset: timedelta, cron: str) -> None:
    from croniter import croniter  # type: ignore[import-untyped,unused-ignore]

    one = Job("x", "", every, lambda _: Done(0, ""), offset)
    assert cron_of(one) == cron
    moment = datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)
    for _ in range(30):
        due = one.due_after(moment)
        assert due == croniter(cron, moment, second_at_beginning=True).get_next(datetime)
        assert due is not None
        moment = due


def test_a_period_that_cron_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="cron cannot say"):
        cron_of(Job("x", "", timedelta(minutes=7), lambda _: Done(0, "")))
