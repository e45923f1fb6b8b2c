"""The facts of one org and period: summed by the database, or streamed one at a time.

Every query looks at entries up to one ledger sequence only. It is read first, in the same snapshot as the
rest: sequences are dense and given under the org head's lock, so that nothing at or below it is missing and
nothing that arrives meanwhile is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import zip_longest
from typing import Any, NamedTuple

import msgspec
from psycopg.types.json import set_json_loads

from tallystick.core.periods import Period
from tallystick.invoice.digest import FactsHash
from tallystick.invoice.facts import StoredEntry, StoredFact
from tallystick.invoice.usage import PeriodFacts, PeriodSums
from tallystick.journal.database import Connection, Database
from tallystick.journal.named_sql import load_queries
from tallystick.rates.model import CostLine
from tallystick.usage.event import UsageEvent
from tallystick.usage.meters import meter_order

_SQL = load_queries("invoices")
_FETCH_ROWS = 2000
_FETCH_SUMS = 16  # a block of facts has about 320 kB
_ENTRY_COLUMNS = 14


class Scope(NamedTuple):
    """Which facts: those of one org whose time is in [start, end) and whose sequence is at most `through_seq`."""

    org_id: str
    start: datetime
    end: datetime
    through_seq: int

    def parameters(self) -> dict[str, Any]:
        """As the queries name them."""
        return {"org": self.org_id, "start": self.start, "end": self.end, "through_seq": self.through_seq}


def begin_reading(connection: Connection) -> None:
    """Make the connection's transaction, which has not begun yet, one snapshot, fit for many facts."""
    connection.execute("set transaction isolation level repeatable read, read only")
    connection.execute(_SQL["settings"])


class Astray(NamedTuple):
    """A ledger entry of the period whose fact is gone, or says another time or request."""

    seq: int
    request_id: str
    fact_is_missing: bool


def sum_period(database: Database, org_id: str, period: Period) -> PeriodFacts:
    """Everything an invoice needs to know of the facts, as of now: one snapshot, sums made by the database.

    Memory does not grow with the number of facts.

    Raises:
        Unavailable: `database_unreachable`.
    """
    with database.connection() as connection:
        begin_reading(connection)
        head = connection.execute(_SQL["last_seq"], {"org": org_id}).fetchone()
        scope = Scope(org_id, period.start, period.end, 0 if head is None else head[0])
        sums = PeriodSums()
        facts = FactsHash()
        with connection.cursor("sums") as cursor:
            cursor.itersize = _FETCH_SUMS
            for row in cursor.execute(_SQL["sums"], scope.parameters(), binary=True):
                _take(_SumRow(*row), sums, facts)
    return PeriodFacts(sums, scope.through_seq, facts.hexdigest(), facts.events)


class _SumRow(NamedTuple):
    """A row of the query `sums`, whose comment says what each kind holds; what a kind does not have is null."""

    kind: str
    environment: str
    failed: bool
    name: str
    provider: str | None
    model: str
    amount: Decimal
    requests: int
    unknown: int
    place: int | None
    block: bytes


def _take(row: _SumRow, sums: PeriodSums, facts: FactsHash) -> None:
    group = (row.environment, row.failed)
    match row.kind:
        case "cost":
            sums.meter(group, row.name).cost_pico = int(row.amount)
        case "facts":
            facts.add_block(row.block)
        case "quantity":
            found = sums.meter(group, row.name)
            found.quantity, found.events = int(row.amount), row.requests
        case "request":
            sums.events[group] = sums.events.get(group, 0) + row.requests
            if row.name is not None:  # an entry that was removed from outside has no version
                sums.rates[row.name] = sums.rates.get(row.name, 0) + row.requests
            of_model = sums.model(row.provider, row.model)
            of_model.events += row.requests
            of_model.unpriced += row.unknown
            of_model.cost_pico += int(row.amount)
        case "unknown":
            sums.meter(group, row.name).cost_unknown = row.unknown
        case kind:
            raise AssertionError(f"the query gives no rows of kind {kind}")


def _bounded(connection: Connection, scope: Scope) -> dict[str, Any]:
    """The scope's parameters, with the range of sequence numbers that its facts lie in."""
    ((first, last),) = connection.execute(_SQL["seq_range"], scope.parameters()).fetchall()
    return {**scope.parameters(), "first_seq": first, "last_seq": last}


