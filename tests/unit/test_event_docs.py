"""docs/events.md names every field of an event and every status of an answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from tallystick.ledger.receipt import ReceiptStatus
from tallystick.usage.event_problems import FIELDS, MANDATORY, PRICE_CONTEXT_KEYS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "events.md").read_text()


def test_every_field_is_documented_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (mandatory)? ?\|", TEXT, re.MULTILINE)
    assert {name for name, _ in rows} == set(FIELDS)
    assert {name for name, mandatory in rows if mandatory} == set(MANDATORY)
    assert all(f"`{key}`" in TEXT for key in PRICE_CONTEXT_KEYS)


def test_every_status_is_documented() -> None:
    statuses = list(get_args(ReceiptStatus))
    assert re.findall(r"^\| `(\w+)` \| ", TEXT, re.MULTILINE)[-len(statuses) :] == statuses
