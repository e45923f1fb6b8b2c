"""Reading rollups: how far they are, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, LiteralString, NamedTuple

from psycopg import sql

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.period_scope import Span
from tallystick.rollup.model import Slice

_SQL = load_queries("rollup_read")


class Backlog(NamedTuple):
    """What is not added up: entries, orgs, when the oldest of them was recorded; and when anything was added up."""

    entries: int
    orgs: int
    oldest_at: datetime | None
    rolled_at: datetime | None


def backlog(connection: Connection, org_id: str | None = None) -> Backlog:
    """What is not added up of all orgs, or of one."""
    ((entries, orgs, oldest_at, rolled_at),) = connection.execute(_SQL["backlog"], {"org": org_id}).fetchall()
    return Backlog(int(entries), orgs, oldest_at, rolled_at)


def missing_days(connection: Connection, over_before: datetime, limit: int) -> list[tuple[str, date]]:
    """UTC days that ended before that and of which an org has entries that are not added up, the oldest first."""
    found = connection.execute(_SQL["missing_days"], {"over_before": over_before, "limit": limit})
    return [(org_id, day) for org_id, day in found]


def rolled_entries(connection: Connection, org_id: str | None = None) -> int:
    """How many entries are added up, of all orgs or of one."""
    ((entries,),) = connection.execute(_SQL["rolled_entries"], {"org": org_id}).fetchall()
    return int(entries)


class UsageRow(NamedTuple):
    """Requests of a period and of what else they are asked for by; see `rollup.model.RequestSums`."""

    period: str
    names: tuple[str, ...]
    requests: int
    failures: int
    empty: int
    unfinished: int
    unpriced: int
    cost_pico: int
    customer_cost_pico: int
    latency_ms: int
    latency_requests: int


class MeterRow(NamedTuple):
    """One meter of a period and of what else it is asked for by."""

    period: str
    names: tuple[str, ...]
    meter: str
    requests: int
    quantity: int
    cost_pico: int
    customer_cost_pico: int


class OperationRow(NamedTuple):
    """What happened to an account in a period: how often, and how many pico-credits."""

    period: str
    kind: str
    reason: str
    operations: int
    credits_pico: int


class ReopenedRow(NamedTuple):
    """By how much a day changed after it was over; see `rollup.model.Reopened`."""

    day: date
    recorded_on: date
    entries: int
    first_seq: int
    last_seq: int
    requests: int
    unpriced: int
    cost_pico: int


class RequestRow(NamedTuple):
    """A request as a list of a day's shows it; its cost is that of its correction where it has one."""

    seq: int
    request_id: str
    time: datetime
    recorded_at: datetime
    environment: str
    feature: str
    action: str | None
    provider: str | None
    model: str
    payer: str
    outcome: str
    usage_status: str
    latency_ms: int | None
    meter_names: list[str]
    meter_quantities: list[int]
    status: str
    cost_pico: int | None
    correction_seq: int | None


class Wanted(NamedTuple):
    """Which usage: an org's of these UTC days, both included; of `filters` by name, '' for what names none."""

    org_id: str
    first: date
    last: date
    filters: Mapping[str, str]


SLICES: tuple[LiteralString, ...] = Slice._fields
"""What requests may be told apart by; the names of columns."""
_PERIODS: dict[str, LiteralString] = {"day": "day::text", "month": "to_char(day, 'YYYY-MM')", "all": "''::text"}


def usage_by(connection: Connection, wanted: Wanted, period: str, by: Sequence[str], limit: int) -> list[UsageRow]:
    """Requests by `day`, `month` or of `all`, and by some of `SLICES`; at most `limit` rows."""
    rows = _summed(connection, "requests_by", wanted, period, by, len(by) + 1, limit)
    return [UsageRow(row[0], row[1 : len(by) + 1], *map(int, row[len(by) + 1 :])) for row in rows]


def meters_by(connection: Connection, wanted: Wanted, period: str, by: Sequence[str], limit: int) -> list[MeterRow]:
    """The same by meter; `filters` may name a `meter`, too."""
    rows = _summed(connection, "meters_by", wanted, period, by, len(by) + 2, limit)
    return [MeterRow(row[0], row[1 : len(by) + 1], row[len(by) + 1], *map(int, row[len(by) + 2 :])) for row in rows]


def operations_by(connection: Connection, wanted: Wanted, period: str, limit: int) -> list[OperationRow]:
    """What happened to the org's account by `day`, `month` or of `all`."""
    rows = _summed(connection, "operations_by", wanted, period, (), 3, limit)
    return [OperationRow(row[0], row[1], row[2], int(row[3]), int(row[4])) for row in rows]


def reopened_days(connection: Connection, wanted: Wanted, limit: int) -> list[ReopenedRow]:
    """Days that changed after they were over, in order."""
    given = {"org": wanted.org_id, "first": wanted.first, "last": wanted.last, "limit": limit}
    return [ReopenedRow(*row)._replace(cost_pico=int(row[7])) for row in connection.execute(_SQL["reopened"], given)]


def rolled_through(connection: Connection, org_id: str) -> tuple[int, int]:
    """The last entry of the org that is added up, and its last one."""
    ((rolled, last),) = connection.execute(_SQL["rolled"], {"org": org_id}).fetchall()
    return rolled, last


def requests_of_span(
    connection: Connection, span: Span, filters: Mapping[str, str], after_seq: int, limit: int
) -> list[RequestRow]:
    """Requests of a span in the database that have all of what is asked for, by their sequence."""
    given: dict[str, Any] = dict.fromkeys((*SLICES, "meter"))
    given |= {**filters, **span.parameters(), "after": after_seq, "limit": limit}
    return [RequestRow(*row) for row in connection.execute(_SQL["day_requests"], given, binary=True)]


def _summed(
    connection: Connection, query: str, wanted: Wanted, period: str, by: Sequence[str], places: int, limit: int
) -> list[tuple[Any, ...]]:
    names = {*SLICES, "meter"}
    if not {*by, *wanted.filters} <= names:
        raise ValueError("usage is told apart by the names of slices alone")
    columns = sql.SQL("").join(sql.SQL("{}, ").format(sql.Identifier(name)) for name in by)
    conditions = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(f"is_{name}")) for name in wanted.filters
    ]
    text = sql.SQL(_SQL[query].decode()).format(
        period=sql.SQL(_PERIODS[period]),
        names=columns,
        wanted=sql.SQL(" and ").join(conditions) if conditions else sql.SQL("true"),
        places=sql.SQL(", ").join(map(sql.SQL, _NUMBERS[:places])),
    )
    given = {"org": wanted.org_id, "first": wanted.first, "last": wanted.last, "limit": limit}
    return connection.execute(text, {**given, **{f"is_{name}": one for name, one in wanted.filters.items()}}).fetchall()


_NUMBERS: tuple[LiteralString, ...] = ("1", "2", "3", "4", "5", "6", "7", "8")
