"""A worker that is killed in the middle of a job loses nothing and leaves nothing in the way."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from invoicing import record
from rollup_tools import due, some, stored
from tally_processes import run_program
from tallystick.app.job_list import find_job
from tallystick.app.job_runs import runs_of
from tallystick.app.jobs import Done, run_job
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Unavailable
from tallystick.journal import migrations
from tallystick.journal.migrate import migrate

_VICTIM = """
import os, signal, sys
from pathlib import Path
import tallystick.app.rollup as rollup
from tallystick.app.job_list import find_job
from tallystick.app.jobs import run_job
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.journal.steps import install

step, times, url, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
seen = []

def die(reached):
    seen.append(reached)
    if seen.count(step) == times:
        os.kill(os.getpid(), signal.SIGKILL)

install(die)
rollup.ENTRIES_AT_ONCE = 10
with open_runtime(Settings(database_url=url, data_dir=folder)) as runtime:
    run_job(runtime, find_job(runtime.settings, "rollups"), by="victim")
"""


@pytest.mark.parametrize(
    ("step", "times"), [("job.begun", 1), ("rollup.added", 1), ("rollup.added", 3), ("job.done", 1)]
)
def test_a_job_that_is_killed_at_any_step_is_done_by_the_next_run_once(runtime: Runtime, step: str, times: int) -> None:
    record(runtime, [*some(45), *some(5, org="acme")])
    settings = runtime.settings
    killed = run_program(_VICTIM, step, times, settings.database_url, settings.data_dir)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    job = find_job(runtime.settings, "rollups")
    done = run_job(runtime, job, by="the next")
    assert isinstance(done, Done)
    before_it = {"job.begun": 0, "rollup.added": (times - 1) * 10, "job.done": 50}[step]
    assert done.count == 50 - before_it
    assert stored(runtime) == due(runtime)
    assert [run.outcome for run in runs_of(runtime, "rollups", 5)] == ["done", "killed"]


def test_a_queue_with_other_tables_than_ours_is_refused(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "QUEUE_SCHEMA_SHA256", "of another version")
    with pytest.raises(Unavailable, match="procrastinate"):
        migrate(empty_database_url)
    monkeypatch.undo()
    migrate(empty_database_url)  # the installed one is the one that this was made for


def test_every_figure_is_in_the_guide_and_the_guide_names_no_other(runtime: Runtime) -> None:
    from tallystick.app.last_backup import note_backup
    from tallystick.app.metrics import metrics_text

    record(runtime, some(3))
    run_job(runtime, find_job(runtime.settings, "rollups"), by="me")
    note_backup(runtime.settings, {"at": "2026-11-01T00:00:00Z"})
    told = set(re.findall(r"^# TYPE (\w+) ", metrics_text(runtime).decode(), re.MULTILINE))
    guide = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tallystick_\w+)", guide)) - {"tallystick_jobs", "tallystick_job_"}
    assert told - named == set()
    assert named - told == set()
