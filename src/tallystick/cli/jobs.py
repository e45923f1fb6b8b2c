"""`tally jobs`: what runs by itself, how it went, and running it now."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import table
from tallystick.cli.output import EXIT_NO, print_json, print_text, say
from tallystick.core.errors import Conflict

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Such as rollups.")]

jobs_app = typer.Typer(name="jobs", help="What runs by itself.", invoke_without_command=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add `tally jobs …`."""
    app.add_typer(jobs_app)


@jobs_app.callback()
def list_command(context: typer.Context, as_json: JsonOption = False) -> None:
    """List jobs: their last run, how late they are, when they are due next, and what went wrong last.

    Exit code 1: one is late, or its last run failed.
    """
    if context.invoked_subcommand is not None:
        return
    from tallystick.app.job_list import list_jobs
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        rows = list_jobs(runtime)
    if as_json:
        print_json({"jobs": [row.as_dict() for row in rows]})
    else:
        print_text(table(_cells(row.as_dict()) for row in rows))
        for row in rows:
            if row.failing and row.latest is not None and row.latest.last_error:
                say(f"{row.name} failed: {row.latest.last_error}")
    if any(row.late or row.failing for row in rows):
        raise typer.Exit(EXIT_NO)


@jobs_app.command("run")
def run_command(name: NameArgument, as_json: JsonOption = False) -> None:
    """Run a job now, here. It does what is left to do, whoever else does it at other times."""
    from tallystick.app.job_list import find_job
    from tallystick.app.jobs import run_job, started_by
    from tallystick.app.runtime import open_runtime

    settings = Settings()
    job = find_job(settings, name)
    with open_runtime(settings) as runtime:
        done = run_job(runtime, job, by=started_by("command"))
    if done is None:
        raise Conflict(
            "job_running",
            f"somebody else is running {name}",
            next_step=f"see `tally jobs runs {name}`, and wait for it",
        )
    if as_json:
        print_json({"name": name, "done": done.count, "detail": done.detail})
    else:
        print_text(done.detail)


@jobs_app.command("runs")
def runs_command(
    name: NameArgument, limit: Annotated[int, typer.Option(min=1, max=200)] = 20, as_json: JsonOption = False
) -> None:
    """List the last runs of a job, the newest first."""
    from tallystick.app.job_list import find_job
    from tallystick.app.job_runs import run_dict, runs_of
    from tallystick.app.runtime import open_runtime

    settings = Settings()
    find_job(settings, name)
    with open_runtime(settings) as runtime:
        runs = [run_dict(run) for run in runs_of(runtime, name, limit)]
    if as_json:
        print_json({"runs": runs})
    elif not runs:
        say(f"{name} has never run")
    else:
        print_text(
            table(
                (run["started_at"], run["outcome"], _took(run), run["error"] or run["detail"], run["started_by"])
                for run in runs
            )
        )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    run = row["last_run"]
    if not row["every_seconds"]:
        state = "switched off"
    elif row["running"]:
        state = "running"
    elif row["failures_since"]:
        state = f"failed {row['failures_since']} times"
    elif row["late"]:
        state = f"late by {row['lag_seconds']:,.0f} s"
    else:
        state = "well"
    return (
        row["name"],
        row["title"],
        state,
        "never ran" if run is None else f"{run['seen_at']}: {run['error'] or run['detail'] or run['outcome']}",
        "" if row["next_run_at"] is None else f"next {row['next_run_at']}",
    )


def _took(run: dict[str, Any]) -> str:
    if run["looks"] > 1:
        return f"{run['looks']:,} looks"
    return "" if run["seconds"] is None else f"{run['seconds']:.1f} s"
