"""What the commands on accounts have in common: who acts, amounts in lines, tables."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from tallystick.cli.output import print_json, print_text

OrgArgument = Annotated[str, typer.Argument(metavar="ORG", help="The org's id.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AuthorOption = Annotated[str | None, typer.Option("--author", help="Who does it [default: your login name].")]
RequestIdOption = Annotated[
    str | None, typer.Option("--request-id", help="Your id of it: run again with the same, it changes nothing.")
]


def author_or_login(author: str | None) -> str:
    """The author that was named, else who is logged in."""
    return author or getpass.getuser()


def given(**members: Any) -> dict[str, Any]:
    """The members that were given: those that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def print_answer(answer: dict[str, Any], as_json: bool, *lines: str) -> None:
    """An answer as JSON, or in lines."""
    if as_json:
        print_json(answer)
    else:
        print_text("\n".join(lines))


def wallet_line(wallet: dict[str, Any]) -> str:
    """The wallet after something happened to it."""
    after = wallet["after"]
    return f"wallet: {after['available']} available, {after['held']} held"


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows in columns, the last of which is as wide as it needs."""
    listed = [list(row) for row in rows]
    if not listed:
        return ""
    widths = [max(len(row[place]) for row in listed) for place in range(len(listed[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in listed
    )
