"""`tally clock`: the clocks of test orgs."""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import AuthorOption, JsonOption, OrgArgument, author_or_login
from tallystick.cli.output import print_json, print_text, say
from tallystick.core.instants import format_instant, parse_instant

clock_app = typer.Typer(
    name="clock",
    help="Clocks of test orgs: put forward, with all that is due on the way.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add `tally clock …`."""
    app.add_typer(clock_app)


@clock_app.command("show")
def show_command(org: OrgArgument, as_json: JsonOption = False) -> None:
    """Show where the clock of a test org stands, and where it was put before."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.test_clock import show_clock

    with open_runtime(Settings()) as runtime:
        clock = show_clock(runtime, org)
    if as_json:
        print_json(clock.as_dict())
        return
    print_text(f"{org}: {format_instant(clock.at)}")
    for one in clock.history:
        print_text(f"  {format_instant(one.at)}  by {one.author}")


@clock_app.command("advance")
def advance_command(
    org: OrgArgument,
    to: Annotated[str | None, typer.Option("--to", help="Until when, such as 2027-01-01T00:00:00Z.")] = None,
    by: Annotated[str | None, typer.Option("--by", help="How far, such as 1mo, 10d, 36h, 2w or 1y.")] = None,
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put the clock of a test org forward: holds and credits end, included ones come, months close and are invoiced.

    All of it happens in its order, by the org's own clock. Clocks never go back.
    """
    instant = None if to is None else parse_instant(to, where="--to")
    from tallystick.app.runtime import open_runtime
    from tallystick.app.test_clock import advance_clock

    with open_runtime(Settings()) as runtime:
        done = advance_clock(
            runtime, org, to=instant, by=by, author=author_or_login(author), progress=lambda at: say(f"{org}: {at}")
        )
    if as_json:
        print_json(done.as_dict())
        return
    print_text(f"{org}: {format_instant(done.at)}; {done.entries} entries followed by themselves")
    for one in done.invoiced:
        if one.life is not None:
            members = one.life.as_dict()
            print_text(f"  {one.period}  {members['number']}  {members['total_usd']} USD")
