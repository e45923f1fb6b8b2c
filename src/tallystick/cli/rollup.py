"""`tally rollup`: the sums of each org's days, brought up to date or made again."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import print_json, print_text, progress_bar, say
from tallystick.core.errors import BadInput

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OrgOption = Annotated[str | None, typer.Option("--org", help="Only this org.")]

rollup_app = typer.Typer(
    name="rollup",
    help="Sums of each org's days, which follow from its entries.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add `tally rollup …`."""
    app.add_typer(rollup_app)


@rollup_app.command()
def run(org: OrgOption = None, as_json: JsonOption = False) -> None:
    """Add up what is not added up yet. `tally worker` and `tally serve` do it every hour."""
    from tallystick.app.rollup import roll_up
    from tallystick.app.rollup_health import entries_behind
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime, progress_bar("adding up", entries_behind(runtime, org)) as advance:
        done = roll_up(runtime, org_id=org, progress=advance)
    if as_json:
        print_json({"entries": done.entries, "orgs": done.orgs, "busy": done.busy})
        return
    print_text(f"{done.entries:,} entries of {done.orgs:,} orgs were added up")
    if done.busy:
        say(f"another process is at {done.busy:,} orgs; they were left to it")


@rollup_app.command()
def rebuild(
    org: OrgOption = None,
    first: Annotated[str | None, typer.Option("--from", help="First UTC day, such as 2026-10-01.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last UTC day, included.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Throw the sums of days away and make them again from the raw entries, wherever those are."""
    from tallystick.app.rollup import rebuild as rebuild_days
    from tallystick.app.rollup_health import entries_rolled
    from tallystick.app.runtime import open_runtime

    bounds = read_day(first, "--from"), read_day(last, "--to")
    with open_runtime(Settings()) as runtime, progress_bar("making again", entries_rolled(runtime, org)) as advance:
        done = rebuild_days(runtime, org_id=org, first=bounds[0], last=bounds[1], progress=advance)
    if as_json:
        print_json({"entries": done.entries, "orgs": done.orgs})
        return
    print_text(f"the days of {done.orgs:,} orgs were made again from {done.entries:,} entries")


def read_day(text: str | None, where: str) -> date | None:
    """A day as the options give it.

    Raises:
        BadInput: `invalid_day`.
    """
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadInput(
            "invalid_day", f"{text!r} is no day", next_step="write it as YYYY-MM-DD, such as 2026-10-01", where=where
        ) from None
