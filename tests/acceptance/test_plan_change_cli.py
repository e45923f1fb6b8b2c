"""`tally orgs set` and `tally orgs leave`, run as a person runs them: when a change holds, and what it costs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from invoicing import apply
from tally_processes import run_tally
from tallystick.app.runtime import Runtime

CONTRACT = """
contract: acme
version: "1"
effective_from: 2020-01-01T00:00:00Z
currency: USD
plans:
  small: {title: Small, base: "10"}
  large: {title: Large, base: "40"}
"""


class Tally:
    """The command, on a database with a contract of two plans."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        done = run_tally("orgs", *arguments, env=self._environment)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout, done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json")[0])


@pytest.fixture
def tally(runtime: Runtime, database_url: str, tmp_path: Path) -> Tally:
    apply(runtime, CONTRACT)
    return Tally({**os.environ, "DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path)})


def plan(name: str) -> list[str]:
    return ["set", "globex", "--contract", "acme", "--plan", name]


def test_a_change_is_previewed_made_and_ended(tally: Tally) -> None:
    assert tally.json(*plan("large"), "--from", "2026-01-01")["plan"] == "large"
    ahead = tally.json(*plan("small"), "--preview")
    assert (ahead["change"], ahead["from_plan"], ahead["to_plan"]) == ("downgrade", "large", "small")
    assert (ahead["after"]["total_usd"], ahead["next_base_usd"]) == ("10.00", "10")  # of the month after this one
    down = tally.json(*plan("small"))
    assert (down["plan"], down["effective_from"]) == ("small", ahead["effective_from"])
    assert down["effective_from"].endswith("-01T00:00:00Z")
    shown = tally(*plan("small"), "--when", "now", "--preview")[0]
    assert "difference in" in shown
    gone = tally.json("leave", "globex", "--at", "2031-01-10T12:00:00Z")
    assert (gone["subscription"]["plan"], gone["subscription"]["effective_from"]) == (None, "2031-01-10T12:00:00Z")
    assert "no plan in UTC from 2031-01-10T12:00:00Z" in tally("show", "globex")[0]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([*plan("small"), "--when", "tomorrow"], "invalid_start"),
        ([*plan("small"), "--when", "now", "--from", "2026-01-01"], "ambiguous_start"),
        (["leave", "globex"], "unknown_org"),
    ],
)
def test_what_cannot_be_is_refused_with_its_code(tally: Tally, arguments: list[str], code: str) -> None:
    _, errors = tally(*arguments, code=2)
    assert f"[{code}]" in errors
