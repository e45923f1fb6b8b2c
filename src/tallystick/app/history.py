"""Recorded history, one org after the other: where a time begins in an org's sequence, wherever its entries are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from tallystick.app.orgs import find_org
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.journal.database import Connection
from tallystick.journal.history import orgs_after
from tallystick.journal.period_scope import Head, Scope, find_span
from tallystick.journal.sealing import blocks_of_org, list_blocks

ORGS_AT_ONCE = 1000
SINCE_EVER = datetime(2000, 1, 1, tzinfo=UTC)
FOR_EVER = datetime(9990, 1, 1, tzinfo=UTC)


def history_orgs(runtime: Runtime, org_id: str | None) -> Iterator[str]:
    """That org, or every org that has entries, in order.

    Raises:
        NotFound: `unknown_org`.
    """
    if org_id is not None:
        find_org(runtime, org_id)
        yield org_id
        return
    after = ""
    while True:
        with runtime.database.operator() as connection:
            orgs = orgs_after(connection, after, ORGS_AT_ONCE)
        if not orgs:
            return
        yield from orgs
        after = orgs[-1]


def checked_time(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """A half-open time; where a bound is left out, all that is recorded lies within it.

    Raises:
        BadInput: `invalid_period`.
    """
    since, until = start or SINCE_EVER, end or FOR_EVER
    if since >= until:
        raise BadInput(
            "invalid_period",
            f"{format_instant(since)} is not before {format_instant(until)}",
            next_step="give the first instant of the time, and the first one after it",
            where="--to",
        )
    return since, until


def first_seq_since(connection: Connection, org_id: str, head: Head, start: datetime) -> int:
    """The first entry of the org that may be of `start` or later; those before it are all older.

    Where entries of that time may have left the database, it is the first of a block that holds any.
    """
    if not head.has_left(start):
        return find_span(connection, Scope(org_id, start, start, head.last_seq)).first_seq
    since = {block.block for block in list_blocks(connection) if block.time_max >= start}
    ranges = blocks_of_org(connection, org_id, 1, head.kept_from_seq - 1)
    return min((one.first_seq for one in ranges if one.block in since), default=head.kept_from_seq)
