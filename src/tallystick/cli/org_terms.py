"""`tally orgs limits` and `tally orgs actions`: what an org may still use, and what its plan offers."""

from __future__ import annotations

from typing import Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import JsonOption, OrgArgument, table
from tallystick.cli.orgs import orgs_app
from tallystick.cli.output import print_json, print_text


def register(app: typer.Typer) -> None:
    """Nothing: the commands are in the group `tally orgs`, which `cli.orgs` adds."""


@orgs_app.command("limits")
def limits_command(org: OrgArgument, as_json: JsonOption = False) -> None:
    """Show how far an org's limits and budgets are used, as the next decision will see them."""
    from tallystick.app.limits import show_limits
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        found = show_limits(runtime, org)
    if as_json:
        print_json(found)
        return
    lines = [f"{org}: plan {found['plan']} of {found['contract']}@{found['contract_version']}, {found['enforcement']}"]
    if found["suspended"] is not None:
        lines.append(f"suspended: {found['suspended']}")
    rows = [_limit(one) for one in found["limits"]] + [_budget(one) for one in found["budgets"]]
    lines += table(rows).splitlines() or ["no limit and no budget"]
    lines += [
        f"exception {one['override_id']} until {one['expires_at']}: {one['reason']}" for one in found["overrides"]
    ]
    print_text("\n".join(lines))


@orgs_app.command("actions")
def actions_command(org: OrgArgument, as_json: JsonOption = False) -> None:
    """Show the price list of an org's plan, as its customer sees it."""
    from tallystick.app.actions import list_actions
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        found = list_actions(runtime, org)
    if as_json:
        print_json(found)
        return
    rows = [
        (f"  {one['action']}", one["price"] if one["in_plan"] else _missing(one), one["shows"] or "")
        for one in found["actions"]
    ]
    print_text(f"{org}: {found['plan_title']} ({found['plan']}) of {found['contract']}@{found['contract_version']}")
    print_text(table(rows) if rows else "  no actions")


def _missing(one: dict[str, Any]) -> str:
    return "not in this plan" + (f", but in {one['upgrade_to']}" if one["upgrade_to"] else "")


def _limit(one: dict[str, Any]) -> tuple[str, ...]:
    most = "no limit" if one["max"] is None else f"of {one['max']:,}"
    by = f", by exception {one['override_id']}" if one["override_id"] else ""
    used = f"{one['used']:,} + {one['held']:,} held {most}{by}"
    return f"  {one['limit']} {one['name']}", used, one["kind"], f"anew at {one['resets_at']}"


def _budget(one: dict[str, Any]) -> tuple[str, ...]:
    whose = one["scope"] + (f" {one['subject']}" if one["subject"] else "")
    used = f"{one['used_usd']} + {one['held_usd']} held of {one['max_usd']} USD of {one['of']} a {one['per']}"
    return f"  budget {one['name']} ({whose})", used, one["kind"], f"anew at {one['resets_at']}"
