"""Filling an empty database with the rows of a backup in one transaction, and the mark that it is not done yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import psycopg
from psycopg import sql

from tallystick.core.errors import BadInput, Conflict
from tallystick.journal.backup_tables import Sums, Table, list_tables, set_forms, sum_rows
from tallystick.journal.database import Connection
from tallystick.journal.migrate import migrate, restore_unfinished, storage_full, unreachable
from tallystick.journal.migrations import revisions
from tallystick.journal.named_sql import load_queries
from tallystick.journal.roles import session_conninfo

_SQL = load_queries("backup")
_FIRING = {"A": "enable always trigger", "O": "enable trigger", "R": "enable replica trigger", "D": "disable trigger"}
_WORK = b"set local maintenance_work_mem = '256MB'; set local synchronous_commit = on"


class Given(NamedTuple):
    """A table in a backup: its columns in the order of the rows' values, and what its rows come to."""

    columns: Sequence[str]
    sums: Sums


def claim_database(url: str) -> None:
    """Mark an empty database as one that is being filled: nothing serves from it until `release_database`.

    Raises:
        Conflict: `restore_not_empty`: it has tables.
        Unavailable: `restore_unfinished`, `database_unreachable`.
    """
    with _login(url) as connection:
        row = connection.execute(_SQL["occupied"]).fetchone()
        occupied, marked = row if row else (False, False)
        if marked:
            raise restore_unfinished("the database")
        if occupied:
            raise Conflict(
                "restore_not_empty",
                "the database has tables already; a restore fills an empty one and replaces nothing",
                next_step="create another database, empty, and set DATABASE_URL to it",
                where="DATABASE_URL",
            )
        try:
            connection.execute(_SQL["mark"])
        except (psycopg.errors.DuplicateSchema, psycopg.errors.UniqueViolation):  # another restore was a moment faster
            raise restore_unfinished("the database") from None


def refuse_claimed(url: str) -> None:
    """Pass unless the database is being filled.

    Raises:
        Unavailable: `restore_unfinished`, `database_unreachable`.
    """
    with _login(url) as connection:
        row = connection.execute(_SQL["occupied"]).fetchone()
        if row and row[1]:
            raise restore_unfinished("the database")


def release_database(url: str) -> None:
    """Take the mark away: the database is whole."""
    with _login(url) as connection:
        connection.execute(_SQL["unmark"])


def load_tables(
    url: str,
    revision: str,
    given: Mapping[str, Given],
    rows_of: Callable[[str], Iterable[bytes]],
    *,
    role_logins: bool,
) -> list[str]:
    """Make the schema of a revision, fill its tables in one transaction, then bring the schema up to date.

    Nothing is committed before every table comes to what it came to in the backup. The answer names what is in the
    backup and no table of ours: an administrator's, which was kept beside them.

    Args:
        url: of a database that was claimed, with the login that will own the tables.
        revision: the one that the rows were read at.
        given: the tables that there are rows of, by their full names.
        rows_of: the rows of a table by its full name, in COPY's text format, in pieces of any length.
        role_logins: as for `migrate`.

    Raises:
        BadInput: `backup_newer`: this release does not know the revision; `backup_schema_differs`: the revision has
            other tables or columns here.
        Conflict: `restore_differs`.
        Unavailable: `storage_full`, `database_unreachable`, `roles_missing`, `migration_failed`.
    """
    if revision not in revisions():
        raise BadInput(
            "backup_newer",
            f"the backup is of schema {revision}, which this release does not know",
            next_step="restore it with the release of Tallystick that made it, or a newer one",
        )
    migrate(url, role_logins=role_logins, revision=revision, restoring=True)
    with _login(url) as connection, connection.transaction():
        set_forms(connection)
        tables = list_tables(connection)
        _expect_same(given, tables)
        connection.execute(_WORK)
        with _open_to_loading(connection, tables):
            for table in tables:
                _fill(connection, table, given[table.full_name].columns, rows_of(table.full_name))
            _compare(connection, tables, given)
    migrate(url, role_logins=role_logins, restoring=True)
    with _login(url) as connection:
        connection.execute("analyze")
    return sorted(given.keys() - {table.full_name for table in tables})


