"""`tally budgets`: cost guards of an org."""

from __future__ import annotations

from typing import Annotated

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
    table,
)
from tallystick.cli.output import print_json, print_text, say

budgets_app = typer.Typer(
    name="budgets", help="Cost guards: at most so many USD a day or month.", no_args_is_help=True, rich_markup_mode=None
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The budget's name.")]


def register(app: typer.Typer) -> None:
    """Add `tally budgets …`."""
    app.add_typer(budgets_app)


@budgets_app.command("set")
def set_command(
    org: OrgArgument,
    name: NameArgument,
    most: Annotated[str, typer.Option("--max", metavar="USD", help="The most in each window, such as 25.")],
    per: Annotated[str, typer.Option(help="day or month, on the org's clocks.")] = "month",
    kind: Annotated[str, typer.Option(help="hard denies, soft warns.")] = "hard",
    scope: Annotated[str, typer.Option(help="Whose spending: org, user, api_key or feature.")] = "org",
    subject: Annotated[str | None, typer.Option(help="Which user, key or feature [default: each by itself].")] = None,
    of: Annotated[str, typer.Option(help="Our cost, or what the customer is charged: cost or charge.")] = "cost",
    author: AuthorOption = None,
    request_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set a budget, in the place of the one of that name."""
    from tallystick.app.budgets import set_budget
    from tallystick.app.decision_answers import noted_answer
    from tallystick.app.runtime import open_runtime

    members = given(
        request_id=request_id,
        scope=scope,
        subject=subject,
        of=of,
        per=per,
        kind=kind,
        max_usd=most,
        author=author_or_login(author),
    )
    with open_runtime(Settings()) as runtime:
        answer = noted_answer(set_budget(runtime, org, name, members))
    print_answer(answer, as_json, f"{org}: budget {name} is {most} USD of {of} a {per}, {kind}")


@budgets_app.command("list")
def list_command(org: OrgArgument, as_json: JsonOption = False) -> None:
    """List an org's budgets and how far each is spent."""
    from tallystick.app.limits import show_limits
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        budgets = show_limits(runtime, org)["budgets"]
    if as_json:
        print_json({"budgets": budgets})
    elif not budgets:
        say(f"{org} has no budget")
    else:
        print_text(
            table(
                (
                    one["name"],
                    one["scope"] + (f" {one['subject']}" if one["subject"] else ""),
                    f"{one['used_usd']} + {one['held_usd']} held of {one['max_usd']} USD of {one['of']} a {one['per']}",
                    one["kind"],
                    f"anew at {one['resets_at']}",
                )
                for one in budgets
            )
        )


@budgets_app.command("remove")
def remove_command(
    org: OrgArgument,
    name: NameArgument,
    author: AuthorOption = None,
    request_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a budget away."""
    from tallystick.app.budgets import remove_budget
    from tallystick.app.decision_answers import noted_answer
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        answer = noted_answer(remove_budget(runtime, org, name, author_or_login(author), request_id))
    print_answer(answer, as_json, f"{org}: budget {name} is taken away")
