"""The writer: a batch of events becomes ledger entries in one transaction, each event exactly once.

    before any lock   fingerprint, price and encode every event                          (pure)
    one transaction   lock the org heads, in order of org
                      probe which request ids are stored; compare fingerprints
                      give the new events the next numbers of their orgs
                      COPY facts and entries; move the heads; commit, durably
    after the commit  receipts

The head's lock makes the writer of an org alone with it, so that what the probe did not find cannot appear
before the commit, and numbers have no gaps: a transaction that fails takes its numbers back with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

import psycopg

from tallystick.core.money import PICO_MAX
from tallystick.journal.copy_rows import END, SIGNATURE, entry_row_head, event_row_head, row_tails
from tallystick.journal.database import Connection, Database
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.encoding import fingerprint
from tallystick.ledger.receipt import Receipt
from tallystick.rates.model import Cost
from tallystick.usage.event import UsageEvent

_SQL = load_queries("writer")
_ATTEMPTS_MAX = 5  # of a transaction that lost a deadlock; locks are taken in one order, so one is hardly ever lost
_COPY_BYTES = 1 << 18

Key = tuple[str, str]
"""Org and request id: the identity of an event."""


class Card(Protocol):
    """What the writer needs of a rate card: a pure price for an event."""

    def price_event(self, event: UsageEvent) -> Cost: ...


# Made for every event: a NamedTuple costs a third of a frozen dataclass.
class _Encoded(NamedTuple):
    """A new event's rows, whole but for the number it will get, and what its receipt will say."""

    fingerprint: bytes
    cost: Cost
    event_tail: bytes
    entry_tail: bytes


class _Stored(NamedTuple):
    """What is stored under a request id, by an earlier batch or by this one."""

    seq: int
    recorded_at: datetime
    fingerprint: bytes
    cost_pico: int | None
    status: str
    rate_version: str
    reason: str | None


class Batch(NamedTuple):
    """Events, priced and encoded, ready to be written; one transaction's worth."""

    events: Sequence[UsageEvent]
    fingerprints: Sequence[bytes]
    encoded: dict[Key, _Encoded]
    out_of_range: dict[bytes, Key]
    """By fingerprint, the events that no entry can hold the cost of."""
    recorded_at: datetime


def append(database: Database, events: Sequence[UsageEvent], recorded_at: datetime, card: Card) -> list[Receipt]:
    """Store the events and their cost; one receipt for each, in order: `write` of what `prepare` gives."""
    return write(database, prepare(events, recorded_at, card))


def prepare(events: Sequence[UsageEvent], recorded_at: datetime, card: Card) -> Batch:
    """Fingerprint, price and encode the events. It is pure, and may be done while another batch is written."""
    encoded: dict[Key, _Encoded] = {}
    fingerprints = []
    out_of_range: dict[bytes, Key] = {}
    for event in events:
        digest = fingerprint(event)
        fingerprints.append(digest)
        key = (event.org_id, event.request_id)
        if key not in encoded:
            cost = card.price_event(event)
            if fits(cost):
                encoded[key] = _Encoded(digest, cost, *row_tails(event, cost, recorded_at, digest))
            else:
                out_of_range[digest] = key
    return Batch(events, fingerprints, encoded, out_of_range, recorded_at)


def write(database: Database, batch: Batch) -> list[Receipt]:
    """Store a batch; one receipt for each event, in order.

    When it returns, everything `accepted` is on disk. An event that comes again, in this batch or a later one,
    is a `duplicate` with the original's receipt; with other content it is a `conflict`, and nothing is written
    for it. An event whose cost no entry can hold is `rejected`. None of them harms the others.

    Raises:
        Unavailable: `database_unreachable`; sending the same events again is safe.
    """
    before, written = _write_with_retry(database, batch)
    receipts = []
    for event, digest in zip(batch.events, batch.fingerprints, strict=True):
        key = (event.org_id, event.request_id)
        if key in before:
            receipts.append(_repeated(event, digest, before[key]))
        elif digest in batch.out_of_range:
            receipts.append(_out_of_range(event, digest))
        else:
            receipts.append(_receipt("accepted", event, digest, written[key]))
            before[key] = written[key]  # the next one of this batch under the same id repeats it
    return receipts


def _write_with_retry(database: Database, batch: Batch) -> tuple[dict[Key, _Stored], dict[Key, _Stored]]:
    attempt = 1
    while True:
        try:
            with database.connection() as connection:
                return _write(connection, batch)
        except psycopg.errors.TransactionRollback:
            if attempt == _ATTEMPTS_MAX:
                raise
            attempt += 1


