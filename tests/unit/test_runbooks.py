"""Runbooks are read when there is no time: each command in them is one that there is, and takes what it is given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tallystick.cli.main import command as whole_tree

ROOT = Path(__file__).resolve().parents[2]
BOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
PAGES = [*BOOKS, ROOT / "docs" / "audit.md", ROOT / "docs" / "deploy.md"]
WANTED = {
    "billing-incident", "disputed-invoice", "double-charge-suspected", "missing-rollup", "provider-price-change",
    "restore-from-backup",
}  # fmt: skip


def lines(text: str) -> list[str]:
    """The commands of its console blocks, as a person types them."""
    blocks = re.findall(r"^ *```console\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    found = [line.strip()[2:] for block in blocks for line in block.splitlines() if line.strip()[:2] in ("$ ", "# ")]
    return [re.sub(r"^(?:runuser .*? -- env )?(?:[A-Z_]+=\S+ )*(?:\S*/)?(?=tally )", "", line) for line in found]


def inline(text: str) -> list[str]:
    """Commands within sentences; what they leave out is said around them."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [" ".join(one.split()) for one in re.findall(r"`(tally [^`]+)`", prose)]


def words_of(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    return words[1 : next((place for place, word in enumerate(words) if word in (">", "|", "&&")), len(words))]


def resolved(words: list[str]) -> tuple[Any, list[str]]:
    """The command, and what it is given."""
    command = whole_tree()
    for place, word in enumerate(words):
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
        else:
            assert not getattr(command, "commands", None) or getattr(command, "invoke_without_command", False), words
            return command, words[place:]
    return command, []


CONSOLE = [(page.name, line) for page in PAGES for line in lines(page.read_text("utf-8")) if line.startswith("tally ")]
PROSE = [(page.name, line) for page in PAGES for line in inline(page.read_text("utf-8"))]


def test_every_emergency_has_its_runbook() -> None:
    assert {path.stem for path in BOOKS} == WANTED
    assert len(CONSOLE) > 40
    assert len(PROSE) > 40


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_runbook_says_when_whom_to_tell_and_when_it_is_over(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.search(r"^\*\*When\.\*\*", text, re.MULTILINE)
    assert re.search(r"^\*\*Tell", text, re.MULTILINE)
    assert text.count("\n## It is over when\n") == 1
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize(("page", "line"), CONSOLE)
def test_a_command_that_is_typed_is_taken_as_it_stands(page: str, line: str) -> None:
    command, given = resolved(words_of(line))
    assert getattr(command, "commands", None) is None or command.invoke_without_command
    context = command.make_context("tally", list(given), resilient_parsing=False)
    assert context.params is not None


@pytest.mark.parametrize(("page", "line"), PROSE)
def test_a_command_that_is_spoken_of_is_there_with_its_options(page: str, line: str) -> None:
    command, given = resolved(words_of(line.replace("…", "X")))
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    for word in given:
        if word.startswith("-"):
            assert word in known, (page, line)


def test_the_alerts_that_a_runbook_is_for_are_in_the_rules() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    for path in BOOKS:
        for name in re.findall(r"`(Tallystick\w+)`", path.read_text(encoding="utf-8")):
            assert f"alert: {name}\n" in rules, (path.stem, name)
