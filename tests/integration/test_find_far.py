"""A story is the same wherever its entries are by now, and it is found without reading the ledger through."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts import CONTRACT, asked, call
from journal_helpers import raw_event
from tallystick.app.authorize import authorize
from tallystick.app.contracts import apply_contract
from tallystick.app.decision_answers import answer_of
from tallystick.app.find import find
from tallystick.app.grants import grant
from tallystick.app.ingest import ingest_events
from tallystick.app.orgs import set_subscription
from tallystick.app.retention import run_retention
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.app.settle import settle
from tallystick.core.errors import NotFound
from tallystick.core.instants import format_instant
from tallystick.journal.find import named, provider_named, worked_on

# The database's own clock has a say in what may leave, so times are measured from the real present.
NOW = datetime.now(UTC).replace(microsecond=0)
OLD = NOW - timedelta(days=60)


def at(runtime: Runtime, moment: datetime) -> Runtime:
    settings = runtime.settings.model_copy(update={"retention_days": 45, "block_entries_max": 5})
    return replace(runtime, clock=lambda: moment, settings=settings)


def work(runtime: Runtime, name: str, moment: datetime) -> None:
    held = answer_of(authorize(runtime, asked(name, work_key=f"doc-{name}")))
    attributes = {"provider_request_id": f"prov-{name}", "note": f"not prov-{name}x"}
    event = call(f"event-{name}", time=format_instant(moment), attributes=attributes)
    raw = {"org_id": "acme", "hold_id": held["hold"]["hold_id"], "outcome": "success", "events": [event]}
    settle(runtime, raw)


@pytest.fixture
def aging(runtime: Runtime) -> tuple[Runtime, Runtime]:
    """Three pieces of work of sixty days ago, sealed; and what has the clock of today."""
    old, now = at(runtime, OLD), at(runtime, NOW)
    apply_contract(old, CONTRACT.replace("2026-10-01T00:00:00Z", format_instant(OLD)), "shop.yaml")
    set_subscription(old, "acme", contract="shop", plan="wallet", effective_from=OLD)
    grant(old, "acme", {"request_id": "g1", "source": "top_up", "credits": "100", "author": "a", "reason": "r"})
    for name in ("one", "two", "three"):
        work(old, name, OLD)
    seal_once(old, everything=True)
    return old, now


IDS = ("one", "event-one", "prov-one", "two", "event-three", "prov-three")


def test_a_story_is_the_same_once_its_entries_have_left_the_database(aging: tuple[Runtime, Runtime]) -> None:
    old, now = aging
    before = {text: find(old, text)["stories"] for text in IDS}
    assert {story["entries"][0]["block"] for story in before["one"]} == {1}
    assert run_retention(now).entries == 10
    for text in IDS:
        (story,) = find(now, text)["stories"]
        assert all(one.pop("in") == "block" for one in story["entries"])
        (was,) = before[text]
        assert all(one.pop("in") == "database" for one in was["entries"])
        assert story == was
    (by_work,) = find(now, "doc-two")["stories"]
    assert by_work["steps"] == before["two"][0]["steps"]
    hold = before["one"][0]["entries"][0]["entry_id"]
    assert find(now, hold, org_id="acme")["stories"][0]["steps"] == before["one"][0]["steps"]


def test_blocks_are_read_within_the_time_that_was_given(aging: tuple[Runtime, Runtime]) -> None:
    _, now = aging
    run_retention(now)
    read: list[int] = []
    with pytest.raises(NotFound) as caught:
        find(now, "event-one", since=OLD + timedelta(days=1), advance=read.append)
    assert (caught.value.code, read) == ("not_found", [])
    assert "sealed blocks" in caught.value.detail
    assert find(now, "event-one", until=OLD + timedelta(days=1), advance=read.append)["stories"]
    assert sum(read) >= 10


def test_one_id_of_two_orgs_is_two_stories(runtime: Runtime) -> None:
    ingest_events(runtime, [raw_event("same", org_id=f"org-{number:02}") for number in range(23)])
    found = find(runtime, "same")
    assert [story["org_id"] for story in found["stories"]] == [f"org-{number:02}" for number in range(20)]
    assert found["left_off"] == 3
    (story,) = find(runtime, "same", org_id="org-22")["stories"]
    assert [step["step"] for step in story["steps"]] == ["call", "usage", "price"]
    assert story["wallet"] is None


def test_no_look_reads_the_ledger_through(runtime: Runtime) -> None:
    events = [
        raw_event(f"r{number}", org_id=f"org-{number % 40}", attributes={"provider_request_id": f"p{number}"})
        for number in range(4000)
    ]
    ingest_events(runtime, events)
    orgs = [f"org-{number}" for number in range(40)]
    with runtime.database.operator() as connection:
        assert named(connection, orgs, ["r7"]) == [("org-7", 1)]
        assert provider_named(connection, None, "p8") == [("org-8", 1)]
        assert worked_on(connection, orgs, "none") == []

    class Explaining:
        """Asks how a query would be answered, in its place."""

        def __init__(self, connection: Any) -> None:
            self.connection = connection
            self.scanned: set[str] = set()

        def execute(self, query: bytes, parameters: Any, **_: Any) -> list[Any]:
            rows = self.connection.execute(b"explain (format json) " + query, parameters).fetchone()
            plan = rows[0] if isinstance(rows[0], list) else json.loads(rows[0])
            self.look(plan[0]["Plan"])
            return []

        def look(self, plan: dict[str, Any]) -> None:
            if plan["Node Type"] == "Seq Scan":
                self.scanned.add(plan["Relation Name"])
            for part in plan.get("Plans", ()):
                self.look(part)

    with runtime.database.operator() as connection:
        explaining: Any = Explaining(connection)
        named(explaining, orgs, ["r7"])
        worked_on(explaining, orgs, "none")
        provider_named(explaining, None, "p8")
        provider_named(explaining, "org-8", "p8")
    assert "ledger_entries" not in explaining.scanned


def test_a_settlement_of_many_events_is_one_story_and_told_at_once(runtime: Runtime) -> None:
    moment = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
    now = at(runtime, moment)
    apply_contract(now, CONTRACT, "shop.yaml")
    set_subscription(now, "acme", contract="shop", plan="wallet", effective_from=moment - timedelta(days=20))
    grant(now, "acme", {"request_id": "g1", "source": "top_up", "credits": "100", "author": "a", "reason": "r"})
    ingest_events(now, [raw_event("big/7", org_id="acme"), raw_event("big-1/2")])
    held = answer_of(authorize(now, asked("big")))
    events = [call(f"big-{number}", time=format_instant(moment)) for number in range(1000)]
    raw = {"org_id": "acme", "hold_id": held["hold"]["hold_id"], "outcome": "success", "events": events}
    settle(now, raw)
    began = time.process_time()
    (story,) = find(now, "big-999")["stories"]
    assert time.process_time() - began < 3
    assert len(story["entries"]) == 1002
    assert {one["request_id"] for one in story["entries"]} == {"big", held["hold"]["hold_id"]} | {
        event["request_id"] for event in events
    }
