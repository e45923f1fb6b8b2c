"""`tally settlements`: settlements of the gateway that wait on disk, and those that the ledger would not take."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import AuthorOption, JsonOption, author_or_login
from tallystick.cli.output import EXIT_NO, print_json, print_text, say
from tallystick.core.errors import BadInput

settlements_app = typer.Typer(
    name="settlements", help="Settlements of the gateway that wait on disk for the ledger.", rich_markup_mode=None
)

_HoldArgument = Annotated[str, typer.Argument(metavar="HOLD", help="The hold's id, such as h1042.")]


def register(app: typer.Typer) -> None:
    """Add `tally settlements …`."""
    app.add_typer(settlements_app)


@settlements_app.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show how many settlements wait on disk, which ones the ledger refused and why. It asks no database."""
    if context.invoked_subcommand is None:
        _show(as_json)


@settlements_app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """The same: how many wait, which ones the ledger refused and why, and which were given up, by whom."""
    _show(as_json)


@settlements_app.command("drain")
def drain_command(as_json: JsonOption = False) -> None:
    """Write what waits into the ledger now; `tally serve` does so by itself. Exit code 1 when some were refused."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.settlement_view import drain_queue

    say("writing what waits…")
    with open_runtime(Settings()) as runtime:
        written, refused = drain_queue(runtime)
    if as_json:
        print_json({"written": written, "refused": refused})
    else:
        print_text(f"{written:,} settlements were written; {refused:,} were refused")
    if refused:
        raise typer.Exit(EXIT_NO)


@settlements_app.command("retry")
def retry_command(
    org: Annotated[str | None, typer.Argument(metavar="[ORG]", help="Those of this org alone.")] = None,
    hold: Annotated[
        str | None, typer.Argument(metavar="[HOLD]", help="That of this hold alone, such as h1042.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of every org.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let what was refused wait once more, to be offered to the ledger again: when its reason may be gone."""
    from tallystick.app.runtime import utc_now
    from tallystick.app.settlement_view import retry_settlements

    if everything == (org is not None):
        raise BadInput(
            "invalid_option",
            "it is not clear which ones are meant",
            next_step="name an org and a hold, or say --all",
        )
    count = retry_settlements(Settings(), utc_now, org, hold)
    if as_json:
        print_json({"waiting_again": count})
    else:
        print_text(f"{count:,} settlements wait once more")


@settlements_app.command("give-up")
def give_up_command(
    org: Annotated[str, typer.Argument(metavar="ORG", help="The org's id.")],
    hold: _HoldArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why it is left at that.")],
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Leave one that was refused at that: its usage is never recorded. Who said so, and why, is kept."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.settlement_view import give_up_settlement

    with open_runtime(Settings()) as runtime:
        done = give_up_settlement(runtime, org, hold, author=author_or_login(author), reason=reason)
    if as_json:
        print_json(done)
        return
    print_text(f"the settlement of {hold} of {org} is given up")
    hold_is = f"the hold is released ({done['release_id']})" if done["release_id"] else f"the hold: {done['hold_is']}"
    print_text(hold_is)


def _show(as_json: bool) -> None:
    from tallystick.app.settlement_view import settlement_contents

    state, refused, given_up = settlement_contents(Settings())
    if as_json:
        left = [one._asdict() for one in given_up]
        for one in left:
            one["hold_id"] = one.pop("name")
        print_json({"waiting": state.waiting, "oldest": state.oldest, "refused": refused, "given_up": left})
        return
    since = f", the oldest since {state.oldest}" if state.oldest else ""
    print_text(f"{state.waiting:,} settlements wait{since}; {state.refused:,} were refused")
    for one in refused:
        print_text(f"  {_refused_line(one)}")
    for each in given_up:
        print_text(f"  given up: {each.org_id} {each.name}, by {each.author} at {each.given_up_at}: {each.why}")


def _refused_line(one: dict[str, Any]) -> str:
    requests = ", ".join(each["request_id"] for each in one["usage"])
    of = f" of request {requests}" if requests else ""
    return (
        f"{one['org_id']} {one['hold_id']}, a {one['kind']}{of}: {one['reason']} [{one['code']}], "
        f"queued {one['queued_at']}, refused {one['refused_at']}"
    )
