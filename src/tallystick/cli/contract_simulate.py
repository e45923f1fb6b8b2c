"""`tally contract simulate`: recorded history under a draft contract."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.contract_words import find_contract
from tallystick.cli.output import print_json, print_text, progress_bar
from tallystick.core.instants import parse_instant


def simulate_command(
    new: Annotated[
        str, typer.Argument(metavar="NEW", help="The draft's file, which need not be applied, or NAME[@VERSION].")
    ],
    since: Annotated[str, typer.Option("--from", help="The first instant: RFC 3339, or a date in UTC.")],
    until: Annotated[str, typer.Option("--to", help="The first instant after it.")],
    org: Annotated[str | None, typer.Option("--org", help="Only this org.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay recorded history under a draft contract: revenue before and after, and who would hit which limit.

    It is the customers on the contract of the draft's name. Nothing is written.
    """
    from tallystick.app.contract_simulate import simulate_contract
    from tallystick.app.runtime import open_runtime

    draft = find_contract(new)
    start, end = parse_instant(since, where="--from"), parse_instant(until, where="--to")
    with open_runtime(Settings()) as runtime, progress_bar("replaying entries", None) as advance:
        report = simulate_contract(runtime, draft, start, end, org, progress=advance)
    if as_json:
        print_json(report)
    else:
        print_text("\n".join(_lines(report)))


def _lines(report: dict[str, Any]) -> list[str]:
    revenue, credits, denied = report["revenue"], report["credits"], report["denied"]
    months = report["months"]
    span = months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"
    lines = [
        f"{report['contract']}@{report['version']} instead of what was in force, {report['from']} to {report['to']}: "
        f"{report['orgs']:,} orgs, {report['entries']:,} entries",
        f"invoices of {span}: {_change(revenue)}",
        f"credits charged: {credits['charged_before']} before, {credits['charged_after']} after "
        f"({_signed(credits['change'])})",
        f"requests: {report['requests']:,}; denied: {denied['before']:,} before, {denied['after']:,} after; "
        f"{denied['allowed_now']:,} of those denied before would be allowed",
    ]
    changed = [one for one in report["customers"] if _is_changed(one)]
    for one in changed:
        lines += _customer(one)
    unchanged = len(report["customers"]) - len(changed)
    return [*lines, f"{unchanged:,} other orgs: nothing changes"] if unchanged else lines


def _is_changed(one: dict[str, Any]) -> bool:
    """Whether there is anything to say of a customer: another amount, a limit, or a month that has no invoice."""
    revenue, credits = one["revenue"], one["credits"]
    same = revenue["before_usd"] == revenue["after_usd"] and not revenue["months_not_compared"]
    return not same or credits["change"] != "0" or bool(one["hits"] or one["allowed_now"])


def _customer(one: dict[str, Any]) -> list[str]:
    credits = one["credits"]
    spent = (
        ""
        if credits["charged_before"] == credits["charged_after"] == "0"
        else (f"; credits {credits['charged_before']} before, {credits['charged_after']} after")
    )
    lines = [f"{one['org_id']} ({one['plan'] or 'no plan'}): {_change(one['revenue'])}{spent}"]
    for month in one["months"]:
        for when, code in month["errors"].items():
            lines.append(f"  {month['month']}: no invoice {when}: {code}")
    if one["allowed_now"]:
        lines.append(f"  is allowed {one['allowed_now']:,} of the {one['denied_before']:,} requests denied before")
    for hit in one["hits"]:
        why = "passes the soft limit" if hit["kind"] == "soft" else f"is denied, {hit['code']}"
        what = f" {hit['limit']}" if hit["limit"] else ""
        counts = [f"{hit[name]:,} {word}" for name, word in _COUNTED if hit[name]]
        lines.append(f"  {why}{what}: {' and '.join(counts)}, first {hit['first']}, last {hit['last']}")
    return lines


_COUNTED = (("requests", "requests"), ("events", "events recorded without asking"))


def _change(revenue: dict[str, Any]) -> str:
    missing = revenue["months_not_compared"]
    more = f"; {missing:,} months not compared" if missing else ""
    before, after = revenue["before_usd"], revenue["after_usd"]
    return f"{before} USD before, {after} USD after ({_signed(revenue['change_usd'])}){more}"


def _signed(amount: str) -> str:
    return amount if amount.startswith("-") or not amount.strip("0.") else f"+{amount}"
