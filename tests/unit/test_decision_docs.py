"""docs/decisions.md is true: it lists every reason in the order in which they are looked for, with its status."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from tallystick.contract.decision import Decision, ReasonCode, StepKind, Verdict
from tallystick.contract.model import LimitWindow
from tallystick.contract.policy import DENIALS, HTTP_STATUS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "decisions.md").read_text(encoding="utf-8")


def test_every_reason_is_listed_in_order_with_its_status():
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", TEXT, re.MULTILINE)
    statuses = {"allowed": "200", **{code: str(HTTP_STATUS[denial]) for code, denial in DENIALS.items()}}
    assert rows == [(code, statuses[code]) for code in get_args(ReasonCode)]


def test_every_next_step_and_window_is_documented():
    assert {word for word in (*get_args(StepKind), *get_args(LimitWindow)) if f"`{word}`" not in TEXT} == set()


def test_every_part_of_a_decision_is_documented():
    members = {*Decision.__struct_fields__, *Verdict.__struct_fields__}
    assert {name for name in members if f"`{name}`" not in TEXT} == set()
