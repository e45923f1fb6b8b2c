"""docs/contract-testing.md is true: its cases pass, and it names every key of the format and every member."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tallystick.app.contract_files import reference_text
from tallystick.contract.loader import load_contract
from tallystick.simulate import case_given
from tallystick.simulate.case_compare import check_case
from tallystick.simulate.case_expect import MEMBERS
from tallystick.simulate.case_reader import load_cases

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "contract-testing.md").read_text(encoding="utf-8")
CONTRACT = load_contract(reference_text(), "reference.yaml")


def test_the_cases_in_the_documentation_pass():
    texts = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    assert texts
    for text in texts:
        for case in load_cases(text, "docs", CONTRACT):
            assert check_case(case, CONTRACT).passed, case.name


@pytest.mark.parametrize("name", case_given.KEYS)
def test_every_key_of_what_is_given_is_documented(name):
    assert f"| `{name}` |" in TEXT


@pytest.mark.parametrize("verb", MEMBERS)
def test_every_step_and_every_member_of_its_answer_is_documented(verb):
    assert f"`{verb}`" in TEXT
    assert [name for name in MEMBERS[verb] if f"`{name}`" not in TEXT] == []
