"""`tally entry`: one entry of the ledger, in plain words."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import JsonOption, OrgArgument
from tallystick.cli.output import print_json, print_text
from tallystick.core.errors import BadInput, NotFound

entry_app = typer.Typer(
    name="entry", help="Entries of the ledger, explained.", no_args_is_help=True, rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    """Add `tally entry …`."""
    app.add_typer(entry_app)


@entry_app.command("show")
def show_command(
    org: OrgArgument,
    entry: Annotated[str, typer.Argument(metavar="ENTRY", help="Its number, or an id such as h1042 or s1043.")],
    as_json: JsonOption = False,
) -> None:
    """Explain an entry: usage and its price, a decision and what was looked at, a charge, an exception."""
    from tallystick.app.explain_entry import show_entry
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        found = show_entry(runtime, org, _seq(entry))
    _check_letter(org, entry, found)
    if as_json:
        print_json(found)
    else:
        print_text("\n".join(_lines(org, found)))


def _seq(text: str) -> int:
    digits = text[1:] if text[:1].isalpha() else text
    if not (digits.isascii() and digits.isdigit() and 0 < len(digits) <= 18):
        raise BadInput(
            "invalid_id",
            f"{text!r:.60} is neither the number nor the id of an entry",
            next_step="write it as 1042 or h1042",
            where="ENTRY",
        )
    return int(digits)


def _check_letter(org: str, text: str, found: dict[str, Any]) -> None:
    """Refuse an id whose letter says that it is something else."""
    called = found.get("entry_id", str(found["seq"]))
    if text[:1].isalpha() and text[:1] != called[:1]:
        raise NotFound(
            "unknown_entry",
            f"{org} has no {text}: its entry {found['seq']} is {called}, a {found['kind']}",
            next_step=f"ask for {called}, or for what was meant",
            where="ENTRY",
        )


def _lines(org: str, found: dict[str, Any]) -> list[str]:
    name = found.get("entry_id", found["seq"])
    lines = [f"{org} {name}, a {found['kind']} of {found['recorded_at']} (request {found['request_id']})"]
    lines.append(f"  {found['what']}")
    if found["why"]:
        lines.append(f"  why: {found['why']}")
    if found["by"]:
        lines.append(f"  by: {found['by']}")
    if found["refers_to"]:
        lines.append(f"  about: {found['refers_to']}")
    lines += _decision_lines(found["decision"]) if "decision" in found else []
    if "terms" in found:
        lines.append(f"  charged under {_terms(found['terms'])}")
    wallet = found.get("wallet")
    if wallet:
        before, after = wallet["before"], wallet["after"]
        lines.append(
            f"  wallet: {before['available']} available and {before['held']} held before, "
            f"{after['available']} and {after['held']} after"
        )
    for part in ("held_from", "charged_from", "returned_to"):
        moved = ", ".join(f"{one['credits']} of {one['grant_id']}" for one in found.get(part, ()))
        if moved:
            lines.append(f"  {part.replace('_', ' ')}: {moved}")
    for line in found.get("lines", ()):
        rate = "no rate" if line["rate_usd"] is None else f"{line['rate_usd']} USD per {line['per']:,}"
        lines.append(f"  {line['quantity']:,} {line['meter']}: {rate} = {line['amount_usd'] or 'unknown'} USD")
    lines += [f"  then {one.get('entry_id', one['seq'])}: {one['what']}" for one in found["referred_to_by"]]
    lines.append(f"  rate card {found['rate_version']}; leaf {found['leaf']}")
    return lines


def _decision_lines(decision: dict[str, Any]) -> list[str]:
    lines = [f"  decided under {_terms(decision)}"]
    quote = decision["quote"]
    lines.append(f"  quote: {quote['credits']} credits, {quote['reserve_credits']} to reserve")
    for one in decision["limits"]:
        most = "no limit" if one["max"] is None else f"of {one['max']:,}"
        lines.append(
            f"  limit {one['name']}: {one['used']:,} used, {one['held']:,} held, {one['requested']:,} asked, {most}"
        )
    for one in decision["budgets"]:
        lines.append(
            f"  budget {one['name']}: {one['used_usd']} used, {one['held_usd']} held, {one['requested_usd']} asked, of "
            f"{one['max_usd']} USD"
        )
    if decision["overrides"]:
        lines.append(f"  allowed by exception: {', '.join(decision['overrides'])}")
    if decision["enforced"] is not None and not decision["enforced"]["allow"]:
        lines.append(f"  enforcement would have denied it: {decision['enforced']['code']}")
    if decision["next_step"]["kind"] != "none":
        lines.append(f"  next: {decision['next_step']['text']}")
    return lines


def _terms(terms: dict[str, Any]) -> str:
    name = f"{terms['contract']}@{terms['contract_version']}, plan {terms['plan'] or 'none'}"
    return f"{name} (sha256 {terms['contract_sha256']})"
