"""The writer: events become ledger entries in one transaction, each exactly once.

    before any lock   price, encode and fingerprint every event                          (pure: `prepare`)
    one transaction   lock the org heads, in order of org                                (`write`)
                      probe which request ids are stored; compare fingerprints
                      give the new events the next numbers of their orgs, and their leaves
                      COPY the entries; post the transfers, move balances and heads; commit, durably
    after the commit  receipts

The head's lock makes the writer of an org alone with it, so that what the probe did not find cannot appear
before the commit, and numbers have no gaps: a transaction that fails takes its numbers back with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from itertools import chain
from operator import attrgetter
from typing import NamedTuple, Protocol

import msgspec

from tallystick.core.instants import format_instant
from tallystick.core.money import PICO_MAX
from tallystick.journal.copy_rows import (
    COLUMNS,
    END,
    SIGNATURE,
    TextArray,
    event_texts,
    ids_and_tables,
    instant_of,
    meter_names,
    microseconds,
    numbers,
    pricing_fields,
    row_head,
)
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.steps import reached
from tallystick.ledger.accounts import ORG_ACCOUNTS, PROVIDER_PAYABLE, PROVIDER_USAGE_COST, USD
from tallystick.ledger.encoding import SALT_BYTES, core_json, event_fingerprint, fingerprint, personal_json
from tallystick.ledger.entry import (
    ENTRY_COLUMNS,
    Entry,
    entry_event,
    entry_template,
    instant_json,
    known,
    preimage,
    unknown,
)
from tallystick.ledger.receipt import Receipt
from tallystick.rates.steps import CostRow, Integers
from tallystick.usage.event import UsageEvent

_SQL = load_queries("writer")
_COPY = _SQL["copy_entries"].replace(b"{columns}", ", ".join(COLUMNS).encode())
_ENTRY = _SQL["entry"].replace(b"{columns}", ", ".join(ENTRY_COLUMNS).encode())
_COPY_ROWS = 500  # that go to the server at a time, so that it takes some in while the next are made

Key = tuple[str, str]
"""Org and request id: the identity of an event."""


class Card(Protocol):
    """What the writer needs of a rate card: a pure price for an event."""

    def price_row(self, event: UsageEvent) -> CostRow: ...


class Refusal(NamedTuple):
    """Why an event is not written, should it not be stored already."""

    code: str
    reason: str


# Made for every event, so they are msgspec's: built in C.
class Row(msgspec.Struct, gc=False):
    """An event as it will be written: whole, but for what is known only under the head's lock."""

    entry_json: bytes
    tail: bytes
    """Of its row, after what `row_head` gives."""
    time_us: int
    time_json: bytes
    salt: bytes
    fingerprint: bytes
    cost_pico: int | None
    status: str
    rate_version: str
    reason: str | None
    recorded_at: datetime
    refusal: Refusal | None = None


class Stored(msgspec.Struct, gc=False):
    """What is stored under a request id, by an earlier group or by this one; `salt` is None once it was erased."""

    seq: int
    recorded_at: datetime
    fingerprint: bytes
    salt: bytes | None
    leaf: bytes
    cost_pico: int | None
    status: str
    rate_version: str
    reason: str | None


class Head(msgspec.Struct, gc=False):
    """Where an org stands while its head is locked, and what this transaction adds to it."""

    seq: int
    first_seq: int
    time_max_us: int
    time_max_json: bytes
    amount_pico: int = 0
    known_since_us: int = 0
    """Entries of before may have left the database: an event of before that is not stored may be one of them."""


class Batch(NamedTuple):
    """Events, priced and encoded, ready to be written."""

    events: Sequence[UsageEvent]
    keys: list[Key]
    rows: list[Row]
    recorded_at: datetime


_key = attrgetter("org_id", "request_id")
_texts = attrgetter(
    "org_id", "feature", "environment", "provider", "model", "api_key_id", "action", "outcome", "usage_status"
)


