"""`tally replay`: every sealed cost of a time computed again, and compared with what is recorded."""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import EXIT_NO, new_progress, print_json, print_text, say
from tallystick.core.instants import format_instant, parse_instant


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replay)


def replay(
    since: Annotated[str, typer.Option("--from", help="The first instant: RFC 3339, or a date in UTC.")],
    until: Annotated[str, typer.Option("--to", help="The first instant after it.")],
    org: Annotated[str | None, typer.Option("--org", help="Only this org's entries.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compute every cost in the sealed blocks of a time again, and compare it with what is recorded, to the last bit.

    Each entry is priced under its own rate version. Entries that no block holds yet are not looked at.

    Exit code 1: something differs, or a block is not the one that was sealed; each is named.
    """
    from tallystick.app.replay_history import history_blocks, replay_history
    from tallystick.app.runtime import open_runtime

    start, end = parse_instant(since, where="--from"), parse_instant(until, where="--to")
    with open_runtime(Settings()) as runtime:
        blocks = history_blocks(runtime, start, end, org)
        with new_progress(transient=True) as progress:
            hashing = progress.add_task("hashing blocks", total=len(blocks))
            replaying = progress.add_task("replaying", total=sum(block.entries for block in blocks))
            report = replay_history(
                runtime,
                start,
                end,
                org,
                blocks=blocks,
                hashed=lambda count: progress.advance(hashing, count),
                progress=lambda count: progress.advance(replaying, count),
            )
    if as_json:
        print_json(report.as_dict())
    else:
        for one in report.refused:
            print_text(f"{one.path}: refused: {one.reason}")
        for found in report.differences:
            recorded = "nothing" if found.recorded is None else found.recorded
            recomputed = "nothing" if found.recomputed is None else found.recomputed
            print_text(
                f"{found.org_id}, entry {found.seq}, request {found.request_id}: {found.field}: "
                f"recorded {recorded}, recomputed {recomputed}"
            )
        unshown = report.difference_count - len(report.differences)
        if unshown:
            print_text(f"… and {unshown:,} more differences")
        verdict = "identical" if report.identical else f"{report.difference_count:,} differences"
        if report.refused:
            verdict += f", {len(report.refused):,} blocks refused"
        unpriced = f" ({report.operations:,} of them operations, which have no price)" if report.operations else ""
        print_text(
            f"{report.entries:,} entries{unpriced} of {report.blocks:,} blocks, from {format_instant(start)} to "
            f"{format_instant(end)}: {verdict}"
        )
    if not report.blocks and not report.refused:
        say("no block has entries of that time; `tally seal --all` seals what waits")
    if not report.identical:
        say("next: run `tally verify`, which says whether entries were changed after they were written")
        raise typer.Exit(EXIT_NO)
