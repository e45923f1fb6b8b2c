"""Accounts whose older entries have left the database: their history and their explanations are read from blocks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts import CONTRACT, asked
from tallystick.app.authorize import authorize
from tallystick.app.contracts import apply_contract
from tallystick.app.decision_answers import answer_of
from tallystick.app.explain_entry import show_entry
from tallystick.app.grants import grant
from tallystick.app.orgs import set_subscription
from tallystick.app.overrides import add_override, list_overrides
from tallystick.app.release import release
from tallystick.app.retention import run_retention
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.app.wallet import show_wallet, wallet_entries
from tallystick.core.instants import format_instant

# The database's own clock has a say in what may leave, so times are measured from the real present.
NOW = datetime.now(UTC).replace(microsecond=0)
OLD = NOW - timedelta(days=60)


def at(runtime: Runtime, moment: datetime) -> Runtime:
    settings = runtime.settings.model_copy(update={"retention_days": 45, "block_entries_max": 4})
    return replace(runtime, clock=lambda: moment, settings=settings)


@pytest.fixture
def aged(runtime: Runtime) -> Runtime:
    """acme's first ten operations are of sixty days ago and left the database; four more are of now."""
    old, now = at(runtime, OLD), at(runtime, NOW)
    apply_contract(old, CONTRACT.replace("2026-10-01T00:00:00Z", format_instant(OLD)), "shop.yaml")
    set_subscription(old, "acme", contract="shop", plan="wallet", effective_from=OLD)
    signed = {"author": "ann", "reason": "welcome"}
    grant(old, "acme", {"request_id": "g1", "source": "promo", "credits": "100", **signed})
    exception = {"request_id": "o1", "approved_by": "bob", "expires_at": format_instant(OLD + timedelta(days=89))}
    add_override(old, "acme", {**exception, **signed, "allow_models": ["*"]})
    for number in range(4):
        hold_and_release(old, f"old-{number}")
    seal_once(old, everything=True)
    for number in range(2):
        hold_and_release(now, f"new-{number}")
    seal_once(now, everything=True)
    assert run_retention(now).entries == 10
    return now


def hold_and_release(runtime: Runtime, request_id: str) -> None:
    held = answer_of(authorize(runtime, asked(request_id)))
    release(runtime, {"org_id": "acme", "hold_id": held["hold"]["hold_id"]})


def read(runtime: Runtime, order: Any) -> list[int]:
    seen: list[int] = []
    cursor = None
    while True:
        page = wallet_entries(runtime, "acme", cursor=cursor, limit=3, order=order)
        seen += [one["seq"] for one in page["entries"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return seen


def test_a_history_is_one_wherever_its_entries_are(aged: Runtime) -> None:
    assert read(aged, "oldest") == list(range(1, 15))
    assert read(aged, "newest") == list(range(14, 0, -1))


def test_an_entry_is_explained_and_an_exception_listed_from_its_block(aged: Runtime) -> None:
    found = show_entry(aged, "acme", 3)
    assert (found["kind"], found["wallet"]["after"]) == ("hold", {"available": "95", "held": "5"})
    (listed,) = list_overrides(aged, "acme")
    assert (listed["override_id"], listed["approved_by"]) == ("o2", "bob")


def test_a_wallet_stands_where_it_stood(aged: Runtime) -> None:
    assert show_wallet(aged, "acme")["available"] == "100"
