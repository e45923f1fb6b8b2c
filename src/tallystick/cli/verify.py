"""`tally verify`: check the whole ledger, or a proof alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import EXIT_NO, new_progress, print_json, print_text, progress_bar, say
from tallystick.core.errors import BadInput

FINDINGS_SHOWN = 50


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def verify(
    org: Annotated[str | None, typer.Option("--org", help="Only this org's entries, and the log.")] = None,
    proof: Annotated[
        Path | None, typer.Option("--proof", help="Check this proof of an invoice instead; offline, with no database.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", help="A checkpoint that was kept elsewhere: the log must continue it."),
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", help="A public key that is trusted (NAME+ID+BASE64); may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check everything: sequences, rows, hashes, trees, files, signatures, transfers, balances, versions, invoices.

    Exit code 1 when anything is not as it was written; the first bad org, entry and file are named.
    """
    if proof is None:
        _verify_ledger(org, checkpoint, key or [], as_json)
        return
    if org is not None:
        raise BadInput("invalid_option", "--org says nothing of a proof", next_step="leave it out", where="--org")
    _verify_proof(proof, checkpoint, key or [], as_json)


def _verify_ledger(org: str | None, checkpoint: Path | None, keys: list[str], as_json: bool) -> None:
    from tallystick.app.proof_files import parse_keys, read_note
    from tallystick.app.runtime import utc_now
    from tallystick.app.verify import open_ledger, verify_ledger
    from tallystick.app.verify_job import note_verification

    trusted = parse_keys(keys)
    kept = None if checkpoint is None else read_note(checkpoint)
    started_at = utc_now()
    with open_ledger(Settings()) as ledger, new_progress(transient=True) as display:
        task = display.add_task("verifying", total=None)
        report = verify_ledger(
            ledger,
            org_id=org,
            kept=kept,
            keys=trusted,
            progress=lambda done, total: display.update(task, completed=done, total=total),
        )
        try:
            note_verification(ledger, report, org_id=org, started_at=started_at, now=utc_now())
        except Exception as error:  # whatever was done to the database, what was found of it is told
            say(f"what was found is not kept for alerts: {' '.join(str(error).split())}")
    if as_json:
        print_json(report.as_dict())
    elif report.sound:
        print_text(
            f"sound: {report.entries:,} entries of {report.orgs:,} orgs, {report.blocks:,} blocks, "
            f"{report.checkpoints:,} checkpoints, {report.invoices:,} invoices"
            + (f", {report.operations:,} operations on accounts" if report.operations else "")
        )
        if report.kept_checkpoint is not None:
            print_text(f"the log continues the checkpoint of size {report.kept_checkpoint} that was kept")
        elif report.checkpoint is not None:
            say("keep a checkpoint elsewhere (tally checkpoint show), and compare with it: --checkpoint FILE")
    else:
        _print_findings(report)
    if not report.sound:
        raise typer.Exit(EXIT_NO)


def _print_findings(report: Any) -> None:
    bad = report.first_bad()
    named = [f"org {bad['org_id']}" if bad["org_id"] else "", f"entry {bad['seq']}" if bad["seq"] else ""]
    named += [f"file {bad['file']}" if bad["file"] else ""]
    where = ", ".join(one for one in named if one)
    print_text(f"NOT sound: {report.findings.count:,} findings" + (f"; first bad: {where}" if where else ""))
    for one in report.findings.kept[:FINDINGS_SHOWN]:
        print_text(f"  [{one.check}] {one.sentence()}")
    if report.findings.count > FINDINGS_SHOWN:
        print_text(f"  … and {report.findings.count - FINDINGS_SHOWN:,} more; --json lists up to 200")
    say("next: restore what was changed from a backup, or find out who changed it; nothing was repaired here")


def _verify_proof(proof: Path, checkpoint: Path | None, keys: list[str], as_json: bool) -> None:
    from tallystick.app.proof_files import check_file

    with progress_bar("checking", None) as advance:
        report = check_file(proof, checkpoint=checkpoint, keys=keys, progress=advance)
    if as_json:
        print_json(report.as_dict())
    elif report.valid:
        print_text(
            f"valid: invoice {report.invoice_id}, {report.org_id}, {report.period}, {report.total_usd} USD\n"
            f"its {report.events:,} requests are all that the ledger had of the period "
            f"up to entry {report.through_seq:,}, and the amounts follow from them"
        )
        if len(report.plans) == 1:
            agreed = f"contract {report.contract} ({report.contract_sha256[:12]}), plan {report.plan}"
        else:
            agreed = f"plans {', then '.join(report.plans)}"
        print_text(f"under {agreed}, on the clocks of {report.time_zone}: compare these with what was agreed")
        if report.block is not None:
            print_text(
                f"sealed in block {report.block} at {report.sealed_at}, in the log {report.log_origin} "
                f"of {report.log_size} blocks"
            )
    else:
        print_text(f"NOT valid: invoice {report.invoice_id}, {report.org_id}, {report.period}")
        for problem in report.problems:
            print_text(f"  {problem}")
    if report.valid and report.key is None:
        say("the org had no entry when it was made: nothing in this proof is signed, and anyone could have written it")
    elif report.valid and report.trusted_by is None:
        say(f"its checkpoint is signed with the key that came with it: {report.key}")
        say("compare that key with one you had from elsewhere (--key), or give a checkpoint you kept (--checkpoint)")
    if not report.valid:
        raise typer.Exit(EXIT_NO)
