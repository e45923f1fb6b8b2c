"""What a check of the whole ledger reads of the database, besides the entries. Connections are an operator's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.sealing import Block, OrgRange, SealedRange
from tallystick.ledger.accounts import MONEY_ACCOUNTS

_SQL = load_queries("verify")


class HeadRow(NamedTuple):
    """Where an org stands; `first_kept` and `last_kept` are of the rows that are there, None without any."""

    org_id: str
    last_seq: int
    time_max: datetime
    forgotten_until: datetime
    first_kept: int | None
    last_kept: int | None


class TransferRow(NamedTuple):
    """A transfer for the entries first_seq to seq of an org."""

    org_id: str
    seq: int
    first_seq: int
    debit_account: str
    credit_account: str
    asset: str
    amount_pico: int
    recorded_at: datetime


class ReferredRow(NamedTuple):
    """What a correction's original says of itself."""

    kind: str
    status: str
    request_id: str
    time: datetime
    payer: str | None


def begin_checking(connection: Connection) -> None:
    """Make the transaction, which has not begun yet, one snapshot, and give it all the time it takes."""
    connection.execute("set transaction isolation level repeatable read, read only")
    connection.execute("set local idle_in_transaction_session_timeout = 0; set local statement_timeout = 0")
    connection.execute(
        "set local timezone = 'UTC'; set local bytea_output = 'hex'"
    )  # as the register's hashes are made


def read_heads(connection: Connection, org_id: str | None) -> list[HeadRow]:
    """Every head, or one org's, in the order of orgs."""
    return [HeadRow(*row) for row in connection.execute(_SQL["heads"], {"org": org_id})]


def read_blocks(connection: Connection) -> list[Block]:
    """Every block, in order."""
    return [Block(*row) for row in connection.execute(_SQL["blocks"])]


def read_block_ranges(connection: Connection, block: int) -> list[SealedRange]:
    """What a block holds of each org, in the order of orgs."""
    return [SealedRange(*row) for row in connection.execute(_SQL["block_ranges"], {"block": block})]


def read_transfers(connection: Connection, ranges: Iterable[OrgRange]) -> Iterator[TransferRow]:
    """The transfers that touch these ranges, by org and sequence."""
    asked = _ranges(ranges) | {"money": list(MONEY_ACCOUNTS)}
    for org, seq, first, debit, credit, asset, amount, at in connection.execute(_SQL["transfers"], asked):
        yield TransferRow(org, seq, first, debit, credit, asset, int(amount), at)


def read_erasures(connection: Connection, ranges: Iterable[OrgRange]) -> set[tuple[str, int]]:
    """Which entries of these ranges were erased on request."""
    return {(org, seq) for org, seq in connection.execute(_SQL["erasures"], _ranges(ranges))}


def read_kept_from(connection: Connection, orgs: Sequence[str]) -> dict[str, int]:
    """The first entry of each org that is still in the database; orgs without any are left out."""
    return dict(connection.execute(_SQL["kept_from"], {"orgs": list(orgs)}).fetchall())


def read_entries_at(connection: Connection, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], ReferredRow]:
    """The entries at these places, as far as they are in the database."""
    parameters = {"orgs": [org for org, _ in places], "seqs": [seq for _, seq in places]}
    rows = connection.execute(_SQL["entries_at"], parameters)
    return {(org, seq): ReferredRow(*rest) for org, seq, *rest in rows}


def ask(connection: Connection, query: str, **parameters: object) -> list[tuple[Any, ...]]:
    """All rows of one of the queries of `sql/verify.sql`."""
    return connection.execute(_SQL[query], parameters).fetchall()


def _ranges(ranges: Iterable[OrgRange]) -> dict[str, list[Any]]:
    orgs, firsts, lasts = [], [], []
    for org, first, last in ranges:
        orgs.append(org)
        firsts.append(first)
        lasts.append(last)
    return {"orgs": orgs, "firsts": firsts, "lasts": lasts}
