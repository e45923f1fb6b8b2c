"""`tally erase-person`: what the ledger holds of a person is erased; what it proves stays."""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import print_json, print_text, progress_bar, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("erase-person")(erase_person)


def erase_person(
    org: Annotated[str, typer.Argument(help="The org's id.")],
    user: Annotated[str, typer.Argument(help="The user's id, as events name it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Erase user, session and attributes of a person's entries, in the database and in the sealed blocks.

    Costs and proofs stay as they were. Run it again if it was interrupted.
    """
    from tallystick.app.erase import erase_person as erase
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime, progress_bar("looking through blocks", None) as advance:
        erased = erase(runtime, org, user, advance)
    if as_json:
        print_json({"org_id": org, **erased._asdict()})
        return
    print_text(f"{erased.rows:,} entries in the database, {erased.archived_rows:,} in {erased.files:,} files of blocks")
    if erased.keys:
        say(f"{erased.keys:,} keys that stood for the person are no longer taken")
    say("backups, the server's own log files and whatever was exported may still name the person: see docs/sealing.md")
