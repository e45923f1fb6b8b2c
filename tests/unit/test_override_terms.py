"""Exceptions made under one contract keep to the limits of the same name under another."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tallystick.contract.decision import Override
from tallystick.contract.loader import load_contract
from tallystick.simulate.override_terms import translated

HEAD = 'contract: c\nversion: "1"\neffective_from: 2026-10-01\n'
DAY = "{meters: [tool_calls], max: 10, per: day, kind: hard}"
MONTH = "{meters: [tokens_in], max: 10, per: month, kind: hard}"


def contract(*limits: str):
    return load_contract(f"{HEAD}plans: {{p: {{limits: [{', '.join(limits)}]}}}}\n", "c.yaml")


def override(**limits: int) -> Override:
    places = {int(name[1:]): most for name, most in limits.items()}
    ends = datetime(2026, 12, 1, tzinfo=UTC)
    return Override(seq=1, author="a", reason="r", expires_at=ends, limits=places, plan="p")


@pytest.mark.parametrize(
    ("before", "draft", "limits"),
    [
        ((DAY, MONTH), (MONTH, DAY), {1: 20}),
        ((DAY, MONTH), (DAY.replace("max: 10", "max: 15"),), {0: 20}),
        ((DAY, MONTH), (MONTH,), {}),
        ((DAY, MONTH), (DAY.replace("hard", "soft"),), {}),
    ],
)
def test_a_raised_limit_stays_the_one_of_its_name_and_kind(before, draft, limits):
    assert dict(translated(override(l0=20), None, contract(*before), contract(*draft)).limits) == limits


def test_where_the_contract_is_not_known_no_limit_is_raised():
    assert dict(translated(override(l0=20), "p", None, contract(DAY)).limits) == {}
    assert translated(override(), "p", None, contract(DAY)).limits == {}
