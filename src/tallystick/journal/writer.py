"""The writer: events become ledger entries in one transaction, each exactly once.

    before any lock   price, encode and fingerprint every event                          (pure: `prepare`)
    one transaction   lock the org heads, in order of org                                (`write`)
                      probe which request ids are stored, unless all are taken for new; compare fingerprints
                      give the new events the next numbers of their orgs, and their leaves
                      COPY the entries; post the transfers, move balances and heads; commit, durably
                      (the server is asked twice: for the lock, and for all of the last line)
    after the commit  receipts

The head's lock makes the writer of an org alone with it, so that what the probe did not find cannot appear
before the commit, and numbers have no gaps: a transaction that fails takes its numbers back with it.

A probe costs the server a quarter of what the rows themselves cost, and mostly finds nothing. Without it the unique
index of (org, request id) refuses the whole transaction when an id is stored already, and it is written again, probed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from itertools import chain, islice
from operator import attrgetter

import msgspec
import psycopg

from tallystick.journal.copy_rows import END, SIGNATURE, TextArray, row_head
from tallystick.journal.database import Connection
from tallystick.journal.heads import COPY_ENTRIES, Head, lock_heads, post_script
from tallystick.journal.named_sql import load_queries
from tallystick.journal.prepare import Batch, Key, Refusal, Row, too_old
from tallystick.journal.round_trips import ask, give_rows
from tallystick.journal.steps import reached
from tallystick.ledger.encoding import core_json, event_fingerprint
from tallystick.ledger.entry import ENTRY_COLUMNS, Entry, entry_event, preimage
from tallystick.ledger.receipt import Receipt, ReceiptStatus
from tallystick.rates.model import CostStatus
from tallystick.usage.event import UsageEvent

_SQL = load_queries("writer")
_ENTRY = _SQL["entry"].replace(b"{columns}", ", ".join(ENTRY_COLUMNS).encode())
_REQUEST_INDEX = "ledger_entries_request"
_time_us = attrgetter("time_us")
_COPY_ROWS = 500  # that go to the server at a time, so that it takes some in while the next are made


class Stored(msgspec.Struct, gc=False):
    """What is stored under a request id, by an earlier group or by this one; `salt` is None once it was erased."""

    seq: int
    recorded_at: datetime
    fingerprint: bytes
    salt: bytes | None
    leaf: bytes
    cost_pico: int | None
    status: CostStatus
    rate_version: str
    reason: str | None


def write(connection: Connection, batches: Sequence[Batch], *, probe: bool = True) -> list[list[Receipt]]:
    """Store batches in one transaction, and commit it; for each, one receipt for each event, in order.

    When it returns, everything `accepted` is on disk. An event that comes again, in this group or a later one,
    is a `duplicate` with the original's receipt; with other content it is a `conflict`, and nothing is written
    for it. An event whose cost no entry can hold, or that is too old to be told from one that is counted already,
    is `rejected`. None of them harms the others.

    Args:
        connection: the writer's, outside of a transaction.
        batches: in the order in which they came: of several events with one id the first is written.
        probe: look first for what is stored already. Without it, `stored_already` says of the error that is raised
            whether something was.

    Raises:
        psycopg.Error: nothing of it is known to be stored; writing the same batches again is safe.
    """
    events = list(chain.from_iterable([batch.events for batch in batches]))
    keys = list(chain.from_iterable([batch.keys for batch in batches]))
    rows = list(chain.from_iterable([batch.rows for batch in batches]))
    heads = lock_heads(connection, sorted({key[0] for key, row in zip(keys, rows, strict=True) if row.refusal is None}))
    reached("append.locked")
    stored: dict[Key, Stored] = {}
    if probe or _some_refused(keys, rows, heads):
        stored = _probe(connection, keys, heads)
        reached("append.probed")
    places = _new_places(keys, rows, heads, stored)
    receipts: list[Receipt | None] = [None] * len(keys)
    all_are_new = sum(map(len, places.values())) == len(keys)
    if places:
        _write_new(connection, rows, events, heads, places, receipts, commit=all_are_new)
    if not all_are_new:
        _fill_in(connection, events, keys, rows, stored, receipts)
        connection.commit()
    reached("append.committed")
    answers = iter(receipts)
    return [list(islice(answers, len(batch.keys))) for batch in batches]  # type: ignore[arg-type]


def _some_refused(keys: list[Key], rows: list[Row], heads: dict[str, Head]) -> bool:
    """Whether one of the events is taken only if it is stored: no index can say that of it."""
    if any(row.refusal is not None for row in rows):
        return True
    since = {org: head.known_since_us for org, head in heads.items() if head.known_since_us}
    return any(row.time_us < since.get(key[0], 0) for key, row in zip(keys, rows, strict=True)) if since else False


def stored_already(error: psycopg.Error) -> bool:
    """Whether it means that a request id is stored already: writing the same with a probe says which."""
    return isinstance(error, psycopg.errors.UniqueViolation) and error.diag.constraint_name == _REQUEST_INDEX


def _new_places(
    keys: list[Key], rows: list[Row], heads: dict[str, Head], stored: dict[Key, Stored]
) -> dict[str, list[int]]:
    """By org, which of the events are to be written: the first of each id, in order."""
    seen = set(stored)
    places: dict[str, list[int]] = {}
    known_since_us = {org: head.known_since_us for org, head in heads.items()}
    for place, (key, row) in enumerate(zip(keys, rows, strict=True)):
        if key in seen or row.refusal is not None:
            continue
        org = key[0]
        if row.time_us < known_since_us[org]:
            row.refusal = too_old(known_since_us[org])
            continue
        seen.add(key)
        if org in places:
            places[org].append(place)
        else:
            places[org] = [place]
    return places


def _write_new(
    connection: Connection,
    rows: list[Row],
    events: list[UsageEvent],
    heads: dict[str, Head],
    places: dict[str, list[int]],
    receipts: list[Receipt | None],
    *,
    commit: bool,
) -> None:
    """Number the new events, hash them, send them, post what they add, and fill in their receipts."""
    parts = _copy_parts(rows, events, {org: heads[org] for org in sorted(places)}, places, receipts)
    first = next(parts)  # before the server waits for it; the rest of a large group is made while it takes that in
    moved = {org: _moved(heads[org], [rows[place] for place in those]) for org, those in places.items()}
    ask(connection, b"; ".join((COPY_ENTRIES, post_script(moved), *((b"commit",) if commit else ()))))
    give_rows(connection, chain((first,), parts))


def _moved(head: Head, added: list[Row]) -> Head:
    """The org's head once these rows are added."""
    latest = max(added, key=_time_us)
    return msgspec.structs.replace(
        head,
        seq=head.seq + len(added),
        time_max_us=max(latest.time_us, head.time_max_us),
        time_max_json=latest.time_json if latest.time_us > head.time_max_us else head.time_max_json,
        amount_pico=sum([row.our_cost_pico for row in added]),
        recorded_at=added[-1].recorded_at,
    )


