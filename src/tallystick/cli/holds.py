"""`tally holds`: what is reserved, and letting go of it."""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import JsonOption, OrgArgument, given, print_answer, table, wallet_line
from tallystick.cli.output import print_json, print_text, say

holds_app = typer.Typer(
    name="holds", help="What open holds have reserved.", no_args_is_help=True, rich_markup_mode=None
)
_PAGE = 1000


def register(app: typer.Typer) -> None:
    """Add `tally holds …`."""
    app.add_typer(holds_app)


@holds_app.command("list")
def list_command(org: OrgArgument, as_json: JsonOption = False) -> None:
    """List an org's open holds, oldest first; with --json one object a line."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.wallet import list_holds

    with open_runtime(Settings()) as runtime:
        cursor: str | None = None
        found = 0
        while True:
            page = list_holds(runtime, org, cursor=cursor, limit=_PAGE)
            cursor, found = page["next_cursor"], found + len(page["holds"])
            if as_json:
                for one in page["holds"]:
                    print_json(one)
            elif page["holds"]:
                rows = (
                    (
                        one["hold_id"],
                        f"{one['credits']} credits",
                        one["action"] or one["feature"] or "",
                        f"until {one['expires_at']}",
                        f"by {one['user_id'] or 'somebody erased'}",
                    )
                    for one in page["holds"]
                )
                print_text(table(rows))
            if cursor is None:
                break
    if not found and not as_json:
        say(f"{org} has no open hold")


@holds_app.command("release")
def release_command(
    org: OrgArgument,
    hold: Annotated[str, typer.Argument(metavar="HOLD", help="Such as h1042.")],
    reason: Annotated[str | None, typer.Option(help="Why.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Release a hold whose work was not done: all that it has reserved goes back."""
    from tallystick.app.decision_answers import release_answer
    from tallystick.app.release import release
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        answer = release_answer(release(runtime, given(org_id=org, hold_id=hold, reason=reason)))
    line = f"{hold}: {answer['returned_credits']} credits given back"
    print_answer(answer, as_json, line, wallet_line(answer["wallet"]))


@holds_app.command("expire")
def expire_command(as_json: JsonOption = False) -> None:
    """End every hold and every lot of credits whose life is over, of all orgs; `tally serve` does so by itself."""
    from tallystick.app.hold_expiry import expire_some
    from tallystick.app.runtime import open_runtime

    entries = 0
    with open_runtime(Settings()) as runtime:
        for some in expire_some(runtime):
            entries += some
            say(f"{entries:,} entries so far")
    print_answer({"entries": entries}, as_json, f"{entries:,} entries say what came to its end")
