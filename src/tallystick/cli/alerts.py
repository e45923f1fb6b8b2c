"""`tally alerts`: what is to be looked at, what nobody is to be told of, and who wants to be told what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import AuthorOption, JsonOption, author_or_login, given, table
from tallystick.cli.output import EXIT_NO, print_json, print_text, say
from tallystick.core.errors import BadInput

AlertArgument = Annotated[str, typer.Argument(metavar="ALERT", help="The alert's id.")]
OrgOption = Annotated[str | None, typer.Option("--org", help="Only this org's; of test orgs nothing is told without.")]
OperatorOption = Annotated[bool, typer.Option("--operator", help="Only the operator's own.")]
RuleOption = Annotated[str | None, typer.Option("--rule", help="Only of this rule, such as spend_spike.")]
UntilOption = Annotated[str | None, typer.Option("--until", help="When it ends, such as 2026-12-01T08:00:00Z.")]
ForOption = Annotated[str | None, typer.Option("--for", help="How long it lasts, such as 4h or 7d.")]

alerts_app = typer.Typer(name="alerts", help="What is to be looked at.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add `tally alerts …`."""
    app.add_typer(alerts_app)


@alerts_app.command("list")
def list_command(
    every: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    org: OrgOption = None,
    operator: OperatorOption = False,
    rule: RuleOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most alerts.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List what fires, what changed last first.

    Exit code 1: something critical fires, and nothing silences it.
    """
    from tallystick.app.alert_list import AlertQuestion, find_alerts
    from tallystick.app.runtime import open_runtime

    _one_of(org, operator)
    with open_runtime(Settings()) as runtime:
        page = find_alerts(runtime, AlertQuestion(org, operator, rule, every), limit=limit)
    if as_json:
        print_json({"alerts": page.alerts, "next_cursor": page.next_cursor})
    elif not page.alerts:
        say("nothing fires" if not every else "there is no alert")
    else:
        print_text(table(_cells(one) for one in page.alerts))
        if page.next_cursor is not None:
            say(f"there are more than {limit:,}: see --limit")
    firing = (one for one in page.alerts if one["state"] == "firing" and one["silenced_by"] is None)
    if any(one["severity"] == "critical" for one in firing):
        raise typer.Exit(EXIT_NO)


@alerts_app.command("show")
def show_command(alert: AlertArgument, as_json: JsonOption = False) -> None:
    """Show an alert: its figures, what to do, and all that happened to it."""
    from tallystick.app.alert_list import show_alert
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        shown = show_alert(runtime, alert)
    if as_json:
        print_json(shown)
        return
    silenced = "" if shown["silenced_by"] is None else f", silenced by {shown['silenced_by']}"
    lines = [
        f"{shown['alert_id']}: {shown['title']} ({shown['rule']}), {_whose(shown)}",
        f"{shown['state']} since {shown['fired_at']}, {shown['severity']}{silenced}",
        shown["summary"],
        *(f"  {name}: {_figure(value)}" for name, value in shown["figures"].items()),
        f"next: {shown['next_step']}",
        table(
            (one["at"], one["change"], one["severity"], "told" if one["told"] else f"not told ({one['held_back']})")
            for one in shown["history"]
        ),
    ]
    print_text("\n".join(lines))


@alerts_app.command("silence")
def silence_command(
    reason: Annotated[str, typer.Option(help="Why.")],
    alert: Annotated[
        str | None, typer.Argument(metavar="[ALERT]", help="The alert's id; or name --org, --rule.")
    ] = None,
    org: Annotated[str | None, typer.Option("--org", help="All of this org's alerts, or those of --rule.")] = None,
    operator: Annotated[bool, typer.Option("--operator", help="The operator's own, or those of --rule.")] = False,
    rule: RuleOption = None,
    subject: Annotated[str | None, typer.Option(help="Only on this subject of the rule.")] = None,
    until: UntilOption = None,
    length: ForOption = None,
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell nobody of an alert for a while, or of an org's, or of a rule's. What happens is listed all the same."""
    from tallystick.app.alert_silences import silence_alert, silence_rule
    from tallystick.app.runtime import open_runtime

    _one_of(alert, org, operator, mandatory="name an alert, or --org or --operator")
    if alert is not None and (rule or subject):
        raise BadInput("invalid_option", "an alert is of one rule", next_step="leave --rule out", where="--rule")
    raw: dict[str, Any] = {
        **given(until=until, reason=reason, author=author_or_login(author)),
        **({} if length is None else {"for": length}),
    }
    with open_runtime(Settings()) as runtime:
        if alert is not None:
            made = silence_alert(runtime, alert, raw)
        else:
            made = silence_rule(runtime, raw | given(org_id=org, rule=rule, subject=subject))
    _print_silence(made, as_json)


@alerts_app.command("unsilence")
def unsilence_command(
    silence: Annotated[str, typer.Argument(metavar="SILENCE", help="The silence's id.")],
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a silence now."""
    from tallystick.app.alert_silences import end_silence
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        _print_silence(end_silence(runtime, silence, author_or_login(author)), as_json)


@alerts_app.command("silences")
def silences_command(org: OrgOption = None, operator: OperatorOption = False, as_json: JsonOption = False) -> None:
    """List silences that are not over."""
    from tallystick.app.alert_silences import list_silences
    from tallystick.app.runtime import open_runtime

    _one_of(org, operator)
    with open_runtime(Settings()) as runtime:
        found = list_silences(runtime, org, own=operator)
    if as_json:
        print_json({"silences": found})
    elif not found:
        say("nothing is silenced")
    else:
        print_text(
            table(
                (one["silence_id"], _whose(one), _what(one), f"until {one['ends_at']}", one["author"], one["reason"])
                for one in found
            )
        )


@alerts_app.command("preferences")
def preferences_command(
    org: Annotated[str | None, typer.Argument(metavar="[ORG]", help="The org's id; or --operator.")] = None,
    operator: Annotated[bool, typer.Option("--operator", help="Of the operator's own alerts.")] = False,
    set_to: Annotated[
        str | None, typer.Option("--set", help="JSON of what is wanted, or @FILE; what is left out is as by default.")
    ] = None,
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what an org wants to be told of, or set it."""
    from tallystick.app.alert_preferences import set_preferences, show_preferences
    from tallystick.app.runtime import open_runtime

    _one_of(org, operator, mandatory="name an org, or --operator")
    raw = None if set_to is None else _json_of(set_to)
    with open_runtime(Settings()) as runtime:
        if set_to is None:
            shown = show_preferences(runtime, org)
        else:
            shown = set_preferences(runtime, org, raw, author_or_login(author))
    if as_json:
        print_json(shown)
        return
    by = "nobody has set anything" if shown["author"] is None else f"set by {shown['author']} at {shown['set_at']}"
    rows = [(name, _figure(value)) for name, value in shown["preferences"].items()]
    print_text("\n".join([f"{_whose(shown)}: {by}", table(rows)]))


@alerts_app.command("evaluate")
def evaluate_command(
    org: Annotated[str | None, typer.Option("--org", help="Only this org's.")] = None, as_json: JsonOption = False
) -> None:
    """Look now, as the job does every five minutes, and tell of what has changed."""
    from tallystick.app.alerts import evaluate, told_members
    from tallystick.app.operate import existing_org
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        if org is not None:
            existing_org(runtime, org)
        done = evaluate(runtime, org)
    changes = [told_members(one) | {"told": one.transition.held_back is None} for one in done.changes]
    if as_json:
        print_json({"changes": changes})
    else:
        for one in changes:
            print_text(f"{one['change']}  {one['alert_id']}  {_whose(one)}  {one['severity']}  {one['summary']}")
        say(f"{done.fired:,} began to fire, {done.resolved:,} were resolved")
    if done.error is not None:
        raise done.error


def _one_of(*named: object, mandatory: str | None = None) -> None:
    count = sum(bool(one) for one in named)
    if count > 1 or (mandatory is not None and not count):
        what = "these exclude each other" if count else "it does not say which"
        raise BadInput("invalid_option", what, next_step=mandatory or "name one of --org and --operator")


def _json_of(text: str) -> object:
    from tallystick.core.json_text import read_json, without_bom

    if not text.startswith("@"):
        return read_json(text.encode(), where="--set")
    try:
        content = Path(text[1:]).read_bytes()
    except OSError as error:
        what = f"{text[1:]} cannot be read: {(error.strerror or str(error)).lower()}"
        raise BadInput("unreadable_file", what, next_step="name a file of JSON", where="--set") from None
    return read_json(without_bom(content), where="--set")


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    silenced = "" if one["silenced_by"] is None else " (silenced)"
    return (
        one["alert_id"],
        one["state"] + silenced,
        one["severity"],
        f"since {one['fired_at']}",
        _whose(one),
        one["rule"],
        one["summary"],
    )


def _whose(one: dict[str, Any]) -> str:
    return "operator" if one["org_id"] is None else str(one["org_id"])


def _what(one: dict[str, Any]) -> str:
    if one["rule"] is None:
        return "everything"
    return one["rule"] if one["subject"] is None else f"{one['rule']}: {one['subject']}"


def _figure(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_figure(one) for one in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_figure(one)}" for name, one in value.items())
    return "-" if value is None else str(value)


def _print_silence(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        print_text(f"{made['silence_id']}: {_whose(made)}, {_what(made)}: nobody is told until {made['ends_at']}")
