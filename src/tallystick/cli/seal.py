"""`tally seal` and `tally blocks`: entries go into signed blocks, and which blocks there are."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import EXIT_NO, print_json, print_text, progress_bar, say
from tallystick.core.instants import format_instant

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(seal)
    app.command()(blocks)


def seal(
    everything: Annotated[
        bool, typer.Option("--all", help="Seal whatever there is, however little and however new.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Seal entries into blocks: verified, hashed, signed. Without --all, only when enough wait, or wait for long.

    Exit code 1: an entry is not the one that was written; it was not sealed, and is named.
    """
    from tallystick.app.runtime import open_runtime
    from tallystick.app.seal import seal_once, unsealed_entries

    with open_runtime(Settings()) as runtime, progress_bar("sealing", unsealed_entries(runtime)) as advance:
        report = seal_once(runtime, everything=everything, progress=advance)
    if as_json:
        print_json(
            {
                "blocks": [_members(block) for block in report.blocks],
                "entries": report.entries,
                "left": report.left,
                "tampered": [{"org_id": one.org_id, "seq": one.seq} for one in report.tampered],
                "busy": report.busy,
            }
        )
    else:
        for block in report.blocks:
            print_text(_sentence(block))
        if report.busy:
            say("another process is sealing; nothing was done here")
        elif not report.entries:
            say(f"nothing was sealed; {report.left:,} entries wait: `tally seal --all` seals them now")
    for one in report.tampered:
        say(f"error: entry {one.seq} of {one.org_id} is not the one that was written [entry_tampered]")
    if report.tampered:
        say("next: run `tally verify`, which names everything that was changed; what came before it is sealed")
        raise typer.Exit(EXIT_NO)


def blocks(as_json: JsonOption = False) -> None:
    """List the sealed blocks, from the first to the last."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.seal import all_blocks

    with open_runtime(Settings()) as runtime:
        found = all_blocks(runtime)
    if as_json:
        print_json({"blocks": [_members(block) for block in found]})
        return
    for block in found:
        print_text(_sentence(block))


def _members(block: Any) -> dict[str, object]:
    return {
        "block": block.block,
        "path": block.path,
        "entries": block.entries,
        "bytes": block.file_bytes,
        "time_min": format_instant(block.time_min),
        "time_max": format_instant(block.time_max),
        "file_sha256": block.file_sha256.hex(),
        "merkle_root": block.merkle_root.hex(),
        "orgs_root": block.orgs_root.hex(),
        "sealed_at": format_instant(block.sealed_at),
    }


def _sentence(block: Any) -> str:
    return (
        f"{block.block}\t{block.path}\t{block.entries:,} entries\t{block.file_bytes:,} bytes"
        f"\tsealed {format_instant(block.sealed_at)}"
    )
