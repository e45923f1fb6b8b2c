"""`tally versions`: what is running, and what decides and prices."""

from __future__ import annotations

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import JsonOption, print_answer


def register(app: typer.Typer) -> None:
    """Add `tally versions`."""
    app.command("versions")(versions_command)


def versions_command(as_json: JsonOption = False) -> None:
    """Show the versions of the program, the schema, the rate cards and the contracts, with hashes and dates."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.versions import show_versions

    with open_runtime(Settings()) as runtime:
        found = show_versions(runtime)
    lines = [f"tallystick {found['tallystick']}"]
    lines.append(f"schema {found['schema_revision']}, sha256 {found['schema_sha256']}")
    newest = found["rate_cards"][-1]
    lines.append(f"rate card {newest['version']}, known since {newest['known_at']}, sha256 {newest['sha256']}")
    lines.append(f"{len(found['rate_cards']) - 1:,} earlier rate cards (tally rates list)")
    for name, when in (("contracts", "in force since"), ("upcoming", "in force from")):
        lines += [
            f"contract {one['contract']}@{one['version']}, {when} {one['effective_from']}, sha256 {one['sha256']}"
            for one in found[name]
        ]
    print_answer(found, as_json, *lines)
