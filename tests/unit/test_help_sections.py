"""`tally --help` lists every command once, under what somebody comes to do."""

from __future__ import annotations

from click.testing import CliRunner

from tallystick.cli.main import command
from tallystick.cli.sections import SECTIONS


def test_every_command_stands_in_one_section() -> None:
    listed = [name for _, names in SECTIONS for name in names]
    assert sorted(listed) == sorted(command().commands)


def test_help_has_the_sections_in_their_order() -> None:
    shown = CliRunner().invoke(command(), ["--help"]).output
    places = [shown.index(f"\n{title}:\n") for title, _ in SECTIONS]
    assert places == sorted(places)
    assert "\nCommands:\n" not in shown
    assert "  invoice-credits  " in shown
