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
from tallystick.ledger.entry import ENTRY_COLUMNS, Entry, entry_fingerprint, entry_leaf, entry_preimage
from tallystick.usage.event import UsageEvent

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "ledger.md").read_text()
CORE, PERSONAL, USAGE, CORRECTION = (line for line in TEXT.splitlines() if re.match(r'\{"\w+":', line))
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
