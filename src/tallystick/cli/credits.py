"""`tally credits`: what an org's wallet holds, granting, giving back, and what happened to it."""

from __future__ import annotations

import uuid
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
    wallet_line,
)
from tallystick.cli.output import print_json, print_text, say

credits_app = typer.Typer(
    name="credits",
    help="Wallets of credits: grants, refunds, history.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_PAGE = 1000


def register(app: typer.Typer) -> None:
    """Add `tally credits …`."""
    app.add_typer(credits_app)


@credits_app.command("grant", context_settings={"ignore_unknown_options": True})  # -5 is an amount, and refused as one
def grant_command(
    org: OrgArgument,
    credits: Annotated[str, typer.Argument(metavar="CREDITS", help="How many, such as 500 or 0.5.")],
    reason: Annotated[str, typer.Option(help="What for.")],
    source: Annotated[str, typer.Option(help="top_up, promo, sla, dispute or goodwill.")] = "goodwill",
    expires: Annotated[str | None, typer.Option(help="From when on they are gone [default: never].")] = None,
    priority: Annotated[int, typer.Option(help="Lower ones burn first among those that expire together.")] = 0,
    author: AuthorOption = None,
    request_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Grant credits to an org."""
    from tallystick.app.decision_answers import grant_answer
    from tallystick.app.grants import grant
    from tallystick.app.runtime import open_runtime

    members = given(
        request_id=request_id or f"cli-{uuid.uuid4()}",
        source=source,
        credits=credits,
        priority=priority,
        expires_at=expires,
        author=author_or_login(author),
        reason=reason,
    )
    with open_runtime(Settings()) as runtime:
        answer = grant_answer(grant(runtime, org, members))
    until = "" if answer["expires_at"] is None else f", until {answer['expires_at']}"
    line = f"{answer['grant_id']}: {answer['credits']} credits ({answer['source']}) to {org}{until}"
    print_answer(answer, as_json, line, wallet_line(answer["wallet"]))


@credits_app.command("show")
def show_command(org: OrgArgument, as_json: JsonOption = False) -> None:
    """Show an org's wallet: what is available and held, and each grant in the order in which they burn."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.wallet import show_wallet

    with open_runtime(Settings()) as runtime:
        wallet = show_wallet(runtime, org)
    if as_json:
        print_json(wallet)
        return
    print_text(f"{org}: {wallet['available']} available, {wallet['held']} held")
    rows = [
        (
            f"  {one['grant_id']}",
            one["source"],
            f"{one['available']} of {one['granted']}",
            f"until {one['expires_at']}" if one["expires_at"] else "for ever",
        )
        for one in wallet["grants"]
    ]
    if rows:
        print_text(table(rows))


@credits_app.command("history")
def history_command(
    org: OrgArgument,
    last: Annotated[int | None, typer.Option(min=1, max=_PAGE, help="Only the last so many.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what happened to an org's account, oldest first: each operation, what it moved, by whom, and why.

    With --json it is one object a line.
    """
    from tallystick.app.runtime import open_runtime
    from tallystick.app.wallet import wallet_entries

    with open_runtime(Settings()) as runtime:
        if last is not None:
            page = wallet_entries(runtime, org, limit=last, order="newest")
            _print_history(page["entries"][::-1], as_json)
            return
        cursor: str | None = None
        while True:
            page = wallet_entries(runtime, org, cursor=cursor, limit=_PAGE)
            _print_history(page["entries"], as_json)
            cursor = page["next_cursor"]
            if cursor is None:
                return


@credits_app.command("refund")
def refund_command(
    org: OrgArgument,
    settlement: Annotated[str, typer.Argument(metavar="SETTLEMENT", help="What charged them, such as s1042.")],
    reason: Annotated[str, typer.Option(help="What for.")],
    credits: Annotated[str | None, typer.Option(help="How many [default: all that are not given back yet].")] = None,
    author: AuthorOption = None,
    request_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give charged credits back, to the grants that they came from."""
    from tallystick.app.decision_answers import refund_answer
    from tallystick.app.refund import refund
    from tallystick.app.runtime import open_runtime

    members = given(
        org_id=org,
        request_id=request_id or f"cli-{uuid.uuid4()}",
        settlement_id=settlement,
        credits=credits,
        author=author_or_login(author),
        reason=reason,
    )
    with open_runtime(Settings()) as runtime:
        answer = refund_answer(refund(runtime, members))
    line = f"{answer['refund_id']}: {answer['refunded_credits']} credits of {settlement} given back"
    print_answer(answer, as_json, line, wallet_line(answer["wallet"]))


def _print_history(entries: list[dict[str, object]], as_json: bool) -> None:
    for one in entries:
        if as_json:
            print_json(one)
            continue
        change = str(one["available_change"])
        moved = "" if change == "0" else f"  {change if change.startswith('-') else '+' + change}"
        by = f"  by {one['by']}" if one["by"] else ""
        why = f"  ({one['why']})" if one["why"] else ""
        print_text(f"{one['recorded_at']}  {one['entry_id']}{moved}  {one['what']}{by}{why}")
    if not entries and not as_json:
        say("nothing happened to it yet")
