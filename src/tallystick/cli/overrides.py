"""`tally overrides`: dated, signed-off exceptions for one org."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import (
    AuthorOption,
    JsonOption,
    OrgArgument,
    RequestIdOption,
    author_or_login,
    given,
    print_answer,
)
from tallystick.cli.output import print_json, print_text, say
from tallystick.core.errors import BadInput

_DIGITS_MAX = 30  # more than any limit has; too large a number is told by what reads it
overrides_app = typer.Typer(
    name="overrides",
    help="Exceptions for one org, signed off by another, that end by themselves.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add `tally overrides …`."""
    app.add_typer(overrides_app)


@overrides_app.command("add")
def add_command(
    org: OrgArgument,
    approved_by: Annotated[str, typer.Option(help="Who signs it off: another than the author.")],
    reason: Annotated[str, typer.Option(help="What for.")],
    expires: Annotated[str, typer.Option(help="When it ends, 90 days ahead at most.")],
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit", metavar="NAME=MAX", help="Raise a limit, by name or number; `none` lifts it, as in 1=none."
        ),
    ] = None,
    allow_action: Annotated[list[str] | None, typer.Option(help="Let in an action that the plan has not.")] = None,
    allow_model: Annotated[list[str] | None, typer.Option(help="Let in models, as a pattern with *.")] = None,
    allow_overspend: Annotated[bool, typer.Option("--allow-overspend", help="Let hard budgets be passed.")] = False,
    credits: Annotated[str | None, typer.Option(help="Goodwill credits, gone when it ends.")] = None,
    author: AuthorOption = None,
    request_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an exception for an org."""
    from tallystick.app.overrides import add_override
    from tallystick.app.runtime import open_runtime

    members = given(
        request_id=request_id or f"cli-{uuid.uuid4()}",
        author=author_or_login(author),
        approved_by=approved_by,
        reason=reason,
        expires_at=expires,
        limits=_limits(limit),
        allow_actions=allow_action,
        allow_models=allow_model,
        allow_overspend=allow_overspend or None,
        credits=credits,
    )
    with open_runtime(Settings()) as runtime:
        answer = add_override(runtime, org, members)
    override = answer["override"]
    print_answer(answer, as_json, f"{override['override_id']}: an exception for {org} until {override['expires_at']}")


@overrides_app.command("list")
def list_command(org: OrgArgument, as_json: JsonOption = False) -> None:
    """List the exceptions in force, the first to end first."""
    from tallystick.app.overrides import list_overrides
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        overrides = list_overrides(runtime, org)
    if as_json:
        print_json({"overrides": overrides})
        return
    for one in overrides:
        print_text(
            f"{one['override_id']}  until {one['expires_at']}  by {one['author']}, signed off by {one['approved_by']}: "
            f"{one['reason']}"
        )
        print_text(f"  {'; '.join(_bends(one))}")
    if not overrides:
        say(f"{org} has no exception in force")


def _bends(override: dict[str, Any]) -> list[str]:
    """What an exception bends, in words."""
    bends = [
        f"limit {number} of plan {override['plan']}: {'none' if most is None else f'{most:,}'}"
        for number, most in override["limits"].items()
    ]
    bends += [f"actions {', '.join(override['allow_actions'])}"] if override["allow_actions"] else []
    bends += [f"models {', '.join(override['allow_models'])}"] if override["allow_models"] else []
    bends += ["hard budgets are let pass"] if override["allow_overspend"] else []
    return bends + ([f"{override['credits']} credits"] if override["credits"] else [])


def _limits(texts: list[str] | None) -> dict[str, int | None] | None:
    """`NAME=MAX` texts as a mapping; `none` is no limit."""
    found: dict[str, int | None] = {}
    for text in texts or ():
        name, equals, value = (part.strip() for part in text.rpartition("="))
        digits = value.replace("_", "")
        is_number = digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_MAX
        if not (name and equals and (digits == "none" or is_number)) or name in found:
            raise BadInput(
                "invalid_option",
                f"{text[:80]!r} is not NAME=MAX, or names a limit twice",
                next_step="write it as --limit 'tokens_out per month=80000000', or 1=none",
                where="--limit",
            )
        found[name] = None if digits == "none" else int(digits)
    return found or None
