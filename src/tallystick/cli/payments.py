"""What payment providers have told: `tally payments list`, `assign` and `retry`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import JsonOption, author_or_login, table
from tallystick.cli.output import EXIT_NO, print_json, print_text, say

payments_app = typer.Typer(
    name="payments", help="Payments that providers collect.", no_args_is_help=True, rich_markup_mode=None
)

_LISTED = ("received_at", "provider", "event_id", "type", "state", "code", "money", "invoice_id")

EventArgument = Annotated[str, typer.Argument(metavar="EVENT", help="The provider's id of the event.")]
ProviderOption = Annotated[str, typer.Option("--provider", help="Whose event it is.")]


def register(app: typer.Typer) -> None:
    """Add `tally payments …`."""
    app.add_typer(payments_app)


@payments_app.command("list")
def list_command(
    state: Annotated[
        str | None, typer.Option("--state", help="pending, recorded, ignored, unmatched or refused.")
    ] = None,
    provider: Annotated[str | None, typer.Option("--provider", help="Only this provider's.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="Most events.", min=1)] = 100,
    as_json: JsonOption = False,
) -> None:
    """List what providers have told, the newest first. With --json, one object a line."""
    from tallystick.app.payment_events import LISTED_MAX, event_cursor, event_members, list_payment_events
    from tallystick.app.runtime import open_runtime

    rows: list[dict[str, Any]] = []
    cursor = None
    with open_runtime(Settings()) as runtime:
        while len(rows) < limit:
            wanted = min(limit - len(rows), LISTED_MAX)
            page = list_payment_events(runtime, state=state, provider=provider, cursor=cursor, limit=wanted)
            rows += [event_members(one) for one in page]
            if len(page) < wanted:
                break
            cursor = event_cursor(page[-1])
    if as_json:
        for one in rows:
            print_json(one)
    elif rows:
        print_text(table([_LISTED, *([str(_told(one, name)) for name in _LISTED] for one in rows)]))
    else:
        say("there are no such events")


@payments_app.command("assign")
def assign_command(
    event_id: EventArgument,
    invoice: Annotated[str, typer.Option("--invoice", help="The invoice's id or number, or ORG/MONTH.")],
    provider: ProviderOption = "stripe",
    author: Annotated[
        str | None, typer.Option("--by", "--author", help="Who says so [default: your login name].")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say for which invoice the money is that an unmatched event tells of. It counts once."""
    from tallystick.app.payment_events import assign_event, event_members
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        _print(event_members(assign_event(runtime, provider, event_id, invoice, author_or_login(author))), as_json)


@payments_app.command("retry")
def retry_command(event_id: EventArgument, provider: ProviderOption = "stripe", as_json: JsonOption = False) -> None:
    """Try an event again that is pending, unmatched or refused. Exit code 1 when nothing is recorded still."""
    from tallystick.app.payment_events import event_members, retry_event
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        members = event_members(retry_event(runtime, provider, event_id))
    _print(members, as_json)
    if members["state"] not in ("recorded", "ignored"):
        raise typer.Exit(EXIT_NO)


def _print(members: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(members)
        return
    what = f"{members['event_id']}: {members['state']}"
    print_text(what if members["detail"] is None else f"{what}: {members['detail']}")
    if members["entries"]:
        seqs = ", ".join(str(seq) for seq in members["entries"])
        print_text(f"{members['org_id']}, invoice {members['invoice_id']}, entry {seqs}")


def _told(members: dict[str, Any], name: str) -> object:
    if name == "money":
        return " ".join(f"{one['what']} {one['amount']} {one['currency']}" for one in members["movements"])
    return members[name] or ""
