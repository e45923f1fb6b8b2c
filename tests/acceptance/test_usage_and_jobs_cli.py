"""`tally usage`, `tally rollup`, `tally jobs` and `tally worker`, as a person runs them."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from invoicing import event, record
from tally_processes import TallyProcess, run_tally
from tallystick.app.job_runs import queue_of, runs_of
from tallystick.app.runtime import Runtime

OCTOBER = ["--from", "2026-10-01", "--to", "2026-10-31"]


@pytest.fixture
def environment(runtime: Runtime, database_url: str, tmp_path: Path) -> dict[str, str]:
    record(runtime, [event("r1", model="gpt-4o"), event("r2", feature="=1+1"), event("r3", model="newest")])
    return {"DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path)}


def run(environment: dict[str, str], *arguments: str, code: int = 0) -> Any:
    done = run_tally(*arguments, env={**os.environ, **environment})
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def test_a_month_is_shown_by_model_and_drilled_down_to_the_request(environment: dict[str, str]) -> None:
    said = json.loads(run(environment, "usage", "globex", *OCTOBER, "--json").stdout)
    assert [(row["model"], row["requests"], row["unpriced"]) for row in said["rows"]] == [
        ("gpt-4o", 1, 0), ("gpt-4o-mini", 1, 0), ("newest", 1, 1),
    ]  # fmt: skip
    table = run(environment, "usage", "globex", *OCTOBER, "--by", "meter", "--period", "day").stdout
    assert "tokens_in" in table
    assert "2026-10-15" in table
    rows = list(
        csv.DictReader(io.StringIO(run(environment, "usage", "globex", *OCTOBER, "--by", "feature", "--csv").stdout))
    )
    assert {row["feature"]: row["requests"] for row in rows} == {"assistant": "2", "'=1+1": "1"}
    listed = run(environment, "usage", "globex", "--requests", "--from", "2026-10-15", "--only", "model=newest").stdout
    (one,) = [json.loads(line) for line in listed.splitlines()]
    assert (one["request_id"], one["cost_usd"]) == ("r3", None)
    assert "nobody" in run(environment, "usage", "nobody", code=2).stderr
    assert "invalid_day" in run(environment, "usage", "globex", "--from", "soon", code=2).stderr
    assert json.loads(run(environment, "usage", "globex", "--to", "0001-01-01", "--json").stdout)["rows"] == []
    assert "invalid_usage_question" in run(environment, "usage", "globex", "--only", "model", code=2).stderr


def test_days_are_brought_up_to_date_and_made_again_by_hand(environment: dict[str, str]) -> None:
    assert json.loads(run(environment, "rollup", "run", "--json").stdout) == {"entries": 3, "orgs": 1, "busy": 0}
    assert run(environment, "rollup", "run").stdout == "0 entries of 0 orgs were added up\n"
    again = run(environment, "rollup", "rebuild", "--org", "globex", "--from", "2026-10-01", "--json").stdout
    assert json.loads(again) == {"entries": 3, "orgs": 1}
    assert "unknown_org" in run(environment, "rollup", "rebuild", "--org", "nobody", code=2).stderr


def test_a_job_is_run_by_hand_and_seen(environment: dict[str, str]) -> None:
    assert run(environment, "jobs", "run", "rollups").stdout == "3 entries of 1 orgs were added up\n"
    jobs = {job["name"]: job for job in json.loads(run(environment, "jobs", "--json").stdout)["jobs"]}
    assert jobs["rollups"]["last_run"]["done"] == 3
    assert "never ran" in run(environment, "jobs").stdout
    assert "3 entries of 1 orgs" in run(environment, "jobs", "runs", "rollups").stdout
    assert "unknown_job" in run(environment, "jobs", "run", "nothing", code=2).stderr


def test_a_worker_runs_what_is_due_and_stops_when_it_is_told_to(runtime: Runtime, environment: dict[str, str]) -> None:
    reading, writing = os.pipe()
    worker = TallyProcess(["worker"], env={**os.environ, **environment}, stdout=writing, stderr=writing)
    os.close(writing)
    output = os.fdopen(reading)
    try:
        deadline = time.monotonic() + 60
        while not [one for one in runs_of(runtime, "rollups", 1) if one.outcome == "done"]:
            assert worker.poll() is None, output.read()
            assert time.monotonic() < deadline, "nothing was run"
            time.sleep(0.02)
        assert queue_of(runtime).workers == 1
        worker.send_signal(signal.SIGTERM)
        said = output.read()
        worker.wait(30)
    finally:
        worker.kill()
    assert worker.returncode == 0, said
    assert said.splitlines()[-1] == "stopped"
    assert queue_of(runtime).workers == 0
    assert runs_of(runtime, "rollups", 1)[0].done == 3
