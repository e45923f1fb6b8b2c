"""Reading everything that the database holds, in one snapshot, table by table, as text that any PostgreSQL reads.

Not by `pg_dump`: a dump carries its own idea of who owns what, of policies and of triggers, and a restored schema would
be that of the dump. Here the schema always comes from the migrations, and a backup holds rows alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import psycopg
from psycopg import sql

from tallystick.core.errors import Unavailable
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.roles import OPERATOR

_SQL = load_queries("backup")


class Table(NamedTuple):
    """A table of ours: its schema and name, its stored columns in order, and its number in this database."""

    schema: str
    name: str
    columns: tuple[str, ...]
    oid: int

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def column_list(self) -> sql.Composed:
        return sql.SQL(", ").join(map(sql.Identifier, self.columns))


class Sums(NamedTuple):
    """What a table's rows come to, in whatever order they lie: their number, and the sum of 60 bits of each one's MD5.

    It tells a faulty copy from a sound one; against who changes a backup on purpose, its files have SHA-256.
    """

    rows: int
    digest: str


class LedgerFigures(NamedTuple):
    """What a snapshot's ledger holds; `register_chain` is the chained hash of the register's last row, in hex."""

    orgs: int
    entries: int
    blocks: int
    checkpoint_size: int
    register_rows: int
    register_chain: str | None
    erasures: int


def begin_snapshot(connection: Connection) -> None:
    """Have the transaction, which has asked nothing yet, see one moment until it ends, and change nothing."""
    connection.execute(_SQL["snapshot"])
    set_forms(connection)


def set_forms(connection: Connection) -> None:
    """Have rows look as they do in any backup, until the transaction ends."""
    connection.execute(_SQL["forms"])


def list_tables(connection: Connection) -> list[Table]:
    """Our tables, each after those that its rows refer to."""
    found = {
        oid: (Table(schema, name, tuple(columns), oid), set(refers))
        for schema, name, columns, refers, oid in connection.execute(_SQL["tables"])
    }
    ordered: list[Table] = []
    while found:
        ready = [oid for oid, (_, refers) in found.items() if not refers & found.keys()]
        if not ready:
            raise ValueError(f"tables refer to each other: {sorted(table.name for table, _ in found.values())}")
        ordered += [found.pop(oid)[0] for oid in ready]
    return ordered


def tables_bytes(connection: Connection, tables: Sequence[Table]) -> int:
    """About how many bytes the tables have on disk."""
    row = connection.execute(_SQL["size"], {"tables": [table.oid for table in tables]}).fetchone()
    return int(row[0] or 0) if row else 0


def read_rows(connection: Connection, table: Table) -> Generator[bytes, None, None]:
    """The table's rows in COPY's text format, as they come, about a row at a time.

    To be closed where it is not read to its end: until then the connection is busy with it.
    """
    statement = sql.SQL("copy {} ({}) to stdout").format(table.identifier, table.column_list)
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for data in copy:
                yield bytes(data)
    except psycopg.errors.InsufficientPrivilege as error:
        raise Unavailable(
            "rights_missing",
            f"the database's roles may not read all of its tables: {' '.join(str(error).split())}",
            next_step=f"let the owner of the tables run: grant select on {table.full_name} to {OPERATOR}",
        ) from None


def sum_rows(connection: Connection, table: Table) -> Sums:
    """What the table's rows come to."""
    statement = sql.SQL(
        "select count(*), coalesce(sum(('x' || left(md5(row({})::text), 15))::bit(60)::bigint::numeric), 0) from {}"
    ).format(table.column_list, table.identifier)
    row = connection.execute(statement).fetchone()
    if row is None:
        raise ValueError("an aggregate gives one row")
    return Sums(int(row[0]), f"{int(row[1]):x}")


def ledger_figures(connection: Connection) -> LedgerFigures:
    """What the ledger holds."""
    row = connection.execute(_SQL["ledger"]).fetchone()
    if row is None:
        raise ValueError("scalars give one row")
    return LedgerFigures(*row)


def all_notes(connection: Connection) -> list[tuple[int, str]]:
    """Size and note of every checkpoint, in order."""
    return [(size, note) for size, note in connection.execute(_SQL["notes"])]


def list_erasures(connection: Connection, since: datetime) -> Iterator[tuple[str, int, datetime]]:
    """Org, sequence and time of every entry whose personal data was erased at an instant or later; never whose."""
    yield from connection.execute(_SQL["erasures"], {"since": since})


def list_erased_keys(connection: Connection, since: datetime) -> Iterator[tuple[str, str, datetime]]:
    """Org, id and time of every key that stood for a person who was erased; never whom."""
    yield from connection.execute(_SQL["erased_keys"], {"since": since})


def list_erased_profiles(connection: Connection, since: datetime) -> Iterator[tuple[str, int, datetime]]:
    """Org, version and time of every billing profile that was erased; never what it said."""
    yield from connection.execute(_SQL["erased_profiles"], {"since": since})


def persons_of(connection: Connection, org_id: str, seqs: Sequence[int]) -> list[str]:
    """The users whom these entries of an org still name in the database."""
    return [user for (user,) in connection.execute(_SQL["persons"], {"org": org_id, "seqs": list(seqs)})]


def persons_of_keys(connection: Connection, org_id: str, keys: Sequence[str]) -> list[str]:
    """The users whom these keys of an org still stand for."""
    return [user for (user,) in connection.execute(_SQL["persons_of_keys"], {"org": org_id, "keys": list(keys)})]
