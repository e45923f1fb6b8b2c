"""`tally proof`: write the proof of an invoice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import print_json, progress_bar, say

proof_app = typer.Typer(
    name="proof",
    help="Proofs that anyone can check offline: `tally verify --proof FILE`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@proof_app.callback()
def _group() -> None:
    # A callback keeps the group a group while it has one command.
    return


def register(app: typer.Typer) -> None:
    """Add `tally proof …`."""
    app.add_typer(proof_app)


@proof_app.command("invoice")
def invoice_command(
    invoice_id: Annotated[
        str, typer.Argument(metavar="ID", help="An invoice id, or ORG/MONTH such as globex/2026-10.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write, compressed if it ends in .gz; standard output if absent."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="A checkpoint that was kept: the proof can be compared with it.")
    ] = None,
    seal: Annotated[bool, typer.Option("--seal", help="Seal first what is not sealed yet.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --output: print what was written as JSON.")] = False,
) -> None:
    """Write all that is needed to check an invoice offline: its entries, its contract, and the signed log over them.

    The proof is checked before it is given out. It holds no personal data, but the org's requests and what they cost.
    """
    from tallystick.app.invoices import find_invoice
    from tallystick.app.proof_files import read_note, sound_proof, write_proof
    from tallystick.app.proofs import proof_entries, proof_pieces
    from tallystick.app.runtime import open_runtime
    from tallystick.app.seal import seal_once
    from tallystick.invoice.model import parse_invoice

    kept = None if checkpoint is None else read_note(checkpoint)
    with open_runtime(Settings()) as runtime:
        entries = proof_entries(parse_invoice(find_invoice(runtime, invoice_id).document))
        if seal:
            with progress_bar("sealing", None) as advance:
                seal_once(runtime, everything=True, progress=advance)
        with progress_bar("proving", 2 * entries) as advance:
            pieces = proof_pieces(runtime, invoice_id, kept=kept, progress=advance)
            if output is None:
                sys.stdout.write(sound_proof(pieces).decode())
                return
            report = write_proof(pieces, output, advance)
    if as_json:
        print_json({"file": str(output), "bytes": output.stat().st_size, **report.as_dict()})
    else:
        say(f"wrote {output}: {report.entries:,} entries, block {report.block}, checkpoint {report.log_size}")
        say(f"check it with: tally verify --proof {output}")
