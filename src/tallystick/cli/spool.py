"""`tally spool`: events that wait for the database, and those that the ledger would not take."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import EXIT_NO, print_json, print_text, progress_bar

spool_app = typer.Typer(
    name="spool", help="Events that wait on disk while the database is away.", rich_markup_mode=None
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add `tally spool …`."""
    app.add_typer(spool_app)


@spool_app.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show how many events wait on disk for the database, and which ones the ledger refused. It asks no database."""
    if context.invoked_subcommand is None:
        _show(as_json)


@spool_app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """The same: how many events wait, and which ones the ledger refused, with the reason."""
    _show(as_json)


@spool_app.command("drain")
def drain_command(as_json: JsonOption = False) -> None:
    """Write what waits into the ledger now; `tally serve` does so by itself. Exit code 1 when some were refused."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.spool_view import drain_all, spool_contents

    settings = Settings()
    waiting = spool_contents(settings)[0].waiting
    with open_runtime(settings) as runtime, progress_bar("draining", waiting) as advance:
        done = drain_all(runtime, advance)
    if as_json:
        print_json({"waited": done.waited, "refused": done.refused})
    else:
        print_text(f"{done.waited:,} events waited; {done.refused:,} of them were refused, none waits any more")
    if done.refused:
        raise typer.Exit(EXIT_NO)


@spool_app.command("retry")
def retry_command(as_json: JsonOption = False) -> None:
    """Let what was refused wait once more, to be offered to the ledger again: when its reason may be gone."""
    from tallystick.app.runtime import utc_now
    from tallystick.app.spool_view import retry_refused

    count = retry_refused(Settings(), utc_now)
    if as_json:
        print_json({"waiting_again": count})
    else:
        print_text(f"{count:,} events wait once more")


@spool_app.command("dismiss")
def dismiss_command(
    org: Annotated[str, typer.Argument(help="The org's id.")],
    request_id: Annotated[str, typer.Argument(help="The event's request id.")],
    as_json: JsonOption = False,
) -> None:
    """Drop what was refused under an id, once you have seen to it. Nothing else ever drops it."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.spool_view import dismiss_refused

    with open_runtime(Settings()) as runtime:
        count = dismiss_refused(runtime, org, request_id)
    if as_json:
        print_json({"dismissed": count})
    else:
        print_text(f"dropped {count:,} refused events")


def _show(as_json: bool) -> None:
    from tallystick.app.spool_view import spool_contents

    state, refused = spool_contents(Settings())
    if as_json:
        print_json({"waiting": state.waiting, "oldest": state.oldest, "refused": [_members(one) for one in refused]})
        return
    since = f", the oldest since {state.oldest}" if state.oldest else ""
    print_text(f"{state.waiting:,} events wait{since}; {state.refused:,} were refused")
    for one in refused:
        print_text(f"  {one.org_id} {one.request_id}: {one.reason} [{one.code}], spooled {one.spooled_at}")


def _members(refused: Any) -> dict[str, object]:
    return {
        "org_id": refused.org_id,
        "request_id": refused.request_id,
        "code": refused.code,
        "reason": refused.reason,
        "spooled_at": refused.spooled_at,
        "refused_at": refused.refused_at,
        "event": msgspec.Raw(refused.event),
    }
