"""The fingerprint depends on what an event says, and on nothing else."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.instants import format_instant
from tallystick.core.money import PICO_MAX
from tallystick.ledger.encoding import PREFIX, canonical_fact, fingerprint
from tallystick.usage.event import UsageEvent
from tallystick.usage.meters import METERS, QUANTITY_MAX

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)
TABLE = st.dictionaries(TEXT, TEXT, max_size=4)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))

EVENTS = st.builds(
    UsageEvent,
    org_id=TEXT,
    request_id=TEXT,
    time=TIMES,
    user_id=TEXT,
    session_id=TEXT,
    feature=TEXT,
    environment=TEXT,
    model=TEXT,
    meters=st.dictionaries(st.sampled_from(sorted(METERS)), st.integers(0, QUANTITY_MAX), max_size=5),
    provider=st.none() | TEXT,
    api_key_id=st.none() | TEXT,
    action=st.none() | TEXT,
    latency_ms=st.none() | st.integers(0, 10**9),
    outcome=st.sampled_from(["success", "empty", "failure"]),
    usage_status=st.sampled_from(["final", "partial", "estimated"]),
    price_context=TABLE,
    provider_cost_pico=st.none() | st.integers(0, PICO_MAX),
    attributes=TABLE,
)


def independent_form(event: UsageEvent) -> bytes:
    """The canonical form by the letter of its description, with the standard library."""
    defaults = {"outcome": "success", "usage_status": "final", "price_context": {}, "attributes": {}}
    members: dict[str, Any] = {}
    for name in UsageEvent.__struct_fields__:
        value = getattr(event, name)
        if value is None or (name in defaults and value == defaults[name]):
            continue
        if name == "time":
            value = format_instant(value)
        if name == "provider_cost_pico":
            value = str(value)
        members[name] = value
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@given(EVENTS)
def test_the_canonical_form_is_the_described_one(event: UsageEvent) -> None:
    assert canonical_fact(event) == independent_form(event)
    assert fingerprint(event) == hashlib.sha256(PREFIX + independent_form(event)).digest()


@given(EVENTS, st.randoms(use_true_random=False))
def test_the_order_in_which_members_are_sent_does_not_matter(event: UsageEvent, dice: Any) -> None:
    def shuffled(table: dict[str, Any]) -> dict[str, Any]:
        names = list(table)
        dice.shuffle(names)
        return {name: table[name] for name in names}

    raw = shuffled(msgspec.to_builtins(event))
    raw = {name: shuffled(value) if isinstance(value, dict) else value for name, value in raw.items()}
    assert fingerprint(msgspec.convert(raw, UsageEvent)) == fingerprint(event)


@given(EVENTS, st.integers(1, 10**6))
def test_another_content_is_another_fingerprint(event: UsageEvent, change: int) -> None:
    later = msgspec.structs.replace(event, time=event.time + timedelta(microseconds=change))
    counted = msgspec.structs.replace(event, meters={**event.meters, "tokens_in": event.meters.get("tokens_in", 0) + 1})
    failed = msgspec.structs.replace(event, outcome="empty" if event.outcome == "failure" else "failure")
    assert len({fingerprint(one) for one in (event, later, counted, failed)}) == 4


def test_a_published_example_keeps_its_fingerprint() -> None:
    event = UsageEvent(
        org_id="acme",
        request_id="req-1",
        time=datetime(2026, 10, 15, 12, 0, 0, 250000, tzinfo=UTC),
        user_id="user-1",
        session_id="session-1",
        feature="chat",
        environment="production",
        model="gpt-4o",
        provider="openai",
        meters={"tokens_out": 10, "tokens_in": 1000},
    )
    assert canonical_fact(event) == (
        b'{"environment":"production","feature":"chat","meters":{"tokens_in":1000,"tokens_out":10},"model":"gpt-4o",'
        b'"org_id":"acme","provider":"openai","request_id":"req-1","session_id":"session-1",'
        b'"time":"2026-10-15T12:00:00.250000Z","user_id":"user-1"}'
    )
    assert fingerprint(event).hex() == "d230d79a69f34535f8c2bcdb5a515d53b2b11c6508c6044f5acb6b3dcd65fb47"


def test_the_documentation_shows_that_example() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "events.md").read_text()
    (line,) = (line.strip() for line in text.splitlines() if line.startswith('    {"environment"'))
    event = msgspec.json.decode(line, type=UsageEvent)
    assert canonical_fact(event).decode() == line
    assert fingerprint(event).hex() in text
    assert f"the {len(PREFIX)} bytes" in text


@given(EVENTS)
def test_the_fingerprint_goes_by_what_text_says_and_not_by_which_object_it_is(event: UsageEvent) -> None:
    # A value read from a database or a file equals the default without being the same object.
    copy = msgspec.structs.replace(
        event, outcome="".join(list(event.outcome)), usage_status="".join(list(event.usage_status))
    )
    assert copy.outcome is not event.outcome
    assert fingerprint(copy) == fingerprint(event)
