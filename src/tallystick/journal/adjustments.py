"""Writing adjustments: entries that say by how much what was recorded of usage is to change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from tallystick.journal.copy_rows import entry_row, instant_of, microseconds
from tallystick.journal.database import Connection
from tallystick.journal.heads import Head, copy_rows, post
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.adjustment import ADJUSTMENT, Adjust
from tallystick.ledger.encoding import operation_fingerprint, personal_json
from tallystick.ledger.entry import ENTRY_COLUMNS, FREE, Entry, entry_leaf, instant_json
from tallystick.ledger.operation_body import encode_part, join_body, read_body
from tallystick.ledger.operations import Noted

_SQL = load_queries("adjustments")
_NOTHING = Entry._make([None] * len(ENTRY_COLUMNS))


class NewAdjustment(NamedTuple):
    """An adjustment to be written: its id, the instant that it is of, what it says, and 16 random bytes."""

    request_id: str
    time: datetime
    request: Adjust
    salt: bytes


class WrittenAdjustment(NamedTuple):
    """An adjustment that is stored. `request` is None where its entry has left the database."""

    seq: int
    request: Adjust | None


def stored_adjustments(connection: Connection, org_id: str, request_ids: Sequence[str]) -> dict[str, WrittenAdjustment]:
    """Those of these ids that are stored already, also where their entries have left the database."""
    found = connection.execute(_SQL["stored"], {"org": org_id, "ids": list(request_ids)})
    return {
        request_id: WrittenAdjustment(seq, None if body is None else read_body(ADJUSTMENT, body)[0])
        for request_id, seq, body in found
    }


def add_adjustments(
    connection: Connection,
    head: Head,
    org_id: str,
    adjustments: Sequence[NewAdjustment],
    recorded_at: datetime,
    rate_version: str,
) -> list[int]:
    """Append adjustments, whose ids are new, of one org, which is locked: their places. Its balances and head move."""
    rows = []
    for one in adjustments:
        head.seq += 1
        reached = microseconds(one.time)
        if reached > head.time_max_us:
            head.time_max_us, head.time_max_json = reached, instant_json(one.time)
        rows.append(entry_row(_entry(org_id, one, head, recorded_at, rate_version)))
        head.amount_pico += one.request.our_cost_pico
    if rows:
        copy_rows(connection, rows)
        head.recorded_at = recorded_at
        post(connection, {org_id: head})
    return list(range(head.seq - len(rows) + 1, head.seq + 1))


def _entry(org_id: str, one: NewAdjustment, head: Head, recorded_at: datetime, rate_version: str) -> Entry:
    asked, request = encode_part(one.request), one.request
    personal = personal_json(None, None, {})
    entry = _NOTHING._replace(
        org_id=org_id,
        seq=head.seq,
        kind=ADJUSTMENT,
        request_id=one.request_id,
        time=one.time,
        time_max=instant_of(head.time_max_us),
        recorded_at=recorded_at,
        feature=request.feature,
        environment=request.environment,
        provider=request.provider,
        model=request.model,
        api_key_id=request.api_key_id,
        action=request.action,
        attributes={},
        salt=one.salt,
        fingerprint=operation_fingerprint(one.salt, ADJUSTMENT, org_id, one.request_id, asked, personal),
        rate_version=rate_version,
        refers_to_seq=request.of_seq,
        body=join_body(asked, encode_part(Noted(effective_at=recorded_at))).decode(),
        **FREE,
    )
    return entry._replace(leaf=entry_leaf(entry))