def stream_facts(
    connection: Connection,
    scope: Scope,
    *,
    meters: Sequence[str] | None = None,
    uncharged: Sequence[str] = (),
    limit: int | None = None,
) -> Iterator[StoredFact]:
    """The facts with their entries, in ascending sequence, through a cursor of the server: memory stays small.

    Args:
        connection: one transaction, open for as long as facts are read; `begin_reading` makes it a fast one.
        scope: which facts.
        meters: only requests that used one of these and are charged.
        uncharged: with `meters`, the environments that are not charged.
        limit: at most so many.
    """
    parameters = {
        **_bounded(connection, scope),
        "meters": None if meters is None else list(meters),
        "uncharged": list(uncharged),
        "limit": limit,
    }
    with connection.cursor("facts") as cursor:
        cursor.itersize = _FETCH_ROWS
        set_json_loads(msgspec.json.decode, cursor)
        cursor.execute(_SQL["facts"], parameters, binary=True)
        yield from map(_fact, cursor)


def period_meters(connection: Connection, scope: Scope) -> list[str]:
    """The meters that any of the facts counted or cost something for, in the order in which they are shown."""
    rows = connection.execute(_SQL["period_meters"], _bounded(connection, scope))
    return sorted((meter for (meter,) in rows), key=meter_order)


def entries_astray(connection: Connection, scope: Scope) -> list[Astray]:
    """Ledger entries of the period whose fact was changed or removed from outside."""
    return [Astray(*row) for row in connection.execute(_SQL["entries_astray"], scope.parameters())]


def sequence_gaps(connection: Connection, org_id: str, through_seq: int) -> list[tuple[int, int]]:
    """The holes in the org's dense sequence, as (first, last); an untouched ledger has none."""
    rows = connection.execute(_SQL["sequence_gaps"], {"org": org_id, "through_seq": through_seq})
    return [(first, last) for first, last in rows]


def _fact(row: Sequence[Any]) -> StoredFact:
    (
        seq, recorded_at, fingerprint,
        org_id, request_id, time, user_id, session_id, feature, environment,
        model, provider, meter_names, meter_quantities, api_key_id, action,
        latency_ms, outcome, usage_status, price_context, provider_cost_pico, attributes,
        *entries,
    ) = row  # fmt: skip
    meters, torn = _meters(meter_names, meter_quantities)
    if price_context and not _holds_texts(price_context):
        price_context, torn = {}, ("price_context", str(price_context))
    event = UsageEvent(
        org_id=org_id,
        request_id=request_id,
        time=time,
        user_id=user_id,
        session_id=session_id,
        feature=feature,
        environment=environment,
        model=model,
        meters=meters,
        provider=provider,
        api_key_id=api_key_id,
        action=action,
        latency_ms=latency_ms,
        outcome=outcome,
        usage_status=usage_status,
        price_context=price_context,
        provider_cost_pico=provider_cost_pico,
        attributes=attributes,
    )
    entry, correction = entries[:_ENTRY_COLUMNS], entries[_ENTRY_COLUMNS:]
    return StoredFact(seq, recorded_at, fingerprint, event, _entry(entry), _entry(correction), torn)


def _meters(names: list[Any], quantities: list[Any]) -> tuple[dict[str, int], tuple[str, str] | None]:
    """The meters of a fact, and how they are out of step: what was changed from outside may hold anything."""
    try:
        meters: dict[str, int] = dict(zip(names, quantities, strict=True))
        if len(meters) == len(names) and None not in meters and None not in meters.values():
            return meters, None
    except (TypeError, ValueError):  # other lengths, or lists in lists
        pass
    pairs = zip(names, quantities, strict=False)
    sound = {name: quantity for name, quantity in pairs if isinstance(name, str) and isinstance(quantity, int)}
    return sound, ("meters", f"{names} with quantities {quantities}")


def _holds_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(member, str) for member in value.values())


def _entry(row: Sequence[Any]) -> StoredEntry | None:
    seq, request_id, time, recorded_at, rate_version, status, cost_pico, *arrays, models, reason = row
    if seq is None:
        return None
    arrays.append([None] * len(arrays[0]) if models is None else models)
    # Arrays of other lengths were changed from outside: what is missing is filled up, and so stays to be seen.
    lines = tuple(CostLine(*values) for values in zip_longest(*arrays))
    return StoredEntry(seq, request_id, time, recorded_at, rate_version, status, cost_pico, lines, reason)
