"""Which sealed entries may leave the database, letting them go, and reading what is left page by page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.rows import tuple_row

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.entry import Entry

_SQL = load_queries("retention")


class KeptRange(NamedTuple):
    """Entries first_seq to last_seq of an org that are in a block and still in the database."""

    block: int
    org_id: str
    first_seq: int
    last_seq: int


class BlockFile(NamedTuple):
    """A block's file, and the hash that it must have."""

    block: int
    path: str
    file_sha256: bytes


def kept_ranges(connection: Connection) -> list[KeptRange]:
    """Every sealed range that still has rows, the oldest of each org first."""
    return [KeptRange(*row) for row in connection.execute(_SQL["kept_ranges"])]


def may_leave(connection: Connection, one: KeptRange, recorded_before: datetime) -> bool:
    """Whether all of the range was recorded before that, and nothing of it still waits for a price or for its end."""
    parameters = {**one._asdict(), "org": one.org_id, "since": recorded_before}
    for name in ("too_young", "awaits_price", "awaits_end"):
        row = connection.execute(_SQL[name], parameters).fetchone()
        if row is None or row[0]:
            return False
    return True


def block_files(connection: Connection, blocks: Sequence[int]) -> list[BlockFile]:
    """The files of these blocks, in order."""
    return [BlockFile(*row) for row in connection.execute(_SQL["blocks"], {"blocks": sorted(blocks)})]


def forget_entries(connection: Connection, org_id: str, through_seq: int) -> int:
    """Let the org's entries up to through_seq go: how many went.

    Raises:
        psycopg.errors.RestrictViolation: one of them is younger than 45 days by the database's clock, or not sealed.
    """
    row = connection.execute(_SQL["forget"], {"org": org_id, "through_seq": through_seq}).fetchone()
    return int(row[0]) if row else 0


def entries_page(connection: Connection, org_id: str, first_seq: int, last_seq: int, limit: int) -> list[Entry]:
    """The next of the org's entries first_seq to last_seq that are in the database, at most `limit`."""
    parameters = {"org": org_id, "first_seq": first_seq, "last_seq": last_seq, "limit": limit}
    with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        return [Entry(*row) for row in cursor.execute(_SQL["page"], parameters)]
