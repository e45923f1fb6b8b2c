"""The clocks of test orgs: where each stands, put forward, and asked for the present instant.

An org is a test org from its beginning or never: its clock is there before its first subscription and its first entry.
Clocks go forward only; the database refuses the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from tallystick.core.errors import Unavailable
from tallystick.core.instants import Clock
from tallystick.journal.database import Connection, Database
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.accounts import ORG_ACCOUNTS, USD

_SQL = load_queries("billing")
_ADD_HEADS = load_queries("writer")["add_missing_heads"]
_KNOWN_SECONDS = 1.0
_AWAY_SECONDS = 30.0


class ClockRow(NamedTuple):
    """Where the clock of a test org was put, by whom, and when that was on the machine's clock."""

    ordinal: int
    at: datetime
    author: str
    recorded_at: datetime


def clock_of(connection: Connection, org_id: str) -> datetime | None:
    """Where the clock of a test org stands; None for an org that is none."""
    row = connection.execute(_SQL["clock_of"], {"org": org_id}).fetchone()
    return None if row is None else row[0]


def clocks_of(connection: Connection, orgs: Iterable[str]) -> dict[str, datetime]:
    """Where the clocks stand of those of these orgs that are test orgs."""
    return dict(connection.execute(_SQL["clocks_of"], {"orgs": list(orgs)}).fetchall())


def clock_history(connection: Connection, org_id: str) -> list[ClockRow]:
    """Where the clock of a test org was put, in order."""
    return [ClockRow(*row) for row in connection.execute(_SQL["clock_history"], {"org": org_id})]


def lock_org(connection: Connection, org_id: str) -> bool:
    """Have nobody write for the org until this transaction, a writer's, ends; whether it is new: nothing is recorded of
    it, and it was never on a plan.
    """
    connection.execute(_ADD_HEADS, {"orgs": [org_id], "asset": USD, "accounts": list(ORG_ACCOUNTS)})
    ((last_seq, was_on_a_plan),) = connection.execute(_SQL["lock_org"], {"org": org_id}).fetchall()
    return not last_seq and not was_on_a_plan


def put_clock(connection: Connection, org_id: str, at: datetime, author: str, recorded_at: datetime) -> None:
    """Put the clock of a locked org forward; the first time makes it a test org."""
    values = {"org": org_id, "at": at, "author": author, "recorded_at": recorded_at}
    connection.execute(_SQL["put_clock"], values)


def next_end(connection: Connection, org_id: str, after: datetime) -> datetime | None:
    """When the next hold or lot of credits of the org comes to its end, after an instant."""
    row = connection.execute(_SQL["next_end"], {"org": org_id, "after": after}).fetchone()
    return None if row is None else row[0]


class OrgClocks:
    """The present instant for each org: the machine's, or that of its own clock.

    What other processes do to a clock is known within a second.

    Args:
        database: where the clocks are.
        clock: the machine's.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._clocks: dict[str, datetime] = {}
        self._read_at: float | None = None

    def now(self, org_id: str) -> datetime:
        """The present instant for an org. While the database is away, clocks stand where they were known to."""
        at = self._known().get(org_id)
        return self._clock() if at is None else at

    def is_test(self, org_id: str) -> bool:
        """Whether the org has a clock of its own.

        Raises:
            Unavailable: `database_unreachable`.
        """
        with self._database.org(org_id) as connection:
            return clock_of(connection, org_id) is not None

    def forget(self) -> None:
        """Ask the database when a clock is needed next."""
        self._read_at = None

    def _known(self) -> dict[str, datetime]:
        if self._read_at is None or time.monotonic() - self._read_at > _KNOWN_SECONDS:
            try:
                with self._database.operator() as connection:
                    self._clocks = dict(connection.execute(_SQL["clocks"]).fetchall())
                self._read_at = time.monotonic()
            except Unavailable:  # whoever needs the database finds that out; to ask again takes seconds
                self._read_at = time.monotonic() + _AWAY_SECONDS
        return self._clocks
