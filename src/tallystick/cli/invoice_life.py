"""What becomes of invoices: `tally invoice finalize`, `life`, `pay`, `credit-note`, `void`, and `tally export due`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import JsonOption, RequestIdOption, author_or_login, given, table
from tallystick.cli.invoice import Reference, invoice_app
from tallystick.cli.output import EXIT_NO, print_json, print_text, progress_bar, say
from tallystick.core.errors import BadInput, cannot_write

export_app = typer.Typer(name="export", help="Files for other programs.", no_args_is_help=True, rich_markup_mode=None)

_MONTH = re.compile(r"\d{4}-\d{2}")
_DUE = ("number", "org_id", "month", "due_at", "state", "total_usd", "due_usd")
_LISTED = (
    "month",
    "org_id",
    "number",
    "state",
    "total_usd",
    "applied_usd",
    "paid_usd",
    "credited_usd",
    "due_usd",
    "due_at",
)

ByOption = Annotated[str | None, typer.Option("--by", "--author", help="Who does it [default: your login name].")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why.")]
AmountOption = Annotated[str, typer.Option("--amount", help="In USD, such as 12.50.")]
OrgOption = Annotated[str | None, typer.Option("--org", help="Only this org.")]


def register(app: typer.Typer) -> None:
    """Add `tally export …`; the other commands are in the group `tally invoice`, which `cli.invoice` adds."""
    app.add_typer(export_app)


@invoice_app.command("finalize")
def finalize_command(
    what: Annotated[
        str | None, typer.Argument(metavar="[MONTH|ID]", help="A month, such as 2026-10, or one closed invoice.")
    ] = None,
    org: Annotated[list[str] | None, typer.Option("--org", help="Only this org; may be given again.")] = None,
    due: Annotated[bool, typer.Option("--due", help="Every month whose late window is over.")] = False,
    before_late_window: Annotated[
        bool, typer.Option("--before-late-window", help="Do not wait for late usage: it is for the next invoice.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Close months and issue their invoices: each has a number from then on, and is due.

    Doing it again changes nothing. With --json, one object a line. Exit code 1 when an org's month could not be.
    """
    if due == (what is not None):
        raise BadInput("missing_option", "what is to be finalized?", next_step="name a month or an invoice, or --due")
    from tallystick.app.close_month import orgs_to_close
    from tallystick.app.invoice_due import finalize_due, finalize_due_of
    from tallystick.app.invoice_life import finalize_month, issue_invoice
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        if what is not None and not _MONTH.fullmatch(what):
            _print_life(issue_invoice(runtime, what).as_dict(), as_json)
            return
        if what is None:
            results = finalize_due_of(runtime, org) if org else finalize_due(runtime)
        else:
            orgs = list(dict.fromkeys(org)) if org else orgs_to_close(runtime, what)
            with progress_bar(f"finalizing {what}", len(orgs)) as advance:
                results = finalize_month(runtime, what, orgs, before_late_window=before_late_window, progress=advance)
    if before_late_window:
        say("late usage was not waited for: what comes later is for the next invoice")
    for result in results:
        if as_json:
            print_json(result.as_dict())
        elif result.life is not None:
            members = result.life.as_dict()
            print_text(
                f"{result.org_id}\t{result.period}\t{members['number']}\t{members['total_usd']}\t{result.status}"
            )
        if result.error is not None:
            say(f"error: {result.error} [{result.error.code}]")
            say(f"next: {result.error.next_step}")
    if not results:
        say("nothing is to be invoiced")
    if any(result.error is not None for result in results):
        raise typer.Exit(EXIT_NO)


