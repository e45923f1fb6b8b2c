"""`tally audit`: who did what, when, and why."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import JsonOption, table
from tallystick.cli.output import print_json, print_text, say
from tallystick.core.errors import BadInput
from tallystick.core.instants import parse_instant

audit_app = typer.Typer(
    name="audit",
    help="Who did what: keys, contracts, plans, credits, invoices, erasures, …; nothing of it can be changed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

FromOption = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Recorded then or later.")]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Recorded before that.")]
OrgOption = Annotated[str | None, typer.Option("--org", help="Only this org's.")]
ActOption = Annotated[str | None, typer.Option("--act", help="Only these, such as key.create; key has all of keys.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Only this one's: a key's id, a login name, an author.")]
SubjectOption = Annotated[str | None, typer.Option("--subject", help="Only on this: a key's id, an entry's, …")]


def register(app: typer.Typer) -> None:
    """Add `tally audit …`."""
    app.add_typer(audit_app)


@audit_app.command("list")
def list_command(
    begin: FromOption = None,
    until: ToOption = None,
    org: OrgOption = None,
    act: ActOption = None,
    by: ByOption = None,
    subject: SubjectOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Only so many, the newest.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List acts, the newest of them, in their order; with --json one object a line. `export` has all of them."""
    from tallystick.app.audit import newest_acts
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        found = newest_acts(runtime, _wanted(begin, until, org, act, by, subject), limit)
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        print_text(table(_row(one) for one in found))
    else:
        say("nobody did anything of that kind")


@audit_app.command("show")
def show_command(
    act_id: Annotated[str, typer.Argument(metavar="ACT_ID", help="As the list has it.")], as_json: JsonOption = False
) -> None:
    """Show one act: who, what, before and after, and why."""
    from tallystick.app.audit import show_act
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        one = show_act(runtime, act_id)
    if as_json:
        print_json(one)
        return
    print_text(f"{one['act']}  {one['subject']}" + (f"  of {one['org_id']}" if one["org_id"] else ""))
    said = [("at", one["at"]), ("by", _who(one)), ("author", one["author"]), ("reason", one["reason"])]
    said += [("request", one["request_id"]), ("entry", one["entry_seq"])]
    for name, value in said:
        if value is not None:
            print_text(f"  {name + ':':<9}{value}")
    for name in ("before", "after"):
        for member, value in (one[name] or {}).items():
            print_text(f"  {name + ':':<9}{member} = {value}")


@audit_app.command("export")
def export_command(
    begin: FromOption = None,
    until: ToOption = None,
    org: OrgOption = None,
    act: ActOption = None,
    by: ByOption = None,
    subject: SubjectOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table, the first line of which names its columns.")] = False,
) -> None:
    """Print every act, the oldest first, as JSON lines or CSV."""
    from tallystick.app.audit import acts_csv, iterate_acts
    from tallystick.app.runtime import open_runtime

    if as_json == as_csv:
        raise BadInput(
            "invalid_option", "it is not said in which form", next_step="give one of --json and --csv", where="--csv"
        )
    with open_runtime(Settings()) as runtime:
        acts = iterate_acts(runtime, _wanted(begin, until, org, act, by, subject))
        if as_json:
            for one in acts:
                print_json(one)
        else:
            for line in acts_csv(acts):
                sys.stdout.write(line)


def _wanted(
    begin: str | None, until: str | None, org: str | None, act: str | None, by: str | None, subject: str | None
) -> Any:
    from tallystick.app.audit import Wanted

    return Wanted(
        begin=None if begin is None else parse_instant(begin, where="--from"),
        until=None if until is None else parse_instant(until, where="--to"),
        org_id=org,
        act=act,
        actor=by,
        subject=subject,
    )


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    return (one["act_id"], one["at"], one["org_id"] or "-", one["act"], one["subject"], _who(one), one["reason"] or "")


def _who(one: dict[str, Any]) -> str:
    known = {"os_user": "{}", "key": "{}", "anyone": "anyone", "job": "job {}"}[one["actor_kind"]].format(one["actor"])
    return f"{known} ({one['via']})"
