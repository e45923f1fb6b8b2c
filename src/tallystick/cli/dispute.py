"""`tally dispute`: charges that customers dispute; opened, looked at, decided, and their evidence."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import JsonOption, author_or_login, given, table
from tallystick.cli.output import EXIT_NO, print_json, print_text, say
from tallystick.core.errors import cannot_write

dispute_app = typer.Typer(
    name="dispute", help="Charges that customers dispute.", no_args_is_help=True, rich_markup_mode=None
)
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The dispute's id, such as q17.")]
OrgOption = Annotated[
    str | None, typer.Option("--org", help="Whose it is; needed where several orgs have a dispute of that id.")
]
ByOption = Annotated[str | None, typer.Option("--by", "--author", help="Who does it [default: your login name].")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why.")]
_LISTED = ("dispute_id", "org_id", "state", "what", "invoice_id", "disputed_usd", "disputed_credits", "answer_due_at")


def register(app: typer.Typer) -> None:
    """Add `tally dispute …`."""
    app.add_typer(dispute_app)


@dispute_app.command("open")
def open_command(
    reason: ReasonOption,
    invoice_id: Annotated[
        str | None, typer.Argument(metavar="[INVOICE]", help="An invoice's id or number, or ORG/MONTH.")
    ] = None,
    line: Annotated[int | None, typer.Option("--line", help="Only this line of it.")] = None,
    request: Annotated[
        list[str] | None, typer.Option("--request", help="Instead: a request of the org; may be given again.")
    ] = None,
    org: Annotated[str | None, typer.Option("--org", help="Whose it is; needed for requests.")] = None,
    amount: Annotated[str | None, typer.Option("--amount", help="Only so much of it, in USD.")] = None,
    request_id: Annotated[
        str | None, typer.Option("--request-id", help="Your id of it: run again with the same, it changes nothing.")
    ] = None,
    author: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Dispute an invoice, a line of it, or requests; the ledger is replayed at once, which gives the evidence."""
    from tallystick.app.disputes import open_dispute
    from tallystick.app.runtime import open_runtime

    said = given(
        invoice_id=invoice_id, line=line, request_ids=request or None, org_id=org, amount_usd=amount, reason=reason
    )
    said |= {"request_id": request_id or f"dispute-{uuid.uuid4()}", "author": author_or_login(author)}
    with open_runtime(Settings()) as runtime:
        done = open_dispute(runtime, said)
    _print_done(done.as_dict(), as_json)


