"""`tally --help` lists every command once, under what somebody comes to do."""

from __future__ import annotations

from click.testing import CliRunner

from tallystick.cli.main import command, command_for
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


def test_a_command_that_is_called_is_made_alone_and_is_the_same_as_among_all() -> None:
    for name, whole in command().commands.items():
        alone = command_for([name, "--help"]).commands
        assert list(alone) == [name]
        shown = [CliRunner().invoke(one, ["--help"], prog_name=name).output for one in (alone[name], whole)]
        assert shown[0] == shown[1]


def test_help_and_names_of_nothing_are_answered_with_all_commands() -> None:
    for arguments in ([], ["--help"], ["invoic"], ["--", "cost"], [""]):
        assert command_for(arguments) is command()
