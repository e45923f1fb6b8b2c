"""`tally incidents` and `tally sla`: what was down or slow, and what a month is credited for it."""

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

incidents_app = typer.Typer(
    name="incidents",
    help="Downtime, slow service and announced maintenance, recorded and never changed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
sla_app = typer.Typer(
    name="sla", help="What breaches of promised service are credited.", no_args_is_help=True, rich_markup_mode=None
)
_PAGE = 1000
ReasonOption = Annotated[str, typer.Option("--reason", help="What happened; customers read it.")]


def register(app: typer.Typer) -> None:
    """Add `tally incidents …` and `tally sla …`."""
    app.add_typer(incidents_app)
    app.add_typer(sla_app)


@incidents_app.command("record")
def record_command(
    begin: Annotated[str, typer.Option("--from", metavar="TIME", help="The first instant, RFC 3339.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="The first instant at which it was over.")],
    reason: ReasonOption,
    kind: Annotated[str, typer.Option(help="downtime, latency or maintenance.")] = "downtime",
    org: Annotated[list[str] | None, typer.Option("--org", help="Whom it concerned; may be given again.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="It concerned everyone.")] = False,
    feature: Annotated[str | None, typer.Option(help="What it concerned [default: everything].")] = None,
    replaces: Annotated[
        str | None, typer.Option(metavar="INCIDENT", help="The record that this one stands in the place of.")
    ] = None,
    author: AuthorOption = None,
    request_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record an incident. Overlapping ones are united, not added."""
    from tallystick.app.incidents import record_incident
    from tallystick.app.runtime import open_runtime

    members = given(
        request_id=request_id or f"cli-{uuid.uuid4()}",
        kind=kind,
        orgs=org or None,
        all=everyone or None,
        feature=feature,
        reason=reason,
        author=author_or_login(author),
        replaces=replaces,
    ) | {"from": begin, "to": end}
    with open_runtime(Settings()) as runtime:
        answer = record_incident(runtime, members)
    print_answer(answer, as_json, _line(answer))


@incidents_app.command("withdraw")
def withdraw_command(
    incident: Annotated[str, typer.Argument(metavar="INCIDENT", help="Such as inc3.")],
    reason: ReasonOption,
    author: AuthorOption = None,
    request_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a record back. What was credited because of it stays with the customer."""
    from tallystick.app.incidents import withdraw_incident
    from tallystick.app.runtime import open_runtime

    members = given(
        request_id=request_id or f"cli-{uuid.uuid4()}", reason=reason, author=author_or_login(author)
    )  # fmt: skip
    with open_runtime(Settings()) as runtime:
        answer = withdraw_incident(runtime, incident, members)
    print_answer(answer, as_json, f"{answer['incident_id']}: {answer['replaces']} does not hold any more")


@incidents_app.command("list")
def list_command(
    org: Annotated[str | None, typer.Option("--org", help="Only what concerned this org.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind.")] = None,
    begin: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Only what was not over by then.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Only what began before that.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List records in the order in which they were made; with --json one object a line."""
    from tallystick.app.incidents import list_incidents
    from tallystick.app.runtime import open_runtime

    cursor: str | None = None
    found = 0
    with open_runtime(Settings()) as runtime:
        while True:
            page = list_incidents(runtime, org_id=org, kind=kind, start=begin, end=end, cursor=cursor, limit=_PAGE)
            cursor, found = page["next_cursor"], found + len(page["incidents"])
            for one in page["incidents"]:
                if as_json:
                    print_json(one)
                else:
                    print_text(_line(one))
            if cursor is None:
                break
    if not found and not as_json:
        say("no incident is recorded")


@sla_app.command("show")
def show_command(
    org: OrgArgument,
    month: Annotated[str, typer.Argument(metavar="MONTH", help="Such as 2026-10.")],
    as_json: JsonOption = False,
) -> None:
    """Show what a month is credited, and why, line by line. Nothing is given by looking."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.sla import show_sla

    with open_runtime(Settings()) as runtime:
        answer = show_sla(runtime, org, month)
    print_answer(answer, as_json, *_month_lines(answer))


def _line(one: dict[str, Any]) -> str:
    orgs, feature = one["orgs"], one["feature"]
    whom = "everyone" if orgs is None else ", ".join(orgs)
    of = "" if feature is None else f", {feature} only"
    back = f"  (taken back by {one['taken_back_by']})" if one.get("taken_back_by") else ""
    place = f", replaces {one['replaces']}" if one["replaces"] else ""
    return (
        f"{one['incident_id']}  {one['kind']}  {one['from']} to {one['to']}  {whom}{of}: {one['reason']}{place}{back}"
    )


def _month_lines(answer: dict[str, Any]) -> list[str]:
    lines = []
    for plan in answer["plans"]:
        lines.append(f"{plan['plan']} ({plan['contract']} {plan['contract_version']})")
        lines.append(table((f"  {one['term']}", one["says"]) for one in plan["rule"]))
        lines += [f"  {line}" for line in plan["why"]]
    for one in answer["incidents"]:
        lines.append(f"{one['incident_id']}  {one['kind']}  {one['from']} to {one['to']}: {one['reason']}")
    if not answer["plans"]:
        lines.append("nothing is promised by the month's plans")
    total = f"{answer['month']} of {answer['org_id']}: {answer['credit_usd']} USD in all"
    return [*lines, f"{total}, {answer['given_usd']} given, {answer['to_give_usd']} to give"]
