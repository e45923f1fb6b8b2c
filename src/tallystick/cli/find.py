"""`tally find`: the whole story behind an id."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import JsonOption
from tallystick.cli.find_words import story_lines
from tallystick.cli.output import print_json, print_text, progress_bar
from tallystick.core.instants import parse_instant


def register(app: typer.Typer) -> None:
    """Add `tally find`."""
    app.command("find")(find_command)


def find_command(
    request_id: Annotated[
        str,
        typer.Argument(
            metavar="REQUEST-ID",
            help="A caller's request id, a provider's, a work key; with --org also an entry: 12, h12, s14.",
        ),
    ],
    org: Annotated[str | None, typer.Option("--org", help="Look at this org alone.")] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Where sealed blocks are read through: the first instant, RFC 3339.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="The first instant after it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the whole story behind an id: decision, hold, call, usage, price, entries, charge, wallet, invoice."""
    from tallystick.app.find import find
    from tallystick.app.runtime import open_runtime

    start = None if since is None else parse_instant(since, where="--from")
    end = None if until is None else parse_instant(until, where="--to")
    with open_runtime(Settings()) as runtime, progress_bar("reading blocks", None) as advance:
        found = find(runtime, request_id, org_id=org, since=start, until=end, advance=advance)
    if as_json:
        print_json(found)
    else:
        print_text("\n".join(_lines(found)))


def _lines(found: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for story in found["stories"]:
        lines += ([""] if lines else []) + story_lines(found["id"], story)
    if found["left_off"]:
        lines.append(f"and {found['left_off']:,} more orgs have used {found['id']}; name one with --org")
    return lines
