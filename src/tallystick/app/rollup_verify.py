"""Checking rollups: every row against what the entries come to, added up anew in a place of this session's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import psycopg

from tallystick.app.rollup import ENTRIES_AT_ONCE, add_tasks
from tallystick.app.runtime import Runtime
from tallystick.app.verify_report import Findings
from tallystick.core.errors import BadInput, Conflict, Unavailable
from tallystick.journal import rollup as journal
from tallystick.journal.database import Connection, Database
from tallystick.journal.migrate import unreachable
from tallystick.journal.roles import OPERATOR
from tallystick.journal.rollup import ALL_TIME, Task

_SHOWN_MAX = 20
"""Rows of one org that are named; more are counted."""


def check_rollups(runtime: Any, org_id: str | None, findings: Findings) -> None:
    """Compare the days of all orgs, or of one, with their entries, as far as each is added up.

    It speaks of one moment, and keeps nobody waiting: what is added up anew goes into tables of this session's own.

    Args:
        runtime: the running system, or an open ledger.
        org_id: only this org.
        findings: where to note what is wrong.

    Raises:
        Unavailable: `database_unreachable`; `rights_missing`: the operator may not make temporary tables.
    """
    database: Database = runtime.database
    try:
        with database.connect(OPERATOR) as connection:
            connection.execute("set transaction isolation level repeatable read")
            connection.execute("set local statement_timeout = 0; set local search_path = pg_temp, public")
            journal.begin_rolling(connection)
            _make_own_tables(connection)
            for org, through in journal.rolled_orgs(connection, org_id):
                _check_org(cast("Runtime", runtime), connection, org, through, findings)
            for org in journal.rows_without_state(connection, org_id):
                findings.add("state", "it has days that are added up, and no note of how far", org)
            connection.rollback()
    except psycopg.OperationalError as error:
        raise unreachable(error) from error


def _check_org(runtime: Runtime, connection: Connection, org: str, through: int, findings: Findings) -> None:
    last, kept = journal.read_heads(connection, [org]).get(org, (0, 1))
    if through > last:
        findings.add("state", f"its days are added up through entry {through}, and its head is at {last}", org)
        return
    try:
        with connection.transaction():  # what cannot be added up leaves the rest of the check as it was
            for after in range(0, through, ENTRIES_AT_ONCE):
                task = Task(org, after, min(through, after + ENTRIES_AT_ONCE), kept)
                add_tasks(runtime, connection, [task], *ALL_TIME)
    except (BadInput, Conflict, psycopg.DataError, LookupError, ValueError):
        return  # files that cannot be read, entries that are missing or not what was written: named elsewhere
    for count, said in enumerate(_differences(connection, org), 1):
        if count > _SHOWN_MAX:
            findings.add("state", "more rows of its days differ: `tally rollup rebuild` makes them again", org)
            break
        findings.add("state", said, org)
    journal.clear_days(connection, org, None, None)


def _differences(connection: Connection, org: str) -> Iterator[str]:
    for table in journal.TABLES:
        for day, kept, due in journal.differing_rows(connection, table, org):
            if kept is None:
                what = f"lacks a row; its entries come to {due}"
            elif due is None:
                what = f"has a row that its entries know nothing of: {kept}"
            else:
                what = f"says {kept}, and its entries come to {due}"
            yield f"{table}: {day} {what}"


def _make_own_tables(connection: Connection) -> None:
    try:
        for table in journal.TABLES:
            journal.make_own_table(connection, table)
    except psycopg.errors.InsufficientPrivilege as error:
        name = connection.info.dbname
        raise Unavailable(
            "rights_missing",
            f"role {OPERATOR} may not make temporary tables in database {name}, which adding up anew takes",
            next_step=f'let the owner of the database run: grant temporary on database "{name}" to {OPERATOR}',
        ) from error