def _expect_same(given: Mapping[str, Given], tables: Sequence[Table]) -> None:
    theirs = {name: set(one.columns) for name, one in given.items()}
    names = sorted(table.full_name for table in tables if theirs.get(table.full_name) != set(table.columns))
    if names:
        raise BadInput(
            "backup_schema_differs",
            f"the backup has other tables or columns than this release knows of its schema: {', '.join(names)}",
            next_step="restore it with the release of Tallystick that made it",
        )


def _compare(connection: Connection, tables: Sequence[Table], given: Mapping[str, Given]) -> None:
    differing = [
        table.full_name
        for table in tables
        if sum_rows(connection, table._replace(columns=tuple(given[table.full_name].columns)))
        != given[table.full_name].sums
    ]
    if differing:
        raise Conflict(
            "restore_differs",
            f"what was restored is not what was backed up, in: {', '.join(differing)}",
            next_step="restore it again into another place, and look after this machine's memory and disk; "
            "this place stays marked as not whole",
        )


def _fill(connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[bytes]) -> None:
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("copy {} ({}) from stdin").format(table.identifier, listed)
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for piece in rows:
                copy.write(piece)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise _refused(table, error) from None


def _refused(table: Table, error: psycopg.Error) -> BadInput:
    return BadInput(
        "backup_changed",
        f"the database does not take the backup's rows of {table.full_name}: {' '.join(str(error).split())}",
        next_step="use another backup; this place stays marked as not whole",
    )


@contextmanager
def _open_to_loading(connection: Connection, tables: Sequence[Table]) -> Iterator[None]:
    """Let rows in as they were: no trigger judges or records them again, and who owns the tables sees all of them.

    All of it is undone in the same transaction, which nobody else can look into.
    """
    undo: list[sql.Composed] = []
    later: list[sql.SQL] = []
    for table in tables:
        values = {"table": table.oid}
        for name, firing in connection.execute(_SQL["triggers"], values):
            undo.append(
                sql.SQL("alter table {} {} {}").format(table.identifier, sql.SQL(_FIRING[firing]), sql.Identifier(name))
            )
        connection.execute(sql.SQL("alter table {} disable trigger user").format(table.identifier))
        (forced,) = connection.execute(_SQL["walls"], values).fetchone() or (False,)
        if forced:
            connection.execute(sql.SQL("alter table {} no force row level security").format(table.identifier))
            undo.append(sql.SQL("alter table {} force row level security").format(table.identifier))
        for index, made in connection.execute(_SQL["indexes"], values).fetchall():
            connection.execute(sql.SQL("drop index {}").format(sql.SQL(index)))
            later.append(sql.SQL(made))
    everything = sql.SQL(", ").join(table.identifier for table in tables)
    connection.execute(sql.SQL("truncate {}").format(everything))  # a migration may have put rows of its own in
    yield
    for statement in later:
        connection.execute(statement)
    for table in tables:
        for column, sequence in connection.execute(_SQL["sequences"], {"table": table.oid}).fetchall():
            highest = sql.SQL("select setval({}, coalesce(max({}), 0) + 1, false) from {}")
            connection.execute(highest.format(sql.Literal(sequence), sql.Identifier(column), table.identifier))
    for one in undo:
        connection.execute(one)


@contextmanager
def _login(url: str) -> Iterator[Connection]:
    try:
        with psycopg.connect(session_conninfo(url), autocommit=True) as connection:
            yield connection
    except psycopg.errors.DiskFull as error:
        raise storage_full(error) from error
    except psycopg.OperationalError as error:
        raise unreachable(error) from error
