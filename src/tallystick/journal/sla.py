"""What service credits need of the database: slow requests, closed months, and what those were looked at with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from tallystick.billing.sla import Promise, SlowCount
from tallystick.billing.spans import Span as Time
from tallystick.contract.sla import SlowStep
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.period_scope import Scope, find_span

_SQL = load_queries("sla")


class Look(NamedTuple):
    """With which incidents a closed month was looked at, and what it comes to with them."""

    org_id: str
    invoice_id: str
    incidents_through: int
    credit_cents: int


class Unlooked(NamedTuple):
    """A month that is to be looked at again."""

    org_id: str
    invoice_id: str
    month: str
    start: datetime
    end: datetime


def thresholds_of(promise: Promise) -> list[int]:
    """The times in milliseconds that requests are counted by."""
    return sorted({step.over_ms for step in promise.sla.latency if isinstance(step, SlowStep)})


def count_slow(
    connection: Connection, org_id: str, through_seq: int, promise: Promise, times: Sequence[Time]
) -> dict[int, SlowCount]:
    """The successful requests of these times by threshold, all of them in the database.

    Args:
        connection: the org's, in one snapshot (`begin_reading`).
        through_seq: entries after this one do not count.
        times: in order, apart from each other.
    """
    thresholds = thresholds_of(promise)
    counts = {over_ms: SlowCount(0, 0) for over_ms in thresholds}
    if not times or not thresholds:
        return counts
    span = find_span(connection, Scope(org_id, times[0][0], times[-1][1], through_seq))
    values = span.parameters() | {
        "starts": [start for start, _ in times],
        "ends": [end for _, end in times],
        "over_ms": thresholds,
        "uncharged": list(promise.uncharged),
        "features": list(promise.sla.features),
    }
    for over_ms, requests, slow in connection.execute(_SQL["slow_requests"], values):
        counts[over_ms] = SlowCount(requests, slow)
    return counts


def documents_of(connection: Connection, invoices: Collection[str]) -> dict[str, str]:
    """The documents of closed months, by id. An operator's transaction."""
    return dict(connection.execute(_SQL["documents"], {"invoices": list(invoices)}).fetchall())


def add_looks(connection: Connection, looks: Sequence[Look]) -> None:
    """Note with which incidents months were looked at. An operator's transaction."""
    if looks:
        columns = [list(column) for column in zip(*looks, strict=True)]
        connection.execute(_SQL["look"], dict(zip(("orgs", "invoices", "through", "cents"), columns, strict=True)))


def list_looks(connection: Connection, org_id: str | None = None) -> list[Look]:
    """All looks, of one org or of all; those of a month in their order."""
    return [Look(*row) for row in connection.execute(_SQL["looks"], {"org": org_id})]


def unlooked(connection: Connection, org_id: str | None = None) -> list[Unlooked]:
    """Issued months that a later incident touches, the oldest first."""
    return [Unlooked(*row) for row in connection.execute(_SQL["unlooked"], {"org": org_id})]


def never_looked(
    connection: Connection, org_id: str | None, promising: Collection[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Issued months that were never looked at, by org and invoice.

    Args:
        promising: the contract versions that promise something, by name and hash.
    """
    contracts, hashes = [name for name, _ in promising], [sha256 for _, sha256 in promising]
    return connection.execute(
        _SQL["never_looked"], {"org": org_id, "contracts": contracts, "hashes": hashes}
    ).fetchall()


def sla_lots(connection: Connection, org_id: str) -> list[int]:
    """The entries by which the org was given credits for breaches of the SLA, wherever those entries are by now."""
    return [seq for (seq,) in connection.execute(_SQL["lots"], {"org": org_id})]
