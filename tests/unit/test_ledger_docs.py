"""The bytes and hashes that docs/ledger.md publishes are those that the code makes."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import rfc8785

from tallystick.journal.steps import APPEND_STEPS
from tallystick.ledger.encoding import core_json, event_fingerprint, personal_json
from tallystick.ledger.entry import (
    ENTRY_COLUMNS,
    FREE,
    OPERATION_KINDS,
    Entry,
    entry_fingerprint,
    entry_leaf,
    entry_preimage,
)
from tallystick.ledger.operation_body import decode_body
from tallystick.ledger.operations import CREDIT, Grant
from tallystick.ledger.preimage import read_preimage
from tallystick.usage.event import UsageEvent

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "ledger.md").read_text()
CORE, PERSONAL, USAGE, CORRECTION, BODY, GRANTED_TO, GRANT = (
    line for line in TEXT.splitlines() if re.match(r'\{"\w+":', line)
)
HASHES = re.findall(r"`([0-9a-f]{64})`", TEXT)
SALT = bytes.fromhex(re.findall(r"`([0-9a-f]{32})`", TEXT)[0])
EVENT = msgspec.convert(msgspec.json.decode(CORE) | msgspec.json.decode(PERSONAL), UsageEvent)


def entry(**columns: object) -> Entry:
    return Entry._make([None] * len(ENTRY_COLUMNS))._replace(
        org_id="acme",
        request_id="req-1",
        time=EVENT.time,
        time_max=EVENT.time,
        line_meters=["tokens_in", "tokens_out"],
        line_quantities=[1000, 10],
        **columns,
    )


FIRST = entry(
    seq=1,
    kind="usage",
    recorded_at=datetime(2026, 10, 15, 12, 0, 1, tzinfo=UTC),
    feature="chat",
    environment="production",
    provider="openai",
    model="gpt-4o",
    outcome="success",
    usage_status="final",
    meter_names=["tokens_in", "tokens_out"],
    meter_quantities=[1000, 10],
    price_context={},
    user_id=EVENT.user_id,
    session_id=EVENT.session_id,
    attributes=EVENT.attributes,
    salt=SALT,
    fingerprint=event_fingerprint(EVENT, SALT),
    rate_version="card-1",
    status="unpriced",
    line_price_pico=[2_500_000_000_000, None],
    line_per=[1_000_000, None],
    line_amount_pico=[2_500_000_000, None],
    reason="the rate card has no price for tokens_out of openai/gpt-4o at that time",
)
SECOND = entry(
    seq=2,
    kind="correction",
    recorded_at=datetime(2026, 10, 16, 9, 30, tzinfo=UTC),
    rate_version="card-2",
    status="final",
    cost_pico=2_600_000_000,
    line_price_pico=[2_500_000_000_000, 10_000_000_000_000],
    line_per=[1_000_000, 1_000_000],
    line_amount_pico=[2_500_000_000, 100_000_000],
    refers_to_seq=1,
)


THIRD = Entry._make([None] * len(ENTRY_COLUMNS))._replace(
    org_id="acme",
    seq=3,
    kind="grant",
    request_id="promo-1",
    time=datetime(2026, 10, 17, 8, tzinfo=UTC),
    time_max=datetime(2026, 10, 17, 8, tzinfo=UTC),
    recorded_at=datetime(2026, 10, 17, 8, tzinfo=UTC),
    user_id="user-1",
    attributes={},
    salt=SALT,
    fingerprint=bytes.fromhex(HASHES[4]),
    rate_version="card-2",
    body=BODY,
    **FREE,
)


def test_the_published_operation_has_the_published_bytes_fingerprint_and_leaf() -> None:
    request, result = decode_body("grant", BODY)
    assert isinstance(request, Grant)
    assert request.amount_pico == result.after.available_pico == 500 * CREDIT
    assert personal_json(None, "user-1", {}).decode() == GRANTED_TO
    asked = {
        "kind": "grant",
        "org_id": "acme",
        "request": msgspec.json.decode(BODY)["request"],
        "request_id": "promo-1",
    }
    by_hand = b"tallystick operation v1\n" + SALT + rfc8785.dumps(asked) + b"\n" + GRANTED_TO.encode()
    assert hashlib.sha256(by_hand).hexdigest() == HASHES[4]
    assert entry_fingerprint(THIRD) == THIRD.fingerprint
    assert entry_preimage(THIRD).decode() == GRANT
    assert entry_leaf(THIRD).hex() == HASHES[5]
    assert read_preimage(GRANT.encode()).leaf.hex() == HASHES[5]
    for line in (BODY, GRANTED_TO, GRANT):
        assert rfc8785.dumps(msgspec.json.decode(line)).decode() == line


def test_every_kind_of_operation_is_in_the_table() -> None:
    section = TEXT.split("## Operations\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == OPERATION_KINDS


def test_the_published_fact_has_the_published_bytes_and_fingerprint() -> None:
    assert core_json(EVENT).decode() == CORE
    assert personal_json(EVENT.session_id, EVENT.user_id, EVENT.attributes).decode() == PERSONAL
    assert event_fingerprint(EVENT, SALT).hex() == HASHES[0]
    by_hand = b"tallystick usage event v2\n" + SALT + CORE.encode() + b"\n" + PERSONAL.encode()
    assert hashlib.sha256(by_hand).hexdigest() == HASHES[0]
    assert entry_fingerprint(FIRST) == FIRST.fingerprint


def test_the_published_entries_have_the_published_bytes_and_leaves() -> None:
    assert entry_preimage(FIRST).decode() == USAGE
    assert entry_preimage(SECOND).decode() == CORRECTION
    for line in (CORE, PERSONAL, USAGE, CORRECTION):
        assert rfc8785.dumps(msgspec.json.decode(line)).decode() == line
    leaves = [entry_leaf(FIRST), entry_leaf(SECOND)]
    assert [leaf.hex() for leaf in leaves] == HASHES[1:3]
    assert hashlib.sha256(b"\x01" + b"".join(leaves)).hexdigest() == HASHES[3]


def test_every_step_of_a_transaction_is_in_the_picture() -> None:
    within = [step for step in APPEND_STEPS if step not in ("append.taken", "append.answered")]
    assert re.findall(r"append\.\w+", TEXT) == within
