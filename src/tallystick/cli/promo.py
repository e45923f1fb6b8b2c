"""`tally promo`: promo codes, which lower invoices: defined, listed, ended, and redeemed for an org."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import AuthorOption, JsonOption, RequestIdOption, author_or_login, given, table
from tallystick.cli.invoice_credits import print_credit
from tallystick.cli.output import print_json, print_text, say

promo_app = typer.Typer(
    name="promo", help="Promo codes, which lower invoices.", no_args_is_help=True, rich_markup_mode=None
)
CodeArgument = Annotated[str, typer.Argument(metavar="CODE", help="The code, in capitals or not.")]


def register(app: typer.Typer) -> None:
    """Add `tally promo …`."""
    app.add_typer(promo_app)


@promo_app.command("create")
def create_command(
    code: CodeArgument,
    percent: Annotated[str | None, typer.Option(help="A share of invoices, such as 20 or 12.5.")] = None,
    usd: Annotated[str | None, typer.Option(help="An amount, which invoices use up, such as 50.")] = None,
    invoices: Annotated[int | None, typer.Option(help="Of how many invoices the share is [default: all].")] = None,
    cap: Annotated[str | None, typer.Option(help="The most in USD that the share of one invoice may be.")] = None,
    minimum: Annotated[str | None, typer.Option(help="Invoices that come to less USD do not use it.")] = None,
    redeem_by: Annotated[str | None, typer.Option(help="Until when it may be redeemed.")] = None,
    expires_after: Annotated[
        str | None, typer.Option(help="How long after it is redeemed what is left is gone, such as 90d.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="How many orgs may redeem it.")] = None,
    contract: Annotated[str | None, typer.Option(help="Only for orgs on this contract.")] = None,
    plan: Annotated[list[str] | None, typer.Option(help="Only for orgs on this plan; may be given again.")] = None,
    new_customers: Annotated[
        bool, typer.Option("--new-customers", help="Only for orgs that have had no invoice.")
    ] = False,
    note: Annotated[str | None, typer.Option(help="What it is for; customers do not see it.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why it is made, for the audit trail.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="A code that is there gives this from now on.")] = False,
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Define a promo code: a share of invoices, or an amount. The same again changes nothing."""
    from tallystick.app.promos import create_promo
    from tallystick.app.runtime import open_runtime

    members = given(
        code=code, percent=percent, amount_usd=usd, invoices=invoices, cap_usd=cap, minimum_usd=minimum,
        redeem_by=redeem_by, expires_after=expires_after, limit=limit, contract=contract, plans=plan or None, note=note,
        reason=reason,
    )  # fmt: skip
    members |= {"author": author_or_login(author), "new_customers": new_customers}
    with open_runtime(Settings()) as runtime:
        _print(create_promo(runtime, members, replace=replace).as_dict(), as_json)


@promo_app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """List promo codes. With --json, one object a line."""
    from tallystick.app.promos import all_promos
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        found = [one.as_dict() for one in all_promos(runtime)]
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        rows = [
            (
                one["code"],
                _gives(one),
                "ended" if one["ended"] else f"until {one['redeem_by']}" if one["redeem_by"] else "open",
                f"{one['redeemed']} of {one['limit']}" if one["limit"] is not None else str(one["redeemed"]),
            )
            for one in found
        ]
        print_text(table([("code", "gives", "state", "redeemed"), *rows]))
    else:
        say("there are no promo codes")


@promo_app.command("show")
def show_command(code: CodeArgument, as_json: JsonOption = False) -> None:
    """Show a promo code: what it gives, to whom, how many have redeemed it, and who has said so."""
    from tallystick.app.promos import show_promo
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        _print(show_promo(runtime, code).as_dict(), as_json)


@promo_app.command("end")
def end_command(
    code: CodeArgument,
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")] = "",
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a code redeemed no more, from now on; who has redeemed it keeps what it gave."""
    from tallystick.app.promos import end_promo
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        _print(end_promo(runtime, code, author=author_or_login(author), reason=reason).as_dict(), as_json)


@promo_app.command("redeem")
def redeem_command(
    code: CodeArgument,
    org: Annotated[str, typer.Option("--org", help="The org that redeems it.")],
    author: AuthorOption = None,
    request_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Redeem a promo code for an org, once."""
    from tallystick.app.promos import redeem_promo
    from tallystick.app.runtime import open_runtime

    members = {"code": code, "request_id": request_id or f"cli-{uuid.uuid4()}", "author": author_or_login(author)}
    with open_runtime(Settings()) as runtime:
        print_credit(redeem_promo(runtime, org, members).as_dict(), as_json)


def _print(promo: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(promo)
        return
    state = "ended" if promo["ended"] else "open"
    times = f"{promo['redeemed']} time{'' if promo['redeemed'] == 1 else 's'}"
    print_text(f"{promo['code']}: {_gives(promo)}, {state}, redeemed {times}")
    names = ("minimum_usd", "redeem_by", "expires_after_seconds", "limit", "left", "contract", "note")
    rows = [(name.replace("_", " "), str(promo[name])) for name in names if promo[name] not in (None, "", "0.00")]
    rows += [("plans", ", ".join(promo["plans"]))] if promo["plans"] else []
    rows += [("for", "new customers")] if promo["new_customers"] else []
    if rows:
        print_text(table(rows))
    for one in promo["history"]:
        why = f"  ({one['reason']})" if one["reason"] else ""
        what = "ended" if one["ended"] else f"version {one['version']}"
        print_text(f"  {one['recorded_at']}  {what}  by {one['author']}{why}")


def _gives(promo: dict[str, Any]) -> str:
    if promo["percent"] is None:
        return f"{promo['amount_usd']} USD"
    of = "every invoice" if promo["invoices"] is None else f"{promo['invoices']} invoices"
    cap = "" if promo["cap_usd"] is None else f", at most {promo['cap_usd']} USD of each"
    return f"{promo['percent']} % of {of}{cap}"
