"""`tally invoice-credits`: amounts of USD that an org's next invoices use up."""

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
    table,
)
from tallystick.cli.output import print_json, print_text, say

invoice_credits_app = typer.Typer(
    name="invoice-credits",
    help="Credits in USD, which invoices use up. Wallets of credits: tally credits.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add `tally invoice-credits …`."""
    app.add_typer(invoice_credits_app)


@invoice_credits_app.command("grant")
def grant_command(
    org: OrgArgument,
    usd: Annotated[str, typer.Option("--usd", help="How much, such as 25 or 12.50.")],
    reason: Annotated[str, typer.Option(help="What for.")],
    source: Annotated[str, typer.Option(help="goodwill, dispute, sla or promo.")] = "goodwill",
    expires: Annotated[str | None, typer.Option(help="From when on what is left is gone [default: never].")] = None,
    from_month: Annotated[
        str | None, typer.Option("--from-month", help="The first month whose invoice may use it.")
    ] = None,
    author: AuthorOption = None,
    request_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an org an amount that its next invoices use up; none comes below nothing, and the rest carries over."""
    from tallystick.app.invoice_credits import give_credit_asked
    from tallystick.app.runtime import open_runtime

    members = given(
        request_id=request_id or f"cli-{uuid.uuid4()}",
        source=source,
        amount_usd=usd,
        author=author_or_login(author),
        reason=reason,
        expires_at=expires,
        from_month=from_month,
    )
    with open_runtime(Settings()) as runtime:
        print_credit(give_credit_asked(runtime, org, members).as_dict(), as_json)


@invoice_credits_app.command("list")
def list_command(org: OrgArgument, as_json: JsonOption = False) -> None:
    """Show what an org was given in USD, promo codes among it: what is left of each, and where the rest went."""
    from tallystick.app.invoice_credits import show_credits
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        found = show_credits(runtime, org).as_dict()
    if as_json:
        print_json(found)
        return
    beyond = "" if found["beyond_usd"] == "0.00" else f", and {found['beyond_usd']} USD too much paid"
    print_text(f"{org}: {found['left_usd']} USD left{beyond}")
    rows = [
        (one["credit_id"], one["source"], one["code"] or "", one["state"], _left(one), one["expires_at"] or "for ever")
        for one in found["credits"]
    ]
    if not rows:
        say("it was given nothing yet")
        return
    print_text(table([("id", "source", "code", "state", "left", "until"), *rows]))
    for one in found["credits"]:
        for use in one["used"]:
            back = ", given back" if use["given_back"] else ""
            print_text(f"  {one['credit_id']}: {use['amount_usd']} USD for {use['number']}, {use['month']}{back}")


def print_credit(answer: dict[str, Any], as_json: bool) -> None:
    """What was given, and what the org has left."""
    again = "" if answer["is_new"] else " (it was before)"
    line = f"{answer['credit_id']}: {answer['what']}{again}"
    print_answer(answer, as_json, line, f"{answer['org_id']} has {answer['left_usd']} USD left for its next invoices")


def _left(one: dict[str, Any]) -> str:
    if one["percent"] is None:
        return f"{one['left_usd']} of {one['amount_usd']} USD"
    more = "every invoice" if one["invoices_left"] is None else f"{one['invoices_left']} more invoices"
    return f"{one['percent']} % of {more}"