@invoice_app.command("life")
def life_command(
    invoice_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="An invoice's id or number, or ORG/MONTH; all without it.")
    ] = None,
    org: OrgOption = None,
    month: Annotated[str | None, typer.Option("--month", help="Only this month.")] = None,
    state: Annotated[
        str | None, typer.Option("--state", help="draft, final, open, partly_paid, paid, overdue or void.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how an invoice stands and what has happened to it; or list invoices by their states.

    Drafts, of months that are over and not final yet, are listed for one org, or with --state draft.
    """
    if invoice_id is not None:
        from tallystick.app.invoice_life import show_life
        from tallystick.app.runtime import open_runtime

        with open_runtime(Settings()) as runtime:
            shown = show_life(runtime, invoice_id).as_dict()
        _print_life(shown, as_json)
        return
    print_lives(org, month, state, as_json=as_json)


def print_lives(org: str | None, month: str | None, state: str | None, *, as_json: bool) -> None:
    """List invoices by how they stand."""
    from tallystick.app.invoice_life import list_life
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        found = [one.as_dict() for one in list_life(runtime, org_id=org, month=month, state=state)]
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        print_text(table([_LISTED, *([str(one[name] or "") for name in _LISTED] for one in found)]))
    else:
        say("there are no such invoices")


@invoice_app.command("pay")
def pay_command(
    invoice_id: Reference,
    amount: AmountOption,
    request_id: Annotated[
        str, typer.Option("--request-id", help="What the payment is known by, such as a bank's id: it counts once.")
    ],
    returned: Annotated[bool, typer.Option("--returned", help="The money went back to the customer.")] = False,
    currency: Annotated[str, typer.Option("--currency", help="USD, which invoices are in.")] = "USD",
    reference: Annotated[str | None, typer.Option("--reference", help="What it is known by elsewhere.")] = None,
    author: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record by hand that money came in for an invoice, in part or in full, or went back."""
    from tallystick.app.invoice_actions import record_payment
    from tallystick.app.runtime import open_runtime

    said = given(request_id=request_id, amount_usd=amount, currency=currency, reference=reference)
    said |= {"author": author_or_login(author), "returned": returned}
    with open_runtime(Settings()) as runtime:
        _print_done(record_payment(runtime, invoice_id, said), as_json)


@invoice_app.command("credit-note")
def credit_note_command(
    invoice_id: Reference,
    amount: AmountOption,
    reason: ReasonOption,
    request_id: Annotated[
        str, typer.Option("--request-id", help="Your id of it: run again with the same, it changes nothing.")
    ],
    line: Annotated[int | None, typer.Option("--line", help="The line that it is about.")] = None,
    account: Annotated[
        str, typer.Option("--account", help="At whose expense: revenue, or promo_, sla_ or dispute_expense.")
    ] = "revenue",
    author: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a part of an issued invoice back, by a note with a number of its own."""
    from tallystick.app.invoice_actions import credit_invoice
    from tallystick.app.runtime import open_runtime

    said = given(request_id=request_id, amount_usd=amount, reason=reason, line=line, account=account)
    with open_runtime(Settings()) as runtime:
        _print_done(credit_invoice(runtime, invoice_id, {**said, "author": author_or_login(author)}), as_json)


@invoice_app.command("void")
def void_command(
    invoice_id: Reference,
    reason: ReasonOption,
    author: ByOption = None,
    request_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take all that is left of an issued invoice back, before anything was paid for it."""
    from tallystick.app.invoice_actions import void_invoice
    from tallystick.app.runtime import open_runtime

    said = given(request_id=request_id, reason=reason, author=author_or_login(author))
    with open_runtime(Settings()) as runtime:
        _print_done(void_invoice(runtime, invoice_id, said), as_json)


@export_app.command("due")
def due_command(
    org: OrgOption = None,
    export_format: Annotated[str, typer.Option("--format", help="csv or json.")] = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; standard output if absent.")
    ] = None,
    tests: Annotated[bool, typer.Option("--test", help="Those of test orgs, too.")] = False,
) -> None:
    """Write what is still to be paid, what is due first coming first: for the program that collects it."""
    import msgspec

    from tallystick.app.invoice_actions import due_csv, due_invoices
    from tallystick.app.runtime import open_runtime

    if export_format not in ("csv", "json"):
        raise BadInput(
            "unknown_format", f"{export_format!r} is no format of it", next_step="say csv or json", where="--format"
        )
    with open_runtime(Settings()) as runtime:
        due = due_invoices(runtime, org, tests=tests)
    text = "".join(due_csv(due)) if export_format == "csv" else msgspec.json.encode({"due": due}).decode() + "\n"
    if output is None:
        print_text(text)
        return
    try:
        output.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise cannot_write(output, error) from None
    say(f"wrote {output}")


def _print_done(done: Any, as_json: bool) -> None:
    from tallystick.app.operation_words import sentence

    members = done.as_dict()
    if as_json:
        print_json(members)
        return
    again = "" if members["is_new"] else " (it was before)"
    invoice = members["invoice"]
    print_text(f"{sentence(done.recorded.request, done.recorded.result)}{again}")
    print_text(f"{invoice['number']} is {invoice['state']}: {invoice['due_usd']} USD of {invoice['total_usd']} due")


def _print_life(members: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(members)
        return
    print_text(
        f"{members['number'] or members['invoice_id']}: {members['org_id']}, {members['month']}, {members['state']}"
    )
    rows = [("total", members["total_usd"])]
    rows += [
        (f"{one['source']} {one['entry_id']}", f"-{one['amount_usd']}  {one['label'] or ''}".rstrip())
        for one in members.get("applied", [])
    ]
    rows += [(name.removesuffix("_usd"), members[name]) for name in ("paid_usd", "credited_usd", "due_usd")]
    rows += [(name.replace("_", " "), members[name]) for name in ("closed_at", "issued_at", "due_at")]
    for name in ("seller", "bill_to"):
        party = members.get(name)
        party = party.get("profile") if name == "bill_to" and party else party
        if party:
            rows.append((name.replace("_", " "), ", ".join([party["name"], *party.get("address", [])])))
    print_text(table([[name, str(value)] for name, value in rows if value is not None]))
    for one in members.get("history", []):
        number = f" {one['number']}" if one["number"] else ""
        print_text(f"  {one['at']}  entry {one['seq']}  {one['kind']}{number}  {one['amount_usd']} USD")
