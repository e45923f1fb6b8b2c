"""`tally orgs suspend`, `resume` and `shadow`: an org's standing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import AuthorOption, JsonOption, OrgArgument, author_or_login, print_answer
from tallystick.cli.orgs import orgs_app


def register(app: typer.Typer) -> None:
    """Nothing: the commands are in the group `tally orgs`, which `cli.orgs` adds."""


@orgs_app.command("suspend")
def suspend_command(
    org: OrgArgument,
    reason: Annotated[str, typer.Option(help="Why; denials repeat it.")],
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Suspend an org: its requests are denied until it is taken up again. What it uses is recorded all the same."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.standing import suspend

    with open_runtime(Settings()) as runtime:
        _print(suspend(runtime, org, reason=reason, author=author_or_login(author)), as_json)


@orgs_app.command("resume")
def resume_command(org: OrgArgument, author: AuthorOption = None, as_json: JsonOption = False) -> None:
    """Take a suspended org up again."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.standing import resume

    with open_runtime(Settings()) as runtime:
        _print(resume(runtime, org, author=author_or_login(author)), as_json)


@orgs_app.command("shadow")
def shadow_command(
    org: OrgArgument,
    mode: Annotated[
        str, typer.Option(help="shadow: denials are only recorded; enforce: they hold; plan: as its plan says.")
    ] = "shadow",
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide for an org without refusing anything, whatever its plan says; or leave that mode."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.standing import set_mode

    chosen = None if mode == "plan" else mode
    with open_runtime(Settings()) as runtime:
        _print(set_mode(runtime, org, chosen, author=author_or_login(author)), as_json)


def _print(recorded: Any, as_json: bool) -> None:
    from tallystick.app.decision_answers import noted_answer
    from tallystick.app.operation_words import sentence

    said = sentence(recorded.request, recorded.result)
    print_answer(noted_answer(recorded), as_json, f"{recorded.org_id}: {said}")
