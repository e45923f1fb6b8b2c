"""Fingerprint and leaf depend on what is said, and on nothing else; their bytes are those that the docs describe."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from nested_values import nested
from tallystick.core.instants import format_instant
from tallystick.core.money import PICO_MAX
from tallystick.journal.copy_rows import instant_of, microseconds
from tallystick.ledger.encoding import PREFIX, canonical_json, core_json, event_fingerprint, personal_json
from tallystick.ledger.entry import (
    ERASED,
    FREE,
    OPERATION_KINDS,
    Entry,
    entry_event,
    entry_fingerprint,
    entry_leaf,
    entry_preimage,
)
from tallystick.ledger.operation_entry import body_request
from tallystick.ledger.preimage import read_preimage
from tallystick.usage.event import UsageEvent
from tallystick.usage.meters import METERS, QUANTITY_MAX

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)
# Beyond U+FFFF and just below: code points and UTF-16 code units sort these differently.
KEYS = TEXT | st.text(
    st.sampled_from('a%"\\\x1f\u00e9\ud7ff\ue000\ufb33\uffff\U00010000\U0001f600\U0010ffff'), max_size=3
)
TABLE = st.dictionaries(KEYS, TEXT, max_size=4)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))
SALTS = st.binary(min_size=16, max_size=16)
PERSONAL = ("user_id", "session_id", "attributes")

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
    payer=st.sampled_from(["seller", "customer"]),
    attributes=TABLE,
)

AMOUNTS = st.none() | st.integers(-PICO_MAX, PICO_MAX)
LINES = st.lists(st.tuples(TEXT, st.integers(0, PICO_MAX), AMOUNTS, AMOUNTS, AMOUNTS, st.none() | TEXT), max_size=4)
STATUSES = st.sampled_from(["final", "partial", "estimated"])


def described_core(event: UsageEvent) -> dict[str, Any]:
    """The members of the core by the letter of its description."""
    defaults = {"outcome": "success", "usage_status": "final", "payer": "seller", "price_context": {}}
    members: dict[str, Any] = {}
    for name in UsageEvent.__struct_fields__:
        value = getattr(event, name)
        if name in PERSONAL or value is None or (name in defaults and value == defaults[name]):
            continue
        if name == "time":
            value = format_instant(value)
        if name == "provider_cost_pico":
            value = str(value)
        members[name] = value
    return members


def described_personal(event: UsageEvent) -> dict[str, Any]:
    members: dict[str, Any] = {"session_id": event.session_id, "user_id": event.user_id}
    return members | ({"attributes": event.attributes} if event.attributes else {})


def described_fingerprint(event: UsageEvent, salt: bytes) -> bytes:
    core, personal = rfc8785.dumps(described_core(event)), rfc8785.dumps(described_personal(event))
    return hashlib.sha256(PREFIX + salt + core + b"\n" + personal).digest()


@given(EVENTS, SALTS)
def test_the_canonical_form_is_the_described_one(event: UsageEvent, salt: bytes) -> None:
    assert core_json(event) == rfc8785.dumps(described_core(event))
    personal = personal_json(event.session_id, event.user_id, event.attributes)
    assert personal == rfc8785.dumps(described_personal(event))
    assert event_fingerprint(event, salt) == described_fingerprint(event, salt)


_LEAVES = st.sampled_from([None, False, True]) | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT
_JSON = nested(_LEAVES, KEYS, list_max=3, members_max=4)


@given(_JSON)
def test_canonical_json_is_that_of_rfc_8785(value: Any) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


@given(EVENTS, st.randoms(use_true_random=False), SALTS)
def test_the_order_in_which_members_are_sent_does_not_matter(event: UsageEvent, dice: Any, salt: bytes) -> None:
    def shuffled(table: dict[str, Any]) -> dict[str, Any]:
        names = list(table)
        dice.shuffle(names)
        return {name: table[name] for name in names}

    raw = shuffled(msgspec.to_builtins(event))
    raw = {name: shuffled(value) if isinstance(value, dict) else value for name, value in raw.items()}
    assert event_fingerprint(msgspec.convert(raw, UsageEvent), salt) == event_fingerprint(event, salt)


@given(EVENTS, st.integers(1, 10**6), SALTS)
def test_another_content_or_another_salt_is_another_fingerprint(event: UsageEvent, change: int, salt: bytes) -> None:
    def changed(**members: Any) -> UsageEvent:
        return msgspec.structs.replace(event, **members)

    others = [
        changed(time=event.time + timedelta(microseconds=change)),
        changed(meters={**event.meters, "tokens_in": event.meters.get("tokens_in", 0) + 1}),
        changed(outcome="empty" if event.outcome == "failure" else "failure"),
        changed(user_id=event.user_id + "x"),
        changed(session_id=event.session_id + "x"),
        changed(attributes={**event.attributes, "another": "x" + event.attributes.get("another", "")}),
        changed(user_id=event.session_id + "y", session_id=event.user_id + "y"),
    ]
    digests = {event_fingerprint(one, salt) for one in (event, *others)} | {event_fingerprint(event, salt[::-1] + b"x")}
    assert len(digests) == 1 + len(others) + 1


@given(EVENTS, SALTS)
def test_the_fingerprint_goes_by_what_text_says_and_not_by_which_object_it_is(event: UsageEvent, salt: bytes) -> None:
    # A value read from a database or a file equals the default without being the same object.
    copy = msgspec.structs.replace(
        event, outcome="".join(list(event.outcome)), usage_status="".join(list(event.usage_status))
    )
    assert copy.outcome is not event.outcome
    assert event_fingerprint(copy, salt) == event_fingerprint(event, salt)


# ── the leaf ────────────────────────────────────────────────────────────────────────────────────


def described_cost(entry: Entry) -> dict[str, Any]:
    def digits(values: Any) -> list[str | None]:
        return [None if value is None else str(value) for value in values]

    lines = {
        "amount_pico": digits(entry.line_amount_pico),
        "meters": list(entry.line_meters),
        "per": digits(entry.line_per),
        "price_pico": digits(entry.line_price_pico),
        "quantities": digits(entry.line_quantities),
    }
    if entry.line_models is not None:
        lines["models"] = list(entry.line_models)
    total = None if entry.cost_pico is None else str(entry.cost_pico)
    cost: dict[str, Any] = {"lines": lines, "rate_version": entry.rate_version, "status": entry.status}
    return cost | {"total_pico": total} | ({} if entry.reason is None else {"reason": entry.reason})


def described_preimage(entry: Entry, event: UsageEvent) -> bytes:
    described: dict[str, Any] = {
        "cost": described_cost(entry),
        "kind": entry.kind,
        "recorded_at": format_instant(entry.recorded_at),
    }
    if entry.kind == "usage":
        described |= {"fact": described_core(event), "fingerprint": (entry.fingerprint or b"").hex()}
    else:
        described |= {
            "org_id": entry.org_id,
            "refers_to_seq": entry.refers_to_seq,
            "request_id": entry.request_id,
            "time": format_instant(entry.time),
        }
        described |= {} if entry.payer is None else {"payer": entry.payer}
    return rfc8785.dumps({"entry": described, "seq": entry.seq, "time_max": format_instant(entry.time_max)})


def usage_entry(event: UsageEvent, salt: bytes, seq: int, cost: dict[str, Any]) -> Entry:
    """The row that an event is stored as, column by column."""
    return Entry(
        org_id=event.org_id,
        seq=seq,
        kind="usage",
        request_id=event.request_id,
        time=event.time,
        time_max=event.time + timedelta(seconds=1),
        recorded_at=event.time + timedelta(microseconds=5),
        feature=event.feature,
        environment=event.environment,
        provider=event.provider,
        model=event.model,
        api_key_id=event.api_key_id,
        action=event.action,
        latency_ms=event.latency_ms,
        outcome=event.outcome,
        usage_status=event.usage_status,
        meter_names=sorted(event.meters),
        meter_quantities=[event.meters[name] for name in sorted(event.meters)],
        price_context=event.price_context,
        provider_cost_pico=event.provider_cost_pico,
        payer=None if event.payer == "seller" else event.payer,
        user_id=event.user_id,
        session_id=event.session_id,
        attributes=event.attributes,
        salt=salt,
        fingerprint=event_fingerprint(event, salt),
        refers_to_seq=None,
        body=None,
        leaf=b"",
        **cost,
    )


@st.composite
def costs(draw: st.DrawFn) -> dict[str, Any]:
    lines = draw(LINES)
    meters, quantities, prices, pers, amounts, models = zip(*lines, strict=True) if lines else ((),) * 6
    total = draw(AMOUNTS)
    return {
        "rate_version": draw(TEXT),
        "status": "unpriced" if total is None else draw(STATUSES),
        "cost_pico": total,
        "line_meters": list(meters),
        "line_quantities": list(quantities),
        "line_price_pico": list(prices),
        "line_per": list(pers),
        "line_amount_pico": list(amounts),
        "line_models": list(models) if any(models) else None,
        "reason": draw(st.none() | TEXT),
    }


@given(EVENTS, SALTS, st.integers(1, 2**53 - 1), costs())
def test_a_leaf_is_the_hash_of_the_described_bytes(
    event: UsageEvent, salt: bytes, seq: int, cost: dict[str, Any]
) -> None:
    entry = usage_entry(event, salt, seq, cost)
    assert entry_preimage(entry) == described_preimage(entry, event)
    assert entry_leaf(entry) == hashlib.sha256(b"\x00" + described_preimage(entry, event)).digest()
    assert entry_event(entry) == event
    assert entry_fingerprint(entry) == entry.fingerprint
    nothing = dict.fromkeys(
        set(Entry._fields) - {"org_id", "request_id", "time", "time_max", "recorded_at", "payer"} - set(cost)
    )
    correction = entry._replace(**nothing)._replace(kind="correction", seq=seq, refers_to_seq=max(1, seq - 1))
    assert entry_preimage(correction) == described_preimage(correction, event)
    assert entry_event(correction) is None
    assert entry_fingerprint(correction) is None


@given(
    EVENTS,
    SALTS,
    st.integers(2, 2**53 - 1),
    st.sampled_from(sorted(OPERATION_KINDS)),
    st.dictionaries(KEYS, TEXT | st.none() | st.booleans(), max_size=3),
    st.none() | TEXT,
)
def test_a_leaf_of_an_operation_is_the_hash_of_the_described_bytes(
    event: UsageEvent, salt: bytes, seq: int, kind: str, part: dict[str, Any], user_id: str | None
) -> None:
    request, body = rfc8785.dumps(part), rfc8785.dumps({"request": part, "result": {}})
    personal = {"user_id": user_id, "session_id": event.session_id, "attributes": event.attributes or None}
    told = {name: value for name, value in personal.items() if value is not None}
    asked = {"kind": kind, "org_id": event.org_id, "request": part, "request_id": event.request_id}
    digest = hashlib.sha256(
        b"tallystick operation v1\n" + salt + rfc8785.dumps(asked) + b"\n" + rfc8785.dumps(told)
    ).digest()
    members = ("action", "api_key_id", "environment", "feature", "model", "provider", "org_id", "request_id")
    columns = {name: getattr(event, name) for name in members}
    refers = {"refers_to_seq": seq - 1} if kind in ("settlement", "release", "expiry", "refund") else {}
    entry = Entry._make([None] * len(Entry._fields))._replace(
        kind=kind,
        seq=seq,
        time=event.time,
        time_max=event.time + timedelta(seconds=1),
        recorded_at=event.time,
        body=body.decode(),
        rate_version="card-1",
        user_id=user_id,
        session_id=event.session_id,
        attributes=event.attributes,
        salt=salt,
        fingerprint=digest,
        **columns,
        **refers,
        **FREE,
    )
    described = {name: value for name, value in columns.items() if value is not None} | refers
    described |= {"body": {"request": part, "result": {}}, "fingerprint": digest.hex(), "kind": kind}
    described |= {
        "rate_version": "card-1",
        "recorded_at": format_instant(event.time),
        "time": format_instant(event.time),
    }
    whole = {"entry": described, "seq": seq, "time_max": format_instant(entry.time_max)}
    assert entry_preimage(entry) == rfc8785.dumps(whole)
    assert body_request(body) == request
    assert entry_fingerprint(entry) == digest
    assert entry_event(entry) is None
    read = read_preimage(entry_preimage(entry))
    forgotten = entry._replace(user_id=None, session_id=None, attributes=None, salt=None, leaf=entry_leaf(entry))
    assert read == forgotten
    spaced = msgspec.json.format(entry_preimage(entry), indent=2)
    assert read_preimage(spaced) == forgotten


@given(EVENTS, SALTS, costs())
def test_an_erasure_leaves_the_leaf_as_it_was(event: UsageEvent, salt: bytes, cost: dict[str, Any]) -> None:
    entry = usage_entry(event, salt, 7, cost)
    erased = entry._replace(user_id=None, session_id=None, attributes=None, salt=None)
    assert entry_leaf(erased) == entry_leaf(entry)
    assert entry_fingerprint(erased) is None
    left = entry_event(erased)
    assert left is not None
    assert (left.user_id, left.session_id, left.attributes) == (ERASED, ERASED, {})
    assert core_json(left) == core_json(event)


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))
def test_an_instant_is_the_same_after_the_table(instant: datetime) -> None:
    assert instant_of(microseconds(instant)) == instant
