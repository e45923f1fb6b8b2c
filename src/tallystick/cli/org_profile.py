"""`tally orgs profile` and `erase-profile`: who is billed for an org."""

from __future__ import annotations

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
    table,
)
from tallystick.cli.orgs import orgs_app
from tallystick.cli.output import print_json, print_text, say


def register(app: typer.Typer) -> None:
    """Nothing: the commands are in the group `tally orgs`, which `cli.orgs` adds."""


@orgs_app.command("profile")
def profile_command(
    org: OrgArgument,
    name: Annotated[str | None, typer.Option("--name", help="Who is billed: the business, or the person.")] = None,
    address: Annotated[list[str] | None, typer.Option("--address", help="A line of it; may be given again.")] = None,
    tax_id: Annotated[str | None, typer.Option("--tax-id", help="Such as a VAT number.")] = None,
    email: Annotated[str | None, typer.Option("--email", help="Where invoices go.")] = None,
    language: Annotated[str | None, typer.Option("--language", help="Of documents, such as de-DE.")] = None,
    purchase_order: Annotated[str | None, typer.Option("--purchase-order", help="To be named on invoices.")] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Of a sole trader: the user that this is, erased with them.")
    ] = None,
    author: AuthorOption = None,
    request_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who is billed for an org, or, with --name, say so from now on: a new version of its billing profile.

    Invoices that are issued already keep the version that they name.
    """
    from tallystick.app.parties import profile_history, set_profile
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        if name is None:
            found = profile_history(runtime, org)
        else:
            said = given(name=name, address=address or None, tax_id=tax_id, email=email, language=language)
            said |= given(purchase_order=purchase_order, user_id=user, request_id=request_id)
            found = [set_profile(runtime, org, {**said, "author": author_or_login(author)})]
    if as_json:
        print_json(
            {"org_id": org, "profiles": [one.as_dict() for one in found]} if name is None else found[0].as_dict()
        )
        return
    for one in found:
        print_text(_lines(one.as_dict()))
    if not found:
        say(f"nobody has said who is billed for {org}")


@orgs_app.command("erase-profile")
def erase_profile_command(
    org: OrgArgument,
    user: Annotated[str | None, typer.Option("--user", help="Only what stands for this user.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Erase what an org's billing profiles say. What an issued invoice names stays: the law has invoices kept."""
    from tallystick.app.parties import erase_org_profiles
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        versions = erase_org_profiles(runtime, org, user_id=user)
    if as_json:
        print_json({"org_id": org, "erased_versions": versions})
    else:
        erased = "nothing" if not versions else f"version {', '.join(map(str, versions))}"
        print_text(f"{org}: {erased} of the billing profile was erased")


def _lines(members: dict[str, Any]) -> str:
    head = f"version {members['version']}, by {members['author']}, {members['recorded_at']}"
    if members["profile"] is None:
        return f"{head}: erased"
    rows = [[name, value if isinstance(value, str) else ", ".join(value)] for name, value in members["profile"].items()]
    return f"{head}\n{table([['  ' + name, value] for name, value in rows])}"
