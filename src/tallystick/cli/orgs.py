"""`tally orgs`: which contract and plan each customer is on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import print_json, print_text
from tallystick.core.instants import format_instant, parse_instant

orgs_app = typer.Typer(
    name="orgs", help="Which contract and plan each org is on.", no_args_is_help=True, rich_markup_mode=None
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add `tally orgs …`."""
    app.add_typer(orgs_app)


@orgs_app.command("set")
def set_command(
    org: Annotated[str, typer.Argument(help="The org's id.")],
    contract: Annotated[str, typer.Option(help="The name of an applied contract.")],
    plan: Annotated[str, typer.Option(help="One of its plans.")],
    time_zone: Annotated[
        str | None, typer.Option(help="Where its months begin, such as Europe/Paris [default: UTC].")
    ] = None,
    begins: Annotated[
        str | None, typer.Option("--from", help="From when, such as 2026-10-01 or 2026-10-01T00:00:00Z [default: now].")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put an org on a plan, from now or from an instant on. Earlier subscriptions stay in the record."""
    effective_from = None if begins is None else parse_instant(begins, where="--from")
    from tallystick.app.orgs import set_subscription
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        subscription = set_subscription(
            runtime, org, contract=contract, plan=plan, time_zone=time_zone, effective_from=effective_from
        )
    if as_json:
        print_json(_members(subscription))
    else:
        print_text(_sentence(subscription))


@orgs_app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """List every org that has sent an event or has a subscription."""
    from tallystick.app.orgs import all_orgs
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        orgs = all_orgs(runtime)
    if as_json:
        print_json({"orgs": [_summary(org) for org in orgs]})
        return
    for org in orgs:
        now = "no subscription" if org.subscription is None else _terms(org.subscription)
        print_text(f"{org.org_id}\t{org.entries:,} entries\t{now}")


@orgs_app.command("show")
def show_command(org: Annotated[str, typer.Argument(help="The org's id.")], as_json: JsonOption = False) -> None:
    """Show one org: its subscriptions, from the first to the last recorded."""
    from tallystick.app.orgs import find_org
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        found = find_org(runtime, org)
    if as_json:
        print_json({**_summary(found), "history": [_members(one) for one in found.history]})
        return
    print_text(f"{found.org_id}: {found.entries:,} entries")
    for one in found.history:
        print_text(f"  {_sentence(one)}" + ("  (in force)" if one == found.subscription else ""))


def _summary(org: Any) -> dict[str, object]:
    subscription = None if org.subscription is None else _members(org.subscription)
    return {"org_id": org.org_id, "entries": org.entries, "subscription": subscription}


def _members(subscription: Any) -> dict[str, object]:
    return {
        "org_id": subscription.org_id,
        "contract": subscription.contract,
        "plan": subscription.plan,
        "time_zone": subscription.time_zone,
        "effective_from": format_instant(subscription.effective_from),
        "recorded_at": format_instant(subscription.recorded_at),
    }


def _terms(subscription: Any) -> str:
    return f"{subscription.contract}/{subscription.plan} in {subscription.time_zone}"


def _sentence(subscription: Any) -> str:
    return f"{subscription.org_id}: {_terms(subscription)} from {format_instant(subscription.effective_from)}"
