"""What sealing reads and records in the database: unsealed ranges, entries as Arrow columns, blocks, checkpoints.

Rows need no arithmetic over transaction ids to be complete. A writer holds its orgs' heads locked until it has
committed, so a head that shows sequence N shows it after every entry up to N is committed: whoever reads the head
first and the rows 1..N in any later snapshot sees all of them, and none can come between. docs/sealing.md says more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from tallystick.journal.database import Connection, Database
from tallystick.journal.named_sql import load_queries

if TYPE_CHECKING:
    import pyarrow as pa

_SQL = load_queries("sealing")
# Any fixed numbers other than the other locks'.
_SEALER_KEY, _FOLDER_KEY = 0x7A11_5EA1, 0x7A11_5EA2
_BATCH_BYTES = 16 << 20


class OrgRange(NamedTuple):
    """Entries first_seq to last_seq of an org, both included."""

    org_id: str
    first_seq: int
    last_seq: int

    @property
    def entries(self) -> int:
        return self.last_seq - self.first_seq + 1


class SealedRange(NamedTuple):
    """What a block holds of an org; `root` and `frontier` are of the org's tree at size last_seq."""

    org_id: str
    first_seq: int
    last_seq: int
    root: bytes
    frontier: bytes


class Block(NamedTuple):
    """A sealed block: a row of `blocks`."""

    block: int
    path: str
    entries: int
    file_bytes: int
    time_min: datetime
    time_max: datetime
    file_sha256: bytes
    merkle_root: bytes
    orgs_root: bytes
    statement: str
    sealed_at: datetime


class BlockRange(NamedTuple):
    """Where an org's entries first_seq to last_seq are."""

    block: int
    path: str
    file_sha256: bytes
    first_seq: int
    last_seq: int


def be_sealer(connection: Connection, *, wait: bool) -> bool:
    """Be the one process that seals, until the transaction ends; False: another one does, and `wait` was not said."""
    connection.execute(_SQL["patience"])
    row = connection.execute(_SQL["wait_to_seal" if wait else "try_to_seal"], {"key": _SEALER_KEY}).fetchone()
    return wait or bool(row and row[0])


def lock_folder(connection: Connection) -> None:
    """Be the one that changes files in the blocks folder, until the transaction ends; wait for whoever does now.

    What is recorded in the same transaction is recorded under the lock for certain: when the connection is lost,
    so are the lock and the transaction.
    """
    connection.execute(_SQL["patience"])
    connection.execute(_SQL["lock"], {"key": _FOLDER_KEY})


def unsealed(connection: Connection) -> list[OrgRange]:
    """What no block holds, in the order of orgs."""
    return [OrgRange(*row) for row in connection.execute(_SQL["unsealed"])]


def oldest_recorded_at(connection: Connection, ranges: Sequence[OrgRange]) -> datetime | None:
    """When the oldest of the ranges' entries was recorded."""
    parameters = {"orgs": [one.org_id for one in ranges], "seqs": [one.first_seq for one in ranges]}
    row = connection.execute(_SQL["oldest"], parameters).fetchone()
    return row[0] if row else None


def frontiers(connection: Connection, orgs: list[str]) -> dict[str, tuple[int, bytes]]:
    """Of each org that has a block: the size of its sealed tree, and its full subtrees."""
    rows = connection.execute(_SQL["frontiers"], {"orgs": orgs}).fetchall()
    return {org: (size, frontier) for org, size, frontier in rows}


def last_block(connection: Connection) -> int:
    """The number of the last block, 0 when there is none."""
    row = connection.execute(_SQL["last_block"]).fetchone()
    return int(row[0]) if row else 0


def list_blocks(connection: Connection, *, after: int = 0, limit: int | None = None) -> list[Block]:
    """Blocks above a number, in their order."""
    return [Block(*row) for row in connection.execute(_SQL["blocks"], {"after": after, "limit": limit})]


def blocks_of_org(connection: Connection, org_id: str, first_seq: int, last_seq: int) -> list[BlockRange]:
    """The blocks that hold an org's entries of that range, in the order of the sequence."""
    parameters = {"org": org_id, "first_seq": first_seq, "last_seq": last_seq}
    return [BlockRange(*row) for row in connection.execute(_SQL["blocks_of_org"], parameters)]


def add_block(connection: Connection, block: Block, ranges: Sequence[SealedRange]) -> None:
    """Record a block and what it holds of each org; the database refuses what does not continue the last block."""
    connection.execute(_SQL["add_block"], block._asdict())
    orgs, firsts, lasts, roots, fronts = zip(*ranges, strict=True)
    columns = {"orgs": orgs, "first_seqs": firsts, "last_seqs": lasts, "roots": roots, "frontiers": fronts}
    lists: dict[str, object] = {name: list(values) for name, values in columns.items()}
    connection.execute(_SQL["add_block_orgs"], {**lists, "block": block.block})


def statements(connection: Connection, *, after: int = 0) -> list[str]:
    """The block statements of the log, in their order."""
    return [text for (text,) in connection.execute(_SQL["statements"], {"after": after})]


def add_checkpoint(connection: Connection, size: int, note: str, signed_at: datetime) -> None:
    """Record a signed checkpoint."""
    connection.execute(_SQL["add_checkpoint"], {"size": size, "note": note, "signed_at": signed_at})


def checkpoint_sizes(connection: Connection) -> set[int]:
    """Which checkpoints there are."""
    return {size for (size,) in connection.execute(_SQL["checkpoint_sizes"])}


def checkpoint_notes(connection: Connection, sizes: set[int]) -> list[tuple[int, str]]:
    """Size and note of these checkpoints."""
    rows = connection.execute(_SQL["checkpoints"], {"sizes": sorted(sizes)}).fetchall()
    return [(size, note) for size, note in rows]


@contextmanager
def read_entries(database: Database, ranges: Sequence[OrgRange]) -> Iterator[pa.RecordBatchReader]:
    """The entries of the ranges as Arrow batches with the columns of `ledger_entries`, org after org, in one snapshot.

    Raises:
        Unavailable: `database_unreachable`.
    """
    with database.arrow.read(_entries_query(ranges), batch_bytes=_BATCH_BYTES) as batches:
        yield batches


def _entries_query(ranges: Sequence[OrgRange]) -> str:
    # The driver fetches by COPY, which takes no parameters: the values are written into the query, quoted.
    wanted = sql.SQL(", ").join(
        sql.SQL("({}, {}::bigint, {}::bigint)").format(*map(sql.Literal, one)) for one in ranges
    )
    # Ranges one by one through the primary key, in the order given: nothing is sorted.
    return (
        sql.SQL(
            "select entry.* from (values {}) as wanted (org_id, first_seq, last_seq) cross join lateral ("
            "select * from ledger_entries where ledger_entries.org_id = wanted.org_id "
            "and seq between wanted.first_seq and wanted.last_seq order by seq) as entry"
        )
        .format(wanted)
        .as_string(None)
    )