def prepare(
    events: Sequence[UsageEvent],
    recorded_at: datetime,
    card: Card,
    salts: bytes,
    *,
    known_since: datetime | None = None,
) -> Batch:
    """Price, encode and fingerprint the events. It is pure, and may be done while others are written.

    Args:
        events: checked ones.
        recorded_at: the present instant.
        card: prices them.
        salts: `SALT_BYTES` random bytes for each event.
        known_since: an event of before is not taken, unless it is stored. None: any is.
    """
    recorded_us, recorded_json = microseconds(recorded_at), instant_json(recorded_at)
    price, known_since_us = card.price_row, None if known_since is None else microseconds(known_since)
    rows = []
    for number, event in enumerate(events):
        salt = salts[number * SALT_BYTES : (number + 1) * SALT_BYTES]
        core = core_json(event)
        session_id, user_id, attributes = event.session_id, event.user_id, event.attributes
        digest = fingerprint(salt, core, personal_json(session_id, user_id, attributes))
        time_us, cost = microseconds(event.time), price(event)
        if not fits(cost.total_pico, cost.amount_pico):
            rows.append(_refused(event, salt, digest, recorded_at, _OUT_OF_RANGE))
            continue
        if known_since_us is not None and time_us < known_since_us:
            rows.append(_refused(event, salt, digest, recorded_at, _too_old(known_since_us)))
            continue
        total, status, reason = cost.total_pico, cost.status, cost.reason
        amounts, quantities = cost.amount_pico, cost.quantities
        template, pricing = _priced_alike(
            cost.meters, cost.price_pico, cost.per, cost.models, unknown(amounts), cost.rate_version, status, reason
        )
        entry_json = template % (
            *(amounts if total is not None else known(amounts)),
            *quantities,
            *(() if total is None else (total,)),
            core,
            digest.hex().encode(),
            recorded_json,
        )
        meters = event.meters
        names, names_field = meter_names(tuple(meters))
        tail = b"".join(
            (
                event_texts(*_texts(event)),
                names_field,
                pricing,
                numbers(
                    time_us,
                    recorded_us,
                    [meters[name] for name in names],
                    quantities,
                    amounts,
                    total,
                    event.latency_ms,
                    event.provider_cost_pico,
                ),
                ids_and_tables(event.request_id, user_id, session_id, salt, digest, event.price_context, attributes),
            )
        )
        rows.append(
            Row(
                entry_json,
                tail,
                time_us,
                instant_json(event.time),
                salt,
                digest,
                total,
                status,
                cost.rate_version,
                reason,
                recorded_at,
            )
        )
    return Batch(events, list(map(_key, events)), rows, recorded_at)


@lru_cache(maxsize=1 << 14)
def _priced_alike(
    meters: tuple[str, ...],
    price_pico: Integers,
    per: Integers,
    models: tuple[str | None, ...] | None,
    without_amount: tuple[bool, ...] | None,
    rate_version: str,
    status: str,
    reason: str | None,
) -> tuple[bytes, bytes]:
    """What events that are priced alike have in common: the template of E, and fields of the row."""
    priced = status != "unpriced"
    return (
        entry_template("usage", meters, price_pico, per, models, without_amount, rate_version, status, reason, priced),
        pricing_fields(rate_version, status, reason, meters, price_pico, per, models),
    )


def _refused(event: UsageEvent, salt: bytes, digest: bytes, recorded_at: datetime, refusal: Refusal) -> Row:
    return Row(b"", b"", 0, b"", salt, digest, None, "", "", None, recorded_at, refusal)


_OUT_OF_RANGE = Refusal("cost_out_of_range", "its cost is beyond what one entry can hold, about 9.2 million USD")


def _too_old(known_since_us: int) -> Refusal:
    return Refusal(
        "outside_dedup_window",
        f"it is of before {format_instant(instant_of(known_since_us))}, since when repeated events are known as such: "
        "it cannot be told from one that is counted already",
    )


def fits(total_pico: int | None, amount_pico: Sequence[int | None]) -> bool:
    """Whether every amount fits an entry's bigint columns."""
    if total_pico is not None and not -PICO_MAX <= total_pico <= PICO_MAX:
        return False
    for amount in amount_pico:  # noqa: SIM110 - a generator takes twice as long, and this runs for every event
        if amount is not None and not -PICO_MAX <= amount <= PICO_MAX:
            return False
    return True


def write(connection: Connection, batches: Sequence[Batch]) -> list[list[Receipt]]:
    """Store batches in one transaction, and commit it; for each, one receipt for each event, in order.

    When it returns, everything `accepted` is on disk. An event that comes again, in this group or a later one,
    is a `duplicate` with the original's receipt; with other content it is a `conflict`, and nothing is written
    for it. An event whose cost no entry can hold, or that is too old to be told from one that is counted already,
    is `rejected`. None of them harms the others.

    Args:
        connection: the writer's, outside of a transaction.
        batches: in the order in which they came: of several events with one id the first is written.

    Raises:
        psycopg.Error: nothing of it is known to be stored; writing the same batches again is safe.
    """
    events = list(chain.from_iterable(batch.events for batch in batches))
    keys = list(chain.from_iterable(batch.keys for batch in batches))
    rows = list(chain.from_iterable(batch.rows for batch in batches))
    heads = lock_heads(connection, sorted({key[0] for key, row in zip(keys, rows, strict=True) if row.refusal is None}))
    reached("append.locked")
    stored = _probe(connection, keys, heads)
    reached("append.probed")
    places = _new_places(keys, rows, heads, stored)
    receipts: list[Receipt | None] = [None] * len(keys)
    if places:
        _copy_new(connection, keys, rows, heads, places, receipts, stored)
        reached("append.copied")
        recorded_at = max(batch.recorded_at for batch in batches)
        post(connection, {org: heads[org] for org in places}, recorded_at)
        reached("append.posted")
    for place, receipt in enumerate(receipts):
        if receipt is None:
            receipts[place] = _unwritten(connection, events[place], rows[place], stored.get(keys[place]))
    connection.commit()
    reached("append.committed")
    answers = iter(receipts)
    return [[next(answers) for _ in batch.keys] for batch in batches]  # type: ignore[misc]


