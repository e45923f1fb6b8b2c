"""The entries of one org and period, streamed one at a time in ascending sequence."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from typing import Any

import msgspec
from psycopg.types.json import set_json_loads

from tallystick.invoice.adjusted import adjusted_fact
from tallystick.invoice.facts import Corrections, StoredFact
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.period_scope import Scope, Span, find_span
from tallystick.ledger.entry import Entry
from tallystick.usage.meters import meter_order

_SQL = load_queries("period")
_FETCH_ROWS = 2000


def stream_facts(
    connection: Connection,
    scope: Scope,
    *,
    meters: Sequence[str] | None = None,
    uncharged: Sequence[str] = (),
    limit: int | None = None,
    after_seq: int = 0,
) -> Iterator[StoredFact]:
    """The period's requests with their corrections, then its adjustments; through cursors, so that memory stays small.

    Args:
        connection: one transaction, open for as long as facts are read; `begin_reading` makes it a fast one.
        scope: which facts.
        meters: only requests that used one of these and are charged.
        uncharged: with `meters`, the environments that are not charged.
        limit: at most so many.
        after_seq: only what came, or was corrected, after this entry.
    """
    span = find_span(connection, scope)
    chosen: dict[str, Any] = {"meters": None if meters is None else list(meters), "uncharged": list(uncharged)}
    chosen |= {"limit": limit, "after_seq": after_seq}
    with closing(stream_corrections(connection, span)) as stream:
        corrections = Corrections(stream)
        parts = (_stream(connection, query, span.parameters() | chosen) for query in ("requests", "requests_late"))
        facts = (StoredFact(entry, corrections.of(entry.seq)) for entry in chain.from_iterable(parts))
        adjusted = _adjusted(connection, span, meters, uncharged)
        yield from islice(chain(facts, (fact for fact in adjusted if fact.entry.seq > after_seq)), limit)


def _adjusted(
    connection: Connection, span: Span, meters: Sequence[str] | None = None, uncharged: Sequence[str] = ()
) -> Iterator[StoredFact]:
    """The period's adjustments as rows among its requests."""
    for entry in _stream(connection, "adjustments", span.parameters()):
        fact = adjusted_fact(entry)
        if meters is None or fact.uses(meters, uncharged):
            yield fact


def stream_span(connection: Connection, span: Span) -> Iterator[Entry]:
    """Every entry from the span's first to its bound, of the period or not, then the period's later ones."""
    parameters = span.parameters()
    return chain(_stream(connection, "dense_entries", parameters), _stream(connection, "late_entries", parameters))


def stream_corrections(connection: Connection, span: Span) -> Generator[Entry]:
    """The period's corrections, in the order of the entries that they refer to."""
    return _stream(connection, "corrections", span.parameters())


def period_meters(connection: Connection, scope: Scope) -> list[str]:
    """The meters that any of the requests counted or cost something for, in the order in which they are shown."""
    span = find_span(connection, scope)
    found = {meter for (meter,) in connection.execute(_SQL["period_meters"], span.parameters())}
    found.update(meter for fact in _adjusted(connection, span) for meter in fact.entry.line_meters)
    return sorted(found, key=meter_order)


def unrecorded_erasures(connection: Connection, org_id: str, seqs: Sequence[int]) -> list[int]:
    """Those of these entries of whose erasure there is no record."""
    rows = connection.execute(_SQL["unrecorded_erasures"], {"org": org_id, "seqs": list(seqs)})
    return [seq for (seq,) in rows]


def sequence_gaps(connection: Connection, org_id: str, from_seq: int, through_seq: int) -> list[tuple[int, int]]:
    """The holes in the org's dense sequence, as (first, last); an untouched ledger has none."""
    parameters = {"org": org_id, "from_seq": from_seq, "through_seq": through_seq}
    return [(first, last) for first, last in connection.execute(_SQL["sequence_gaps"], parameters)]


def _stream(connection: Connection, query: str, parameters: dict[str, Any]) -> Generator[Entry]:
    with connection.cursor(query) as cursor:
        cursor.itersize = _FETCH_ROWS
        set_json_loads(msgspec.json.decode, cursor)
        cursor.execute(_SQL[query], parameters, binary=True)
        yield from map(Entry._make, cursor)
