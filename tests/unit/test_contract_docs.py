"""docs/contract.md is true: its contracts load, its example line is printed, and it names every key and warning."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import get_args

import pytest

from tallystick.contract import advice, loader, read_plans
from tallystick.contract.loader import load_contract
from tallystick.contract.pricing import price_period
from tallystick.core.errors import Problems

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")
CONTRACTS = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("text", CONTRACTS)
def test_each_contract_in_the_documentation_loads(text):
    assert load_contract(text, "docs").plans


def test_the_documented_shapes_charge_what_is_said_of_them():
    plan = load_contract(CONTRACTS[1], "docs").plans["every-shape"]
    used = {"tokens_in": 500_000, "cache_read_tokens": 500_000, "tool_calls": 10_001, "egress_bytes": 2_000_000_000}
    lines = price_period(plan, {meter: Fraction(quantity) for meter, quantity in used.items()})
    assert {line.meter: line.exact_usd for line in lines} == {
        "tokens_in": Fraction("0.10"),
        "tokens_out": 5,
        "tool_calls": Fraction("0.80"),
        "egress_bytes": Fraction("50.04"),
    }


def test_every_key_is_documented():
    keys = {*loader.KEYS, *read_plans.PLAN_KEYS}
    assert {key for key in keys if f"`{key}`" not in TEXT} == set()


def test_every_warning_is_documented():
    assert {code for code in get_args(advice.AdviceCode) if f"`{code}`" not in TEXT} == set()


def test_the_documented_error_is_the_one_that_is_printed():
    example = re.search(r"^error: contract\.yaml:8: (.*) \[(\w+)\]$", TEXT, flags=re.MULTILINE)
    assert example is not None
    with pytest.raises(Problems) as caught:
        load_contract(CONTRACTS[0].replace('"10"', "9.99"), "contract.yaml")
    (problem,) = caught.value.problems
    assert (f"{problem.where}: {problem.detail}".split(": ", 1)[1], problem.code) == (example[1], example[2])
