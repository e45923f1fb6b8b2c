"""`tally export books`: every transfer of money and credits, as a journal for hledger.

What it says comes from two places: the transactions from the transfers, the assertions at the end from the balances as
they are kept. A journal that `hledger check` takes says that both agree, to the last pico.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from pathlib import Path

from tallystick.app.operate import existing_org
from tallystick.app.runtime import Runtime
from tallystick.app.seal import block_store
from tallystick.billing.books import (
    Balance,
    closing,
    entry_text,
    is_cost,
    journal_head,
    opening,
    org_head,
    org_prefix,
)
from tallystick.core.errors import BadInput, Conflict
from tallystick.journal.books import TransferRow, Wanted, stream_balances, stream_transfers, test_orgs
from tallystick.journal.database import Connection
from tallystick.journal.sealing import blocks_of_org
from tallystick.journal.verify_rows import begin_checking

_SEQ_MAX = 2**63 - 1


def export_books(
    runtime: Runtime,
    org_id: str | None = None,
    *,
    first: date | None = None,
    last: date | None = None,
    tests: bool = False,
) -> Iterator[str]:
    """The books as pieces of text, of one moment; memory does not grow with the number of entries.

    Args:
        org_id: only this org's, a test org or not; None for all.
        first, last: the first and the last day, in UTC; None: from the beginning, and up to now.
        tests: those of test orgs, too.

    Raises:
        BadInput: `invalid_range`; of blocks: `missing_block`, `broken_block`.
        NotFound: `unknown_org`.
        Conflict: `entries_missing`.
        Unavailable: `database_unreachable`.
    """
    if first is not None and last is not None and last < first:
        raise BadInput(
            "invalid_range", f"{last} is before {first}", next_step="let --from be no later than --to", where="--from"
        )
    if org_id is not None:
        existing_org(runtime, org_id)
    since = None if first is None else datetime.combine(first, time(), UTC)
    until = None if last is None else _day_after(last)
    wanted = Wanted(org_id, tests or org_id is not None, since, until)
    return _pieces(runtime, wanted, first, last)


def _pieces(runtime: Runtime, wanted: Wanted, first: date | None, last: date | None) -> Iterator[str]:
    yield journal_head(first=first, last=last)
    blocks = block_store(runtime.settings).root
    with runtime.database.operator() as connection:
        begin_checking(connection)
        of_tests = test_orgs(connection, wanted.org)
        began = _Grouped(stream_balances(connection, wanted, wanted.since)) if wanted.since is not None else None
        moved = _Moved(stream_transfers(connection, wanted))
        # Each account that anything was ever moved to or from is there: so is each org that has any transfer.
        for org_id, rows in groupby(stream_balances(connection, wanted, wanted.until), key=lambda row: row[0]):
            balances = [balance for _, balance in rows]
            org = org_prefix(org_id, is_test=org_id in of_tests)
            yield org_head(org, balances)
            latest = date.min
            if began is not None and first is not None:
                yield opening(org, first, began.of(org_id))
                latest = first
            kinds = _Kinds(connection, blocks, org_id)
            for text, day in _org_pieces(org, moved.of(org_id), kinds):
                latest = max(latest, day)
                yield text
            if latest > date.min:
                yield closing(org, latest, balances)


def _org_pieces(org: str, rows: Iterator[TransferRow], kinds: _Kinds) -> Iterator[tuple[str, date]]:
    for seq, of_entry in groupby(rows, key=lambda row: row.seq):
        together = list(of_entry)
        for costs in (True, False):
            some = [row for row in together if is_cost(row.moved) is costs]
            if some:
                one = some[0]
                kind = "usage" if costs else one.kind or kinds.of(seq)
                moves = [row.moved for row in some]
                yield entry_text(org, kind, seq, one.first_seq, one.recorded_at, moves), one.recorded_at.date()


class _Kinds:
    """The kinds of an org's entries that have left the database, out of blocks, in their order."""

    def __init__(self, connection: Connection, blocks: Path, org_id: str) -> None:
        self._connection = connection
        self._blocks = blocks
        self._org = org_id
        self._stream: Iterator[tuple[int, str]] | None = None

    def of(self, seq: int) -> str:
        """Of the entry at that place, which is after those that were asked for before."""
        if self._stream is None:
            self._stream = self._archived(seq)
        for place, kind in self._stream:
            if place == seq:
                return kind
            if place > seq:
                break
        raise Conflict(
            "entries_missing",
            f"entry {seq} of {self._org} is neither in the database nor in a block",
            next_step="run `tally verify`; restore the database or the blocks folder from a backup",
            where=self._org,
        )

    def _archived(self, first_seq: int) -> Iterator[tuple[int, str]]:
        from tallystick.archive.operation_rows import iterate_operations
        from tallystick.archive.paths import people_path

        for block in blocks_of_org(self._connection, self._org, first_seq, _SEQ_MAX):
            main = self._blocks / block.path
            begin = max(block.first_seq, first_seq)
            for row in iterate_operations(main, people_path(main), self._org, begin, block.last_seq):
                yield row[0], row[1]


class _Moved:
    """Transfers of orgs in their order, org by org."""

    def __init__(self, rows: Iterator[TransferRow]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def of(self, org_id: str) -> Iterator[TransferRow]:
        """Those of the next org, to be read to their end."""
        while self._next is not None and self._next.org_id == org_id:
            yield self._next
            self._next = next(self._rows, None)


class _Grouped:
    """Balances of orgs in their order, org by org; not every org has some."""

    def __init__(self, rows: Iterator[tuple[str, Balance]]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def of(self, org_id: str) -> list[Balance]:
        """Those of an org, which is after those that were asked for before."""
        found = []
        while self._next is not None and self._next[0] == org_id:
            found.append(self._next[1])
            self._next = next(self._rows, None)
        return found


def _day_after(day: date) -> datetime:
    try:
        return datetime.combine(day + timedelta(days=1), time(), UTC)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


@contextmanager
def books_file(output: Path) -> Iterator[Path]:
    """A file beside `output` to write to, which takes its place in the end: half of the books is worse than none."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
