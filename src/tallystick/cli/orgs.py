"""`tally orgs`: which contract and plan each customer is on."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import print_json, print_text
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant, parse_instant

orgs_app = typer.Typer(
    name="orgs", help="Which contract and plan each org is on.", no_args_is_help=True, rich_markup_mode=None
)

WhenOption = Annotated[
    str | None, typer.Option("--when", help="now, or period-end: the end of the org's present month.")
]
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
        str | None, typer.Option("--from", help="From when, such as 2026-10-01 or 2026-10-01T00:00:00Z.")
    ] = None,
    when: WhenOption = None,
    test_clock: Annotated[
        str | None,
        typer.Option("--test-clock", help="Make it a test org, with a clock of its own that begins at this instant."),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Only show what it would cost this month; nothing is recorded.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put an org on a plan. Earlier subscriptions stay in the record.

    Without --from and --when an upgrade, a plan whose base fee is as high or higher, holds at once, and a downgrade
    from the end of the org's present month on. Such a change takes the place of those recorded for later.
    """
    effective_from = None if begins is None else parse_instant(begins, where="--from")
    clock = None if test_clock is None else parse_instant(test_clock, where="--test-clock")
    from tallystick.app.orgs import preview_change, set_subscription
    from tallystick.app.runtime import open_runtime

    change: dict[str, Any] = {"contract": contract, "plan": plan, "time_zone": time_zone}
    change |= {"effective_from": effective_from, "when": _when(when)}
    with open_runtime(Settings()) as runtime:
        if clock is not None:
            from tallystick.app.test_clock import make_test_org

            make_test_org(runtime, org, clock, author=getpass.getuser())
        if preview:
            _print_preview(preview_change(runtime, org, **change).as_dict(), as_json=as_json)
            return
        subscription = set_subscription(runtime, org, **change)
    if as_json:
        print_json(_members(subscription))
    else:
        print_text(_sentence(subscription))


@orgs_app.command("leave")
def leave_command(
    org: Annotated[str, typer.Argument(help="The org's id.")],
    at: Annotated[str | None, typer.Option("--at", help="When, such as 2026-10-31 or 2026-10-31T12:00:00Z.")] = None,
    when: WhenOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an org's subscription, without --at and --when at the end of its present month.

    It pays to the last day that it began; what was recorded for later goes with it.
    """
    instant = None if at is None else parse_instant(at, where="--at")
    from tallystick.app.orgs import leave_org
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        recorded = leave_org(runtime, org, at=instant, when=_when(when))
    if as_json:
        print_json({"org_id": org, "subscription": None if recorded is None else _members(recorded)})
    else:
        print_text(f"{org}: is on no plan then" if recorded is None else _sentence(recorded))


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


def _when(text: str | None) -> Any:
    if text is None or text in ("now", "period-end"):
        return text and text.replace("-", "_")
    raise BadInput(
        "invalid_start",
        f"{text!r} is not when a change of plan can begin",
        next_step="say now or period-end, or an instant with --from",
        where="--when",
    )


def _print_preview(previewed: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(previewed)
        return
    plans = f"from {previewed['from_plan'] or 'no plan'} to {previewed['to_plan']}"
    print_text(f"{previewed['org_id']}: {plans} at {previewed['effective_from']} ({previewed['change']})")
    for name in ("before", "after"):
        found = previewed[name]
        print_text(f"{previewed['month']} {name}: {'no plan' if found is None else found['total_usd'] + ' USD'}")
        for line in [] if found is None else found["lines"]:
            print_text(f"  {line['amount_usd']:>12}  {line['plan']}: {line['description']}")
    print_text(f"difference in {previewed['month']}: {previewed['difference_usd']} USD, from what is recorded so far")
    print_text(f"base fee of each month after it: {previewed['next_base_usd']} USD")


def _terms(subscription: Any) -> str:
    if subscription.plan is None:
        return f"no plan in {subscription.time_zone}"
    return f"{subscription.contract}/{subscription.plan} in {subscription.time_zone}"


def _sentence(subscription: Any) -> str:
    return f"{subscription.org_id}: {_terms(subscription)} from {format_instant(subscription.effective_from)}"
