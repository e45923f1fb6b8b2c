"""Counting anew what limits and budgets count, to compare it with the counters that are kept (`journal.counters`)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import psycopg

from tallystick.contract.loader import load_contract
from tallystick.contract.model import Contract
from tallystick.core.errors import TallyError, Unavailable
from tallystick.journal.counters import Backlog, Counting, OrgCounters, Progress, catch_up, counting_of
from tallystick.journal.database import Connection, Database
from tallystick.journal.migrate import unreachable
from tallystick.journal.named_sql import load_queries
from tallystick.journal.operations_script import Script
from tallystick.journal.roles import OPERATOR
from tallystick.ledger.budget_index import BudgetIndex
from tallystick.ledger.org_account import OrgTerms

_SQL = load_queries("verify")


class Recounted(NamedTuple):
    """A counter that is not what the entries come to; amounts are the meter's units, or pico-USD."""

    org_id: str
    counter: str
    window_start: datetime
    kept: int
    due: int


def recount(database: Database, org_id: str | None) -> Iterator[Recounted]:
    """The counters of all orgs, or of one, that differ from what their entries up to their cursors come to.

    It speaks of one moment, and keeps nobody waiting: what is counted anew goes into a table of this session's own,
    which stands in the place of the one that is kept. An org whose terms have changed since it was last counted is
    left out, and one whose windows are so long over that their entries have left: the next decision throws such
    counters away.

    Raises:
        Unavailable: `database_unreachable`; `rights_missing`: the operator may not make temporary tables.
    """
    try:
        with database.connect(OPERATOR) as connection:
            connection.execute("set transaction isolation level repeatable read")
            connection.execute("set local statement_timeout = 0; set local search_path = pg_temp, public")
            _make_own_table(connection)
            contracts = _Contracts(connection)
            orgs = connection.execute(_SQL["counted"], {"org": org_id}).fetchall()
            for org, counted_through_seq, state, progress, forgotten_until in orgs:
                counters = _counters(connection, contracts, org, state, progress, forgotten_until)
                if counters is not None:
                    script = Script()
                    catch_up(script, [Backlog(counters, list(counters.counting.rules), 0, counted_through_seq, False)])
                    script.run(connection)
                    yield from _differing(connection, org)
            for org, counter, window_start, used in connection.execute(_SQL["uncounted"], {"org": org_id}).fetchall():
                yield Recounted(org, counter, window_start.astimezone(UTC), int(used), 0)
            connection.rollback()
    except psycopg.OperationalError as error:
        raise unreachable(error) from error


def _make_own_table(connection: Connection) -> None:
    try:
        connection.execute("create temp table counters (like public.counters including indexes) on commit drop")
    except psycopg.errors.InsufficientPrivilege as error:
        name = connection.info.dbname
        raise Unavailable(
            "rights_missing",
            f"role {OPERATOR} may not make temporary tables in database {name}, which counting anew takes",
            next_step=f'let the owner of the database run: grant temporary on database "{name}" to {OPERATOR}',
        ) from error


def _differing(connection: Connection, org_id: str) -> Iterator[Recounted]:
    rows = connection.execute(_SQL["recounted"], {"org": org_id}).fetchall()
    for counter, window_start, kept, due in rows:
        yield Recounted(org_id, counter, window_start.astimezone(UTC), int(kept), int(due))


def _counters(
    connection: Connection,
    contracts: _Contracts,
    org_id: str,
    state: str,
    progress_text: str,
    forgotten_until: datetime,
) -> OrgCounters | None:
    """What was counted of the org, in which windows; None when nothing was, or when that cannot be told any more."""
    try:
        progress = msgspec.json.decode(progress_text, type=Progress)
        spends = BudgetIndex(msgspec.json.decode(state, type=OrgTerms).budgets.values()).spends
    except (ValueError, UnicodeError):
        return None
    if not progress.starts or min(progress.starts.values()) < forgotten_until:
        return None
    now = max(progress.starts.values())  # it lies in every window, since all of them were of one moment
    for name, plan, zone in connection.execute(_SQL["subscribed"], {"org": org_id}).fetchall():
        for contract in contracts.of(name):
            counting: Counting = counting_of(contract, plan, spends, zone)
            if counting.signature == progress.counted:
                return OrgCounters(org_id, counting, now)
    return None


class _Contracts:
    """The contracts' versions, each read once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[str, list[Contract]] = {}

    def of(self, name: str) -> list[Contract]:
        """The versions of a contract that can be read, the newest first."""
        if name not in self._known:
            self._known[name] = found = []
            for text, source_name in self._connection.execute(_SQL["contract_texts"], {"contract": name}).fetchall():
                try:
                    found.append(load_contract(text, source_name))
                except TallyError:  # it is named where contracts are checked
                    continue
        return self._known[name]