def _copy_parts(
    rows: list[Row],
    events: list[UsageEvent],
    heads: dict[str, Head],
    places: dict[str, list[int]],
    receipts: list[Receipt | None],
) -> Iterator[bytes]:
    """What COPY reads, org by org, as the table has them; receipts are filled in as rows are made."""
    parts = [SIGNATURE]
    for org, head in heads.items():
        seq, latest_us, latest_json = head.seq, head.time_max_us, head.time_max_json
        for place in places[org]:
            row = rows[place]
            seq += 1
            if row.time_us > latest_us:
                latest_us, latest_json = row.time_us, row.time_json
            leaf = sha256(b"\x00" + preimage(row.entry_json, seq, latest_json)).digest()
            parts += (row_head(seq, latest_us, leaf), row.tail)
            receipts[place] = _accepted(org, events[place].request_id, row, seq, leaf)
            if len(parts) > 2 * _COPY_ROWS:
                yield b"".join(parts)
                parts.clear()
    parts.append(END)
    yield b"".join(parts)
    reached("append.copied")


def _fill_in(
    connection: Connection,
    events: list[UsageEvent],
    keys: list[Key],
    rows: list[Row],
    stored: dict[Key, Stored],
    receipts: list[Receipt | None],
) -> None:
    """The receipts of the events that this transaction has not written, in place."""
    first = {key: (row, receipt) for key, row, receipt in zip(keys, rows, receipts, strict=True) if receipt is not None}
    for place, receipt in enumerate(receipts):
        if receipt is None:
            key, row = keys[place], rows[place]
            known = stored.get(key) or (stored_as(*first[key]) if key in first else None)
            receipts[place] = _unwritten(connection, events[place], row, known)


