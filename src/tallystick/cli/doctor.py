"""`tally doctor`: is everything as it should be, why not, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import EXIT_NO, print_json, print_text, say

_MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def register(app: typer.Typer) -> None:
    """Add `tally doctor`."""
    app.command()(doctor)


def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings, too.")] = False,
    backup_days: Annotated[int, typer.Option(help="How old the last backup may be, in days.", min=1)] = 7,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only what is not well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at everything that this place depends on: machine, database, ledger.

    It changes nothing, and looks at what it can while the database is away. Exit code 1: a check failed.
    """
    from tallystick.app.doctor import examine

    found = examine(Settings(), backup_days_max=backup_days)
    if as_json:
        print_json(found.as_dict())
    else:
        for one in found.findings:
            if quiet and one.level == "ok":
                continue
            print_text(f"{_MARKS[one.level]}  {one.name:<15} {one.detail}")
            if one.next_step is not None:
                print_text(f"      {'':<15} next: {one.next_step}")
        if found.not_checked:
            print_text(f"not looked at: {', '.join(found.not_checked)}")
        say(f"{found.count('ok')} well, {found.count('warn')} to see to, {found.count('fail')} failed")
    if found.level == "fail" or (strict and found.level == "warn"):
        raise typer.Exit(EXIT_NO)
