"""The documentation is part of the product: what it names exists, and what exists is named."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from tally_processes import run_program
from tallystick.app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", _read(page)):
        assert (page.parent / target).exists(), target


def test_the_page_of_commands_is_what_their_help_says() -> None:
    asked = ("tallystick.cli.main", "utils", "docs", "--name", "tally")
    done = run_program("from typer.cli import main; main()", *asked, env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0, done.stderr
    assert _read(ROOT / "docs" / "commands.md").strip() == done.stdout.strip(), "run: python3 tasks.py docs"


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_in_the_readme(name: str) -> None:
    assert f"TALLY_{name.upper()}" in _read(ROOT / "README.md")


def test_ci_runs_the_test_command_that_the_readme_gives() -> None:
    command = "python3 tasks.py test"
    assert command in _read(ROOT / "README.md")
    assert command in _read(ROOT / ".ci" / "run").splitlines()


def test_the_lock_is_hashed_and_names_no_package_index() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = _read(lock)
        assert "://" not in text
        pins = re.findall(r"^[a-z0-9][^\n]*==[^\n]*\\$", text, re.MULTILINE)
        assert len(pins) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)) > 10
        assert text.count("--hash=sha256:") >= len(pins)


def test_the_lock_pins_everything_that_the_package_needs() -> None:
    project = tomllib.loads(_read(ROOT / "pyproject.toml"))["project"]
    lock = _read(ROOT / "requirements" / "runtime.txt")
    for requirement in project["dependencies"]:
        name = re.match(r"[a-z0-9-]+", requirement)
        assert name is not None
        assert re.search(rf"^{name[0]}(\[[a-z,]+\])?==", lock, re.MULTILINE), requirement
