"""`tally checkpoint`: show signed checkpoints, their keys, and make a new key."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import print_json, print_text, say
from tallystick.core.instants import format_instant

if TYPE_CHECKING:
    from tallystick.app.runtime import Runtime

checkpoint_app = typer.Typer(
    name="checkpoint",
    help="Signed checkpoints of all that is sealed, and the keys that sign them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add `tally checkpoint …`."""
    app.add_typer(checkpoint_app)


@checkpoint_app.command("show")
def show_command(
    size: Annotated[
        int | None, typer.Argument(metavar="[SIZE]", help="The one over so many blocks; the newest by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print a checkpoint's signed note, exactly, and the public keys of this ledger on stderr.

    Keep a copy where this machine cannot change it: `tally verify --checkpoint FILE` proves later that
    nothing sealed until then was altered since.
    """
    from tallystick.app.signing import find_checkpoint, known_keys

    with _open_runtime() as runtime:
        found = find_checkpoint(runtime, size)
        keys = [str(key) for key in known_keys(runtime)]
    if as_json:
        signed_at = format_instant(found.signed_at)
        print_json({"size": found.size, "signed_at": signed_at, "note": found.note, "keys": keys})
        return
    print_text(found.note)
    say(f"signed at {format_instant(found.signed_at)}")
    for key in keys:
        say(f"public key: {key}")


@checkpoint_app.command("rotate-key")
def rotate_key_command(as_json: JsonOption = False) -> None:
    """Make a new signing key, used from now on; the old private key is destroyed.

    Hand the new public key to everyone who checks proofs. Old checkpoints stay valid under the old one.
    """
    from tallystick.app.signing import rotate_signing_key

    with _open_runtime() as runtime:
        key = str(rotate_signing_key(runtime).public)
    if as_json:
        print_json({"key": key})
    else:
        print_text(key)
    say("the new public key; checkpoints are signed with it from now on")


def _open_runtime() -> AbstractContextManager[Runtime]:
    from tallystick.app.runtime import open_runtime

    return open_runtime(Settings())
