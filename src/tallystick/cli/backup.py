"""`tally backup`, `tally restore`, `tally erasures`: all in one file, a place made of one, and who stays erased."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import EXIT_NO, new_progress, print_json, print_text, say
from tallystick.core.instants import format_instant

if TYPE_CHECKING:
    from tallystick.app.backup_file import Manifest

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add `tally backup`, `tally restore` and `tally erasures`."""
    app.command()(backup)
    app.command()(restore)
    app.command()(erasures)


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not be there.")],
    without_keys: Annotated[
        bool,
        typer.Option("--without-keys", help="Leave out the private keys: of checkpoints, and of webhooks' secrets."),
    ] = False,
    as_json: _Json = False,
) -> None:
    """Write everything that Tallystick needs to go on into one file, of one moment, while it goes on.

    Exit code 1: it was written, and something was not as it should be already, which is named.
    """
    from tallystick.app.backup import back_up
    from tallystick.app.backup_target import is_for_its_owner_alone

    with _shown() as progress:
        done = back_up(
            Settings(),
            file,
            with_keys=not without_keys,
            progress=lambda count, total: progress("backing up", count, total),
        )
    manifest = done.manifest
    if as_json:
        print_json(
            {
                "file": str(done.path),
                "bytes": done.bytes,
                "sha256": done.sha256,
                "seconds": round(done.seconds, 3),
                **_figures(manifest),
            }
        )
    else:
        print_text(
            f"{done.path}: {_held(manifest)}\n{done.bytes:,} bytes in {done.seconds:.1f} s, SHA-256 {done.sha256}"
        )
    if not is_for_its_owner_alone(done.path):
        say("warning: where it was written others may read it, and it holds secrets: encrypt it, or move it")
    if not manifest.has_key:
        say("the key that signs checkpoints is not in it: keep that elsewhere")
    for one in manifest.unsound:
        say(f"error: {one} [backup_unsound]")
    if manifest.unsound:
        say("next: run `tally verify`, and put back what is missing from an earlier backup")
        raise typer.Exit(EXIT_NO)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `tally backup` has written.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="The new data directory, missing or empty [default: TALLY_DATA_DIR].")
    ] = None,
    erasures: Annotated[
        Path | None, typer.Option(help="A list that `tally erasures` has written: erase these again.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Refuse a file with another SHA-256.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only read the file and say whether it is whole.")] = False,
    as_json: _Json = False,
) -> None:
    """Make an empty place, a data directory and with DATABASE_URL a database, what the backup was taken of.

    The whole file is checked first. Until all of it is there, the place says that it is not whole, and nothing serves
    from it. Then run `tally verify`.
    """
    from tallystick.app.restore import check_file
    from tallystick.app.restore import restore as run

    if check:
        with _shown() as progress:
            manifest, found = check_file(file, sha256=sha256, progress=progress)
        if as_json:
            print_json({"file": str(file), "sha256": found, **_figures(manifest)})
        else:
            print_text(f"{file} is whole: {_held(manifest)}\nSHA-256 {found}")
        return
    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    with _shown() as progress:
        done = run(file, settings, sha256=sha256, erasures=erasures, progress=progress)
    if as_json:
        again = None if done.erased is None else done.erased._asdict()
        print_json(
            {
                "file": str(file),
                "data_dir": str(settings.data_dir),
                "bytes": done.bytes,
                "sha256": done.sha256,
                "seconds": round(done.seconds, 3),
                "erased_again": again,
                "notes": list(done.notes),
                **_figures(done.manifest),
            }
        )
    else:
        print_text(
            f"{settings.data_dir}: {_held(done.manifest)}\n{done.bytes:,} bytes were read in {done.seconds:.1f} s"
        )
        if done.erased is not None:
            persons, rows, profiles = done.erased
            print_text(f"erased again: {persons:,} persons, {rows:,} rows, {profiles:,} billing profiles")
    for note in done.notes:
        say(f"note: {note}")
    say("next: tally verify")


def erasures(
    file: Annotated[Path | None, typer.Argument(help="Where to write the list [default: stdout].")] = None,
    since: Annotated[str | None, typer.Option(help="Only what was erased at this instant or later (RFC 3339).")] = None,
) -> None:
    """List what was erased of persons, and never of whom, so that a restore can erase it again."""
    from tallystick.app.backup_erasures import erasures_lines, write_erasures
    from tallystick.app.runtime import open_runtime
    from tallystick.core.instants import parse_instant

    begin = None if since is None else parse_instant(since, where="--since")
    with open_runtime(Settings()) as runtime:
        if file is None:
            for line in erasures_lines(runtime, begin):
                print_text(line)
        else:
            say(f"{write_erasures(runtime, file, begin):,} erasures are listed in {file}")


@contextmanager
def _shown() -> Iterator[Callable[[str, int, int], None]]:
    with new_progress(transient=True) as progress:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield show


def _held(manifest: Manifest) -> str:
    return (
        f"{manifest.entries:,} entries of {manifest.orgs:,} orgs and {manifest.blocks:,} blocks, as of "
        f"{format_instant(manifest.taken_at)}"
    )


def _figures(manifest: Manifest) -> dict[str, Any]:
    return {
        "taken_at": format_instant(manifest.taken_at),
        "tallystick": manifest.tallystick,
        "schema_revision": manifest.schema_revision,
        "log_origin": manifest.log_origin,
        "has_key": manifest.has_key,
        "orgs": manifest.orgs,
        "entries": manifest.entries,
        "blocks": manifest.blocks,
        "checkpoint_size": manifest.checkpoint_size,
        "register_rows": manifest.register_rows,
        "register_chain": manifest.register_chain,
        "erasures": manifest.erasures,
        "rows": {table.name: table.rows for table in manifest.tables},
        "unsound": manifest.unsound,
    }
