"""The library's pages: their examples are Python, what they name exists, and what exists is named."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import tallystick_sdk
from tallystick_sdk import AsyncTally, Tally

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "sdk.md").read_text(encoding="utf-8")
README = (ROOT / "sdk" / "README.md").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "sdk" / "src").rglob("*.py"))


@pytest.mark.parametrize("text", [PAGE, README], ids=["page", "readme"])
def test_examples_are_python(text: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "example", "exec")


def test_every_public_name_is_on_the_page() -> None:
    missing = [name for name in tallystick_sdk.__all__ if name not in ("Recording", "Work") and name not in PAGE]
    assert missing == ["Stats"]  # what `stats()` gives is told where it is told of


def test_both_clients_have_the_same_methods_and_the_page_names_them() -> None:
    def public(kind: type) -> dict[str, list[str]]:
        members = {name: member for name, member in inspect.getmembers(kind, callable) if not name.startswith("_")}
        return {name: list(inspect.signature(member).parameters) for name, member in members.items()}

    assert public(Tally) == public(AsyncTally)
    told = {name for name in public(Tally) if name not in ("members", "record_in")}
    assert [name for name in sorted(told) if f"{name}(" not in PAGE] == []


def test_every_code_that_the_library_itself_gives_is_on_the_page() -> None:
    found = set()
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        found |= set(re.findall(r"(?:BadRequest|Unavailable|UnexpectedAnswer)\(\s*\"([a-z_]+)\"", text))
    assert len(found) > 8
    internal = {"missing_field", "not_an_event", "unexpected_answer", "invalid_cost"}
    assert [code for code in sorted(found - internal) if f"`{code}`" not in PAGE] == []


def test_the_version_is_the_packages() -> None:
    assert f'version = "{tallystick_sdk.__version__}"' in (ROOT / "sdk" / "pyproject.toml").read_text(encoding="utf-8")


def test_a_file_holds_one_idea() -> None:
    assert max(len(source.read_text(encoding="utf-8").splitlines()) for source in SOURCES) < 400
