"""Accounts whose older entries have left the database: their history and their explanations are read from blocks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts import CONTRACT, asked
from journal_helpers import count, query, tamper
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
from tallystick.app.verify import verify_ledger
from tallystick.app.wallet import show_wallet, wallet_entries
from tallystick.core.errors import Conflict
from tallystick.core.instants import format_instant

# The database's own clock has a say in what may leave, so times are measured from the real present.
NOW = datetime.now(UTC).replace(microsecond=0)
OLD = NOW - timedelta(days=60)

SIGNED = {"author": "ann", "reason": "welcome"}
GRANT = {"request_id": "g1", "source": "top_up", "credits": "100", **SIGNED}
OVERRIDE = {
    "request_id": "o1",
    "approved_by": "bob",
    "expires_at": format_instant(OLD + timedelta(days=89)),
    "allow_models": ["*"],
    "credits": "7",
    **SIGNED,
}


def at(runtime: Runtime, moment: datetime) -> Runtime:
    settings = runtime.settings.model_copy(update={"retention_days": 45, "block_entries_max": 4})
    return replace(runtime, clock=lambda: moment, settings=settings)


@pytest.fixture
def aged(runtime: Runtime) -> Runtime:
    """acme's first eleven operations are of sixty days ago and left the database; four more are of now."""
    old, now = at(runtime, OLD), at(runtime, NOW)
    apply_contract(old, CONTRACT.replace("2026-10-01T00:00:00Z", format_instant(OLD)), "shop.yaml")
    set_subscription(old, "acme", contract="shop", plan="wallet", effective_from=OLD)
    grant(old, "acme", GRANT)
    add_override(old, "acme", OVERRIDE)
    for number in range(4):
        hold_and_release(old, f"old-{number}")
    seal_once(old, everything=True)
    for number in range(2):
        hold_and_release(now, f"new-{number}")
    seal_once(now, everything=True)
    assert run_retention(now).entries == 11
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
    assert read(aged, "oldest") == list(range(1, 16))
    assert read(aged, "newest") == list(range(15, 0, -1))


def test_an_entry_is_explained_and_an_exception_listed_from_its_block(aged: Runtime) -> None:
    found = show_entry(aged, "acme", 4)
    assert (found["kind"], found["wallet"]["after"]) == ("hold", {"available": "102", "held": "5"})
    (listed,) = list_overrides(aged, "acme")
    assert (listed["override_id"], listed["approved_by"]) == ("o2", "bob")


def test_a_wallet_stands_where_it_stood(aged: Runtime) -> None:
    assert show_wallet(aged, "acme")["available"] == "107"


def test_credits_are_granted_once_however_much_later_they_are_asked_for_again(aged: Runtime) -> None:
    entries = count(aged, "ledger_entries")
    again = answer_of(grant(aged, "acme", GRANT))
    assert (again["grant_id"], again["wallet"]["after"]["available"]) == ("g1", "100")
    assert again == answer_of(grant(aged, "acme", GRANT))
    set_subscription(aged, "acme", contract="shop", plan="monthly", effective_from=NOW)
    assert answer_of(grant(aged, "acme", GRANT)) == again
    with pytest.raises(Conflict) as refused:
        grant(aged, "acme", {**GRANT, "credits": "101"})
    assert refused.value.code == "request_id_conflict"
    assert count(aged, "ledger_entries") == entries


def test_an_exception_is_made_once_with_its_credits(aged: Runtime) -> None:
    made = add_override(aged, "acme", OVERRIDE)
    assert (made["override"]["override_id"], made["grant"]["grant_id"]) == ("o2", "g3")
    assert show_wallet(aged, "acme")["available"] == "107"


def test_no_claim_of_an_id_is_taken_away_unnoticed(aged: Runtime) -> None:
    assert query(aged, "select kind, request_id, seq from claimed_ids order by seq") == [
        ("grant", "g1", 1),
        ("override", "o1", 2),
        ("grant", "o2.credits", 3),
    ]
    assert verify_ledger(aged).findings.kept == []
    tamper(aged.database.url, "delete from claimed_ids where seq = 1")
    assert {one.check for one in verify_ledger(aged).findings.kept} == {"register"}
