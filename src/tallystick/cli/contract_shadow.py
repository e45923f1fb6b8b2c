"""`tally contract shadow-report`: who would have been stopped, before enforcement is turned on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import print_json, print_text, progress_bar, say
from tallystick.core.instants import parse_instant


def shadow_report_command(
    since: Annotated[str | None, typer.Option("--from", help="The first instant: RFC 3339, or a date in UTC.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="The first instant after it; now when left out.")] = None,
    org: Annotated[str | None, typer.Option("--org", help="Only this org's requests.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say who would have been stopped in shadow mode: how often, why, first and last, and what was let pass.

    What was stopped where denials are enforced stands beside it. Nothing is written.
    """
    from tallystick.app.runtime import open_runtime
    from tallystick.app.shadow_report import shadow_report

    start = None if since is None else parse_instant(since, where="--from")
    end = None if until is None else parse_instant(until, where="--to")
    with open_runtime(Settings()) as runtime, progress_bar("reading orgs", None) as advance:
        report = shadow_report(runtime, start, end, org, progress=advance)
    if as_json:
        print_json(report)
        return
    print_text("\n".join(_lines(report)))
    if not report["in_shadow_mode"]:
        say("nothing was decided in shadow mode in that time; docs/contract-testing.md says how to turn it on")


def _lines(report: dict[str, Any]) -> list[str]:
    would, did = report["would_stop"], report["stopped"]
    lines = [
        f"{report['from']} to {report['to']}: {report['requests']:,} requests decided, of {report['orgs']:,} orgs; "
        f"{report['in_shadow_mode']:,} in shadow mode",
        f"would have been stopped: {would['requests']:,} requests of {would['orgs']:,} orgs; {would['settled']:,} of "
        f"them were done, and cost us {would['cost_usd']} USD; {would['credits_charged']} credits were charged for "
        f"them, and {would['credits_not_charged']} more were due that the wallets did not have",
    ]
    lines += [f"  {one['code']}: {one['requests']:,} requests, {one['orgs']:,} orgs" for one in report["by_code"]]
    lines += _table(report["groups"])
    lines.append(f"stopped, where denials are enforced: {did['requests']:,} requests of {did['orgs']:,} orgs")
    return lines + _table(report["enforced"])


def _table(groups: list[dict[str, Any]]) -> list[str]:
    return [
        f"  {one['org_id']}  {one['plan'] or '-'}  {one['action'] or '-'}  {one['code']}: {one['requests']:,}, "
        f"{one['first']} to {one['last']}{_spent(one)}"
        for one in groups
    ]


def _spent(one: dict[str, Any]) -> str:
    return f"; cost us {one['cost_usd']} USD" if one.get("settled") else ""
