"""`tally verify`: everything that was written, checked against everything that vouches for it.

    each piece by itself    sealed blocks (file, people file, rows, the same rows in the database), unsealed entries
    put together            each org's sequence, tree, times and transfers, from its first entry to its head
    accounts                each org's operations, in their order: what they move, and the state that they come to
    the log                 block statements, checkpoints, signatures, notes
    what belongs to it      balances, rate cards, contracts, invoices

All of it speaks of one moment: heads, blocks and tables are read in one snapshot, and entries never change. Pieces
are checked in several processes when there are many entries; memory depends on the size of a piece, not of the ledger.
docs/proofs.md says what no check of this kind can see.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

from tallystick.app.payment_checks import check_payment_outcomes
from tallystick.app.restore_mark import refuse_unfinished
from tallystick.app.rollup_verify import check_rollups
from tallystick.app.runtime import checked_url
from tallystick.app.seal import block_store
from tallystick.app.settings import Settings
from tallystick.app.verify_accounts import check_counters, check_org_accounts
from tallystick.app.verify_alerts import check_alerts
from tallystick.app.verify_chunk import Checked, Piece, Place, check_piece, check_piece_elsewhere
from tallystick.app.verify_invoices import check_profiles
from tallystick.app.verify_log import check_log
from tallystick.app.verify_orgs import OrgChecker, last_forgotten
from tallystick.app.verify_report import VerifyReport
from tallystick.app.verify_sla import check_sla
from tallystick.app.verify_tables import check_accounts, check_invoices, check_keys, check_register, check_versions
from tallystick.core.errors import NotFound
from tallystick.journal.database import Connection, Database
from tallystick.journal.migrate import migrate
from tallystick.journal.sealing import Block, OrgRange
from tallystick.journal.server import EmbeddedServer
from tallystick.journal.verify_rows import HeadRow, begin_checking, read_block_ranges, read_blocks, read_heads
from tallystick.ledger.checkpoint import read_checkpoint
from tallystick.ledger.notes import PublicKey

PIECE_ENTRIES = 100_000
"""Most unsealed entries in a piece."""
PARALLEL_ENTRIES = 400_000
"""From so many entries on, starting processes pays."""

Progress = Callable[[int, int], object]


class Ledger(Protocol):
    """What a check needs of a running system."""

    @property
    def settings(self) -> Settings: ...
    @property
    def database(self) -> Database: ...


@dataclass(frozen=True, slots=True)
class OpenLedger:
    """A database and what was set, and nothing that depends on what is stored in it."""

    settings: Settings
    database: Database


@contextmanager
def open_ledger(settings: Settings) -> Iterator[OpenLedger]:
    """Start or join the database for a check alone: rate cards, which may be what was changed, are not loaded.

    Raises:
        BadInput: `invalid_database_url`.
        Unavailable: the database cannot be started or reached.
    """
    refuse_unfinished(settings.data_dir)
    with ExitStack() as stack:
        own = settings.database_url is None
        url = (
            stack.enter_context(EmbeddedServer(settings.data_dir)) if own else checked_url(settings.database_url or "")
        )
        migrate(url, role_logins=own)
        database = Database(url, role_logins=own)
        stack.callback(database.close)
        yield OpenLedger(settings, database)


def verify_ledger(
    runtime: Ledger,
    *,
    org_id: str | None = None,
    kept: str | None = None,
    keys: Sequence[PublicKey] = (),
    processes: int | None = None,
    progress: Progress = lambda done, total: None,
) -> VerifyReport:
    """Check everything, or everything of one org and the log.

    Args:
        runtime: the running system, or an `open_ledger`.
        org_id: only this org's entries, transfers, balances and invoices.
        kept: the note of a checkpoint that was kept elsewhere; the log must have grown out of it.
        keys: public keys that are trusted; none: those that the database has.
        processes: how many to use; by default as many as there are processors, when it pays.
        progress: called with the number of entries checked so far, and of all.

    Raises:
        BadInput: `invalid_note`, `invalid_checkpoint`, `bad_signature`, `unknown_signer`: `kept` is no checkpoint.
        NotFound: `unknown_org`.
        Unavailable: `database_unreachable`.
    """
    theirs = None if kept is None else read_checkpoint(kept, list(keys) or None)[0]
    report = VerifyReport()
    folder = block_store(runtime.settings).root
    with runtime.database.operator() as connection:
        begin_checking(connection)
        heads = read_heads(connection, org_id)
        blocks = read_blocks(connection)
        check_log(runtime.database, connection, blocks, folder, report, keys, theirs)
        orgs = OrgChecker(heads, report.findings)
        check_versions(connection, report.findings)
        check_register(connection, org_id, report.findings)
        check_keys(connection, org_id, report.findings)
        check_invoices(connection, org_id, report, orgs.want_root)
        check_profiles(connection, org_id, report.findings)
        check_payment_outcomes(connection, org_id, report.findings)
        check_accounts(connection, org_id, report.findings)
        if org_id is not None and not heads and not report.findings.count:
            raise NotFound(
                "unknown_org",
                f"{org_id} has no entries",
                next_step="see the orgs with `tally orgs list`",
                where="org",
            )
        total = sum(head.last_seq for head in heads)
        report.orgs = len(heads)
        with_operations: set[str] = set()
        with _checking(runtime.database, folder, total, processes) as check:
            for piece, checked in check(_pieces(connection, heads, blocks, org_id, orgs)):
                report.findings.extend(checked.findings)
                sealed = {one.org_id: one for one in piece.ranges}
                file = piece.block.path if piece.block else None
                for run in checked.runs:
                    orgs.take(run, sealed.get(run.org_id), file)
                    report.erased += run.erased
                    if run.operations:
                        with_operations.add(run.org_id)
                report.entries += checked.entries
                report.archived += checked.archived
                progress(report.entries, total)
        report.operations = check_org_accounts(connection, folder, org_id, heads, with_operations, report.findings)
        check_counters(runtime.database, org_id, report.findings)
        check_rollups(runtime, org_id, report.findings)
        check_alerts(connection, org_id, report.findings)
        check_sla(runtime, org_id, report.findings)
    orgs.finish()
    return report


def _pieces(
    connection: Connection, heads: Sequence[HeadRow], blocks: Sequence[Block], org_id: str | None, orgs: OrgChecker
) -> Iterator[Piece]:
    """Every block, then what is not sealed yet."""
    marks = last_forgotten(heads)
    sealed = {head.org_id: 0 for head in heads}
    for block in blocks:
        ranges = tuple(read_block_ranges(connection, block.block))
        asked = [one for one in ranges if org_id in (None, one.org_id)]
        for one in asked:
            orgs.expect_range(block.block, block.path, one)
            sealed[one.org_id] = one.last_seq
        if asked or org_id is None:
            yield Piece(block, ranges, (), org_id, marks)
    part: list[OrgRange] = []
    room = PIECE_ENTRIES
    for head in heads:
        first = sealed[head.org_id] + 1
        while first <= head.last_seq:
            last = min(head.last_seq, first + room - 1)
            part.append(OrgRange(head.org_id, first, last))
            room -= last - first + 1
            first = last + 1
            if not room:
                yield Piece(None, (), tuple(part), org_id, marks)
                part, room = [], PIECE_ENTRIES
    if part:
        yield Piece(None, (), tuple(part), org_id, marks)


Check = Callable[[Iterator[Piece]], Iterator[tuple[Piece, Checked]]]


@contextmanager
def _checking(database: Database, folder: Path, total: int, processes: int | None) -> Iterator[Check]:
    """What checks pieces, in their order: this process, or several."""
    count = processes if processes is not None else (os.cpu_count() or 1) if total >= PARALLEL_ENTRIES else 1
    if count <= 1:
        yield lambda pieces: ((piece, check_piece(database, folder, piece)) for piece in pieces)
        return
    place = Place(database.url, database.role_logins, folder)
    # Fresh processes: one that is copied would share this one's connections and threads.
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:

        def check(pieces: Iterator[Piece]) -> Iterator[tuple[Piece, Checked]]:
            under_way: deque[tuple[Piece, Future[Checked]]] = deque()
            for piece in pieces:
                under_way.append((piece, pool.submit(check_piece_elsewhere, place, piece)))
                if len(under_way) > count:
                    first, result = under_way.popleft()
                    yield first, result.result()
            for first, result in under_way:
                yield first, result.result()

        yield check