def _probe(connection: Connection, keys: list[Key], heads: dict[str, Head]) -> dict[Key, Stored]:
    # An org at sequence 0 has nothing stored. One whose head was not locked has only events that are refused unless
    # they are stored already; for that no lock is needed.
    asked = [key for key in dict.fromkeys(keys) if key[0] not in heads or heads[key[0]].seq]
    if not asked:
        return {}
    orgs, requests = zip(*asked, strict=True)
    parameters = {"orgs": TextArray(orgs), "requests": TextArray(requests)}
    found = connection.execute(_SQL["probe"], parameters, binary=True).fetchall()
    return {asked[index - 1]: Stored(*rest) for index, *rest in found}


def _accepted(org_id: str, request_id: str, row: Row, seq: int, leaf: bytes) -> Receipt:
    return Receipt(
        status="accepted",
        org_id=org_id,
        request_id=request_id,
        fingerprint=row.fingerprint.hex(),
        seq=seq,
        recorded_at=row.recorded_at,
        leaf=leaf.hex(),
        cost_pico=row.cost_pico,
        cost_status=row.status,
        rate_version=row.rate_version,
        reason=row.reason,
    )


def stored_as(row: Row, receipt: Receipt) -> Stored:
    """What this transaction has stored, from the receipt for it."""
    return Stored(
        receipt.seq or 0,
        row.recorded_at,
        row.fingerprint,
        row.salt,
        bytes.fromhex(receipt.leaf or ""),
        row.cost_pico,
        row.status,
        row.rate_version,
        row.reason,
    )


def _receipt(status: ReceiptStatus, key: Key, stored: Stored) -> Receipt:
    return Receipt(
        status=status,
        org_id=key[0],
        request_id=key[1],
        fingerprint=stored.fingerprint.hex(),
        seq=stored.seq,
        recorded_at=stored.recorded_at,
        leaf=stored.leaf.hex(),
        cost_pico=stored.cost_pico,
        cost_status=stored.status,
        rate_version=stored.rate_version,
        reason=stored.reason,
    )


def _unwritten(connection: Connection, event: UsageEvent, row: Row, stored: Stored | None) -> Receipt:
    """The receipt of an event that this transaction did not write."""
    key = (event.org_id, event.request_id)
    if stored is None:
        refusal = row.refusal or Refusal("", "")
        return Receipt(
            status="rejected",
            org_id=event.org_id,
            request_id=event.request_id,
            fingerprint=row.fingerprint.hex(),
            code=refusal.code,
            reason=refusal.reason,
        )
    if stored.salt == row.salt:
        # This very batch has been written: the connection was lost before its commit was confirmed.
        return _receipt("accepted", key, stored)
    if stored.salt is None:
        offered, same = row.fingerprint, core_json(event) == stored_core(connection, event.org_id, stored.seq)
    else:
        offered = event_fingerprint(event, stored.salt)
        same = offered == stored.fingerprint
    if same:
        return _receipt("duplicate", key, stored)
    return Receipt(
        status="conflict",
        org_id=event.org_id,
        request_id=event.request_id,
        fingerprint=offered.hex(),
        seq=stored.seq,
        recorded_at=stored.recorded_at,
        stored_fingerprint=stored.fingerprint.hex(),
        code="request_id_conflict",
        reason=f"request id {event.request_id!r} of {event.org_id!r} is stored already with other content",
    )


def stored_core(connection: Connection, org_id: str, seq: int) -> bytes:
    """The core of an entry whose personal data was erased."""
    row = connection.execute(_ENTRY, {"org": org_id, "seq": seq}).fetchone()
    event = None if row is None else entry_event(Entry(*row))
    return b"" if event is None else core_json(event)
