"""`tally usage`: what an org used and what it cost, from the month down to the one request."""

from __future__ import annotations

import sys
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import table
from tallystick.cli.output import print_json, print_text, say
from tallystick.cli.rollup import read_day
from tallystick.core.errors import BadInput

if TYPE_CHECKING:
    from tallystick.app.rollup_usage import UsageAnswer

_DAYS = 30


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(usage)


def usage(
    org: Annotated[str, typer.Argument(metavar="ORG", help="The customer.")],
    by: Annotated[
        str,
        typer.Option(
            help="What to tell apart, with commas: model, feature, environment, provider, action, payer, meter."
        ),
    ] = "model",
    first: Annotated[str | None, typer.Option("--from", help="First UTC day [default: 30 days up to today].")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last UTC day, included [default: today].")] = None,
    period: Annotated[str, typer.Option(help="A row for each day or month, or for all of it.")] = "all",
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only what has this, such as model=gpt-4o; repeatable.")
    ] = None,
    requests: Annotated[bool, typer.Option("--requests", help="List the requests of one day: --from alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show what an org used and what it cost; with --requests the requests of a day, one by one."""
    from tallystick.app.rollup_usage import UsageQuestion, show_usage, usage_csv, usage_dict
    from tallystick.app.runtime import open_runtime

    begin, end = read_day(first, "--from"), read_day(last, "--to")
    filters = _filters(only or [])
    with open_runtime(Settings()) as runtime:
        today = runtime.clock().date()
        if requests:
            _list_requests(runtime, org, begin or end or today, filters)
            return
        end = end or (today if begin is None or begin <= today else begin)
        begin = begin or end - min(timedelta(days=_DAYS - 1), end - date.min)
        names = tuple(name.strip() for name in by.split(",") if name.strip())
        answer = show_usage(runtime, UsageQuestion(org, begin, end, period, names, filters))
    if as_json:
        print_json(usage_dict(answer))
    elif as_csv:
        sys.stdout.writelines(usage_csv(answer))
    else:
        _print(answer, begin, end)


def _list_requests(runtime: object, org: str, day: date, filters: dict[str, str]) -> None:
    from tallystick.app.rollup_usage import PAGE_REQUESTS_MAX, list_day_requests
    from tallystick.app.runtime import Runtime

    assert isinstance(runtime, Runtime)  # noqa: S101 - its module takes long to load, and is loaded where it is needed
    cursor: str | None = None
    while True:
        page = list_day_requests(runtime, org, day, filters=filters, cursor=cursor, limit=PAGE_REQUESTS_MAX)
        for one in page["requests"]:
            print_json(one)
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _filters(given: list[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise BadInput(
                "invalid_usage_question",
                f"{one!r} says not what to look for",
                next_step="write NAME=VALUE, such as model=gpt-4o",
                where="--only",
            )
        found[name] = value
    return found


def _print(answer: UsageAnswer, first: date, last: date) -> None:
    from tallystick.app.rollup_usage import usage_dict

    said = usage_dict(answer)
    period = [said["period"]] if said["period"] != "all" else []
    names = [name for name in said["by"] if name != "meter"]
    if "meter" in said["by"]:
        columns = [*period, *names, "meter", "requests", "quantity", "cost_usd"]
        rows = said["meters"]
    else:
        columns = [*period, *names, "requests", "failures", "unpriced", "cost_usd"]
        rows = said["rows"]
    if rows:
        cells = [[_cell(row[name]) for name in columns] for row in rows]
        print_text(table([tuple(columns), *(tuple(row) for row in cells)]))
    else:
        say(f"{said['org_id']} used nothing from {first} to {last}")
    for one in said["reopened"]:
        say(
            f"{one['day']} changed after it was over: {one['entries']:,} entries of {one['recorded_on']} "
            f"({one['first_seq']} to {one['last_seq']}) added {one['requests']:,} requests, {one['cost_usd']} USD"
        )
    if not answer.complete:
        say(f"entries after {answer.rolled_through_seq:,} are not added up yet: run `tally rollup run`")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