@dispute_app.command("list")
def list_command(
    org: Annotated[str | None, typer.Option("--org", help="Only this org's.")] = None,
    state: Annotated[
        str | None, typer.Option("--state", help="open, under_review, upheld, rejected or withdrawn.")
    ] = None,
    overdue: Annotated[
        bool, typer.Option("--overdue", help="Only those that should have been answered by now.")
    ] = False,
    invoice: Annotated[str | None, typer.Option("--invoice", help="Only those on the invoice of this id.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List disputes, those first that were opened last. With --json, one object a line."""
    from tallystick.app.disputes_shown import list_disputes
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        found = [
            one.as_dict()
            for one in list_disputes(runtime, org_id=org, state=state, overdue=overdue, invoice_id=invoice)
        ]
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        rows = [[_cell(one, name) for name in _LISTED] for one in found]
        print_text(table([_LISTED, *rows]))
    else:
        say("there are no such disputes")


@dispute_app.command("show")
def show_command(
    dispute_id: IdArgument,
    org: OrgOption = None,
    evidence: Annotated[bool, typer.Option("--evidence", help="The evidence: JSON, or its plain words.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how a dispute stands and what has happened to it; or its evidence."""
    from tallystick.app.dispute_evidence import evidence_words, stored_evidence
    from tallystick.app.disputes_shown import org_of_dispute, show_dispute
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        owner = org_of_dispute(runtime, dispute_id, org)
        shown = show_dispute(runtime, owner, dispute_id)
        text = stored_evidence(runtime, owner, shown.account) if evidence else None
    if text is not None:
        print_text(text if as_json else evidence_words(text))
    elif as_json:
        print_json(shown.as_dict())
    else:
        _print_dispute(shown.as_dict())


@dispute_app.command("review")
def review_command(
    dispute_id: IdArgument,
    org: OrgOption = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why, or who looks at it.")] = None,
    author: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin to look at a dispute."""
    from tallystick.app.disputes import begin_review

    _step(begin_review, dispute_id, org, given(reason=reason, author=author_or_login(author)), as_json)


@dispute_app.command("uphold")
def uphold_command(
    dispute_id: IdArgument,
    reason: ReasonOption,
    org: OrgOption = None,
    amount: Annotated[str | None, typer.Option("--amount", help="So much of the money is given back, in USD.")] = None,
    credits: Annotated[str | None, typer.Option("--credits", help="So many of the credits are given back.")] = None,
    author: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """The customer is right: a credit note, a credit for the next invoice, or refunded credits follow at once.

    Without --amount and --credits, what the evidence proposes is given back, or else all that is disputed.
    """
    from tallystick.app.disputes import uphold_dispute

    said = given(reason=reason, author=author_or_login(author), amount_usd=amount, credits=credits)
    _step(uphold_dispute, dispute_id, org, said, as_json)


@dispute_app.command("reject")
def reject_command(
    dispute_id: IdArgument,
    reason: ReasonOption,
    org: OrgOption = None,
    author: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """What was charged stands, for the reason that is given."""
    from tallystick.app.disputes import reject_dispute

    _step(reject_dispute, dispute_id, org, given(reason=reason, author=author_or_login(author)), as_json)


@dispute_app.command("withdraw")
def withdraw_command(
    dispute_id: IdArgument,
    reason: ReasonOption,
    org: OrgOption = None,
    author: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """The customer no longer disputes it."""
    from tallystick.app.disputes import withdraw_dispute

    _step(withdraw_dispute, dispute_id, org, given(reason=reason, author=author_or_login(author)), as_json)


@dispute_app.command("bundle")
def bundle_command(
    dispute_id: IdArgument,
    org: OrgOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The ZIP to write [default: dispute-ORG-ID.zip].")
    ] = None,
    seal: Annotated[bool, typer.Option("--seal", help="Seal first what is not sealed yet.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a dispute's evidence bundle: one ZIP that the customer can check offline."""
    from tallystick.app.dispute_bundle import bundle_name, make_bundle
    from tallystick.app.disputes_shown import org_of_dispute
    from tallystick.app.runtime import open_runtime
    from tallystick.app.seal import seal_once
    from tallystick.cli.output import progress_bar

    with open_runtime(Settings()) as runtime:
        owner = org_of_dispute(runtime, dispute_id, org)
        if seal:
            with progress_bar("sealing", None) as advance:
                seal_once(runtime, everything=True, progress=advance)
        data = make_bundle(runtime, owner, dispute_id)
    path = output or Path(bundle_name(owner, dispute_id))
    try:
        path.write_bytes(data)
    except OSError as error:
        raise cannot_write(path, error) from None
    if as_json:
        print_json({"file": str(path), "bytes": len(data)})
    else:
        say(f"wrote {path}: check it with tally dispute check {path}")


@dispute_app.command("check")
def check_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The bundle.")],
    key: Annotated[
        list[str] | None, typer.Option("--key", help="A public key that you trust; may be given again.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="A checkpoint that you kept.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check an evidence bundle with nothing but the file: no database, no network, no data directory.

    Exit code 1 when anything in it does not hold.
    """
    from tallystick.app.dispute_bundle import check_bundle_file

    report = check_bundle_file(file, keys=key or (), checkpoint=checkpoint)
    if as_json:
        print_json(report.as_dict())
    else:
        print_text(f"dispute {report.dispute_id} of {report.org_id}: {'valid' if report.valid else 'NOT VALID'}")
        print_text(f"evidence SHA-256 {report.evidence_sha256}")
        for problem in report.problems:
            print_text(f"  {problem}")
        if report.valid and not report.proved:
            say("nothing in it is sealed in a signed log yet: have the bundle made again later")
        elif report.valid and report.trusted_by is None:
            say(f"signed with {report.key}, which only the bundle itself vouches for: give --key or --checkpoint")
    if not report.valid:
        raise typer.Exit(EXIT_NO)


def _step(act: Any, dispute_id: str, org: str | None, said: dict[str, Any], as_json: bool) -> None:
    from tallystick.app.disputes_shown import org_of_dispute
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        done = act(runtime, dispute_id, said, org_id=org_of_dispute(runtime, dispute_id, org))
    _print_done(done.as_dict(), as_json)


def _print_done(members: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(members)
        return
    _print_dispute(members)
    if not members["is_new"]:
        say("it was so before: nothing was changed")
    if members["evidence_pending"]:
        say(f"no evidence is attached yet: {members['evidence_pending']}")


def _print_dispute(one: dict[str, Any]) -> None:
    print_text(f"{one['dispute_id']} of {one['org_id']}: {one['state']}{', overdue' if one['overdue'] else ''}")
    named = one["invoice_number"] or one["invoice_id"]
    about = {"invoice": f"invoice {named}", "line": f"line {one['line']} of invoice {named}"}.get(one["what"])
    about = about or f"{one['requests']} requests" + (f" on invoice {named}" if named else ", on no invoice yet")
    rows = [
        ("about", about),
        ("disputed", f"{one['disputed_usd']} USD, {one['disputed_credits']} credits"),
        ("reason", one["reason"]),
        ("answer due", one["answer_due_at"]),
        ("evidence", one["evidence_sha256"]),
        ("differences", one["differences"]),
        ("proposed", None if one["proposed_usd"] is None else f"{one['proposed_usd']} USD"),
        ("explanation", one["explanation"]),
    ]
    if one["state"] == "upheld":
        rows.append(("given back", f"{one['upheld_usd']} USD, {one['upheld_credits']} credits"))
        rows.append(("credit note", one["credit_note_number"]))
    print_text(table([[name, str(value)] for name, value in rows if value is not None]))
    for step in one["history"]:
        print_text(f"  {step['at']}  entry {step['seq']}  {step['step']}  {step['author']}: {step['reason']}")


def _cell(one: dict[str, Any], name: str) -> str:
    value = one[name]
    if name == "state" and one["overdue"]:
        return f"{value}, overdue"
    return "" if value is None else str(value)