def _new_places(
    keys: list[Key], rows: list[Row], heads: dict[str, Head], stored: dict[Key, Stored]
) -> dict[str, list[int]]:
    """By org, which of the events are to be written: the first of each id, in order."""
    seen = set(stored)
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        row = rows[place]
        if key in seen or row.refusal is not None:
            continue
        if row.time_us < heads[key[0]].known_since_us:
            row.refusal = _too_old(heads[key[0]].known_since_us)
            continue
        seen.add(key)
        places.setdefault(key[0], []).append(place)
    return places


def _copy_new(
    connection: Connection,
    keys: list[Key],
    rows: list[Row],
    heads: dict[str, Head],
    places: dict[str, list[int]],
    receipts: list[Receipt | None],
    stored: dict[Key, Stored],
) -> None:
    """Number the new events, hash them, send them, and fill in their receipts; org by org, as the table has them."""
    parts = [SIGNATURE]
    with connection.cursor() as cursor, cursor.copy(_COPY) as stream:
        for org in sorted(places):
            head = heads[org]
            for place in places[org]:
                row = rows[place]
                head.seq = seq = head.seq + 1
                if row.time_us > head.time_max_us:
                    head.time_max_us, head.time_max_json = row.time_us, row.time_json
                leaf = sha256(b"\x00" + preimage(row.entry_json, seq, head.time_max_json)).digest()
                parts += (row_head(seq, head.time_max_us, leaf), row.tail)
                cost_pico = row.cost_pico
                if cost_pico is not None:
                    head.amount_pico += cost_pico
                key = keys[place]
                stored[key] = one = Stored(
                    seq,
                    row.recorded_at,
                    row.fingerprint,
                    row.salt,
                    leaf,
                    cost_pico,
                    row.status,
                    row.rate_version,
                    row.reason,
                )
                receipts[place] = _receipt("accepted", key, one)
                if len(parts) > 2 * _COPY_ROWS:
                    stream.write(b"".join(parts))
                    parts.clear()
        parts.append(END)
        stream.write(b"".join(parts))


def lock_heads(connection: Connection, orgs: list[str]) -> dict[str, Head]:
    """Lock the orgs' heads (made when missing) until the transaction ends: where each stands."""
    if not orgs:
        return {}
    found = _locked(connection, orgs)
    if len(found) < len(orgs):
        # Locks already held are kept; taking the missing ones now could close a circle with another group,
        # so give them up and start again with every head in place.
        connection.rollback()
        known = {org for org, *_ in found}
        missing = {"orgs": [org for org in orgs if org not in known], "asset": USD, "accounts": list(ORG_ACCOUNTS)}
        connection.execute(_SQL["add_missing_heads"], missing)
        connection.commit()
        found = _locked(connection, orgs)
    return {
        org: Head(seq, seq + 1, microseconds(time_max), instant_json(time_max), 0, microseconds(forgotten_until))
        for org, seq, time_max, forgotten_until in found
    }


def _locked(connection: Connection, orgs: list[str]) -> list[tuple[str, int, datetime, datetime]]:
    return connection.execute(_SQL["lock_heads"], {"orgs": orgs}, binary=True).fetchall()


def post(connection: Connection, heads: dict[str, Head], recorded_at: datetime) -> None:
    """Post what entries have added to their orgs, which are locked: transfers, balances, and the heads themselves."""
    moved = list(heads.values())
    parameters = {
        "orgs": list(heads),
        "first_seqs": [head.first_seq for head in moved],
        "last_seqs": [head.seq for head in moved],
        "time_max": [instant_of(head.time_max_us) for head in moved],
        "amounts": [str(head.amount_pico) for head in moved],
        "debit": PROVIDER_USAGE_COST,
        "credit": PROVIDER_PAYABLE,
        "asset": USD,
        "recorded_at": recorded_at,
    }
    connection.execute(_SQL["post"], parameters)


def copy_rows(connection: Connection, rows: Sequence[bytes]) -> None:
    """Send whole rows, as `copy_rows.entry_row` makes them."""
    with connection.cursor() as cursor, cursor.copy(_COPY) as stream:
        stream.write(b"".join((SIGNATURE, *rows, END)))


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


def _receipt(status: str, key: Key, stored: Stored) -> Receipt:
    return Receipt(
        status=status,  # type: ignore[arg-type]
        org_id=key[0],
        request_id=key[1],
        fingerprint=stored.fingerprint.hex(),
        seq=stored.seq,
        recorded_at=stored.recorded_at,
        leaf=stored.leaf.hex(),
        cost_pico=stored.cost_pico,
        cost_status=stored.status,  # type: ignore[arg-type]
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
        offered, same = row.fingerprint, core_json(event) == _stored_core(connection, event.org_id, stored.seq)
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


def _stored_core(connection: Connection, org_id: str, seq: int) -> bytes:
    """The core of an entry whose personal data was erased."""
    row = connection.execute(_ENTRY, {"org": org_id, "seq": seq}).fetchone()
    event = None if row is None else entry_event(Entry(*row))
    return b"" if event is None else core_json(event)