def _write(connection: Connection, batch: Batch) -> tuple[dict[Key, _Stored], dict[Key, _Stored]]:
    """What was stored before, and what this call has written."""
    encoded, recorded_at = batch.encoded, batch.recorded_at
    heads = lock_heads(connection, sorted({org for org, _ in encoded}))
    # What is out of range now may have been stored while it had no price; for that no lock is needed.
    before = _probe(connection, list({**encoded, **dict.fromkeys(batch.out_of_range.values())}), heads)
    written: dict[Key, _Stored] = {}
    event_rows, entry_rows = [SIGNATURE], [SIGNATURE]
    for key, (digest, cost, event_tail, entry_tail) in encoded.items():
        if key in before:
            continue
        seq = heads[key[0]] = heads[key[0]] + 1
        event_rows += (event_row_head(seq), event_tail)
        entry_rows += (entry_row_head(seq), entry_tail)
        written[key] = _Stored(seq, recorded_at, digest, cost.total_pico, cost.status, cost.rate_version, cost.reason)
    if written:
        copy(connection, "copy_events", event_rows)
        copy(connection, "copy_entries", entry_rows)
        advance_heads(connection, {org: heads[org] for org, _ in written})
    return before, written


def lock_heads(connection: Connection, orgs: list[str]) -> dict[str, int]:
    """Lock the orgs' heads (made when missing) until the transaction ends: the last sequence number of each."""
    if not orgs:
        return {}
    heads = dict(connection.execute(_SQL["lock_heads"], {"orgs": orgs}).fetchall())
    if len(heads) < len(orgs):
        # Locks already held are kept; taking the missing ones now could close a circle with another batch,
        # so give them up and start again with every head in place.
        connection.rollback()
        connection.execute(_SQL["add_missing_heads"], {"orgs": [org for org in orgs if org not in heads]})
        connection.commit()
        heads = dict(connection.execute(_SQL["lock_heads"], {"orgs": orgs}).fetchall())
    return heads


def advance_heads(connection: Connection, heads: dict[str, int]) -> None:
    """Record the new last sequence numbers; the heads are locked."""
    connection.execute(_SQL["advance_heads"], {"orgs": list(heads), "seqs": list(heads.values())})


def copy(connection: Connection, query: str, rows: list[bytes]) -> None:
    """Send rows (after `SIGNATURE`) through the binary COPY of that name."""
    rows.append(END)
    data = memoryview(b"".join(rows))
    with connection.cursor() as cursor, cursor.copy(_SQL[query]) as stream:
        for start in range(0, len(data), _COPY_BYTES):
            stream.write(data[start : start + _COPY_BYTES])


def _probe(connection: Connection, keys: list[Key], heads: dict[str, int]) -> dict[Key, _Stored]:
    asked = [key for key in keys if heads.get(key[0], 1)]  # an org at sequence 0 has nothing stored
    if not asked:
        return {}
    parameters = {"orgs": [org for org, _ in asked], "requests": [request for _, request in asked]}
    found = connection.execute(_SQL["probe"], parameters, binary=True).fetchall()
    return {asked[index - 1]: _Stored(*rest) for index, *rest in found}


def fits(cost: Cost) -> bool:
    """Whether every amount fits an entry's bigint columns."""
    if not -PICO_MAX <= (cost.total_pico or 0) <= PICO_MAX:
        return False
    for line in cost.lines:  # noqa: SIM110 - a generator takes twice as long, and this runs for every event
        if not -PICO_MAX <= (line.amount_pico or 0) <= PICO_MAX:
            return False
    return True


def _receipt(status: str, event: UsageEvent, digest: bytes, stored: _Stored) -> Receipt:
    return Receipt(
        status=status,  # type: ignore[arg-type]
        org_id=event.org_id,
        request_id=event.request_id,
        fingerprint=digest.hex(),
        seq=stored.seq,
        recorded_at=stored.recorded_at,
        cost_pico=stored.cost_pico,
        cost_status=stored.status,  # type: ignore[arg-type]
        rate_version=stored.rate_version,
        reason=stored.reason,
    )


def _repeated(event: UsageEvent, digest: bytes, stored: _Stored) -> Receipt:
    if digest == stored.fingerprint:
        return _receipt("duplicate", event, digest, stored)
    return Receipt(
        status="conflict",
        org_id=event.org_id,
        request_id=event.request_id,
        fingerprint=digest.hex(),
        seq=stored.seq,
        recorded_at=stored.recorded_at,
        stored_fingerprint=stored.fingerprint.hex(),
        code="request_id_conflict",
        reason=f"request id {event.request_id!r} of {event.org_id!r} is stored already with other content",
    )


def _out_of_range(event: UsageEvent, digest: bytes) -> Receipt:
    return Receipt(
        status="rejected",
        org_id=event.org_id,
        request_id=event.request_id,
        fingerprint=digest.hex(),
        code="cost_out_of_range",
        reason="its cost is beyond what one entry can hold, about 9.2 million USD",
    )
