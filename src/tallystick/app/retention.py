"""Retention: entries older than the window leave the database, once it is certain that a block has them.

Certain means: the block's file has the hash that was signed, and what is read from it and from the people file beside
it now equals the rows that are about to go, column by column. What leaves is always the beginning of an org's
sequence, a sealed range at a time; the first range that is too young, or waits for a price or for a hold's end, keeps
all that follow it. The database checks again, by its own clock, that what goes is sealed and older than 45 days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from tallystick.app.audit import Act, record_act
from tallystick.app.runtime import Runtime
from tallystick.app.seal import alone, block_store, full_disks_named
from tallystick.archive.paths import people_path
from tallystick.archive.store import BlockStore, file_sha256
from tallystick.core.errors import BadInput, Conflict, TallyError, Unavailable
from tallystick.core.instants import format_instant
from tallystick.journal.database import Connection
from tallystick.journal.retention import BlockFile, KeptRange, block_files, forget_entries, kept_ranges, may_leave
from tallystick.journal.sealing import OrgRange, lock_folder, read_entries
from tallystick.journal.steps import reached

if TYPE_CHECKING:
    import pyarrow as pa

_MARGIN = timedelta(days=1)
"""An event may be recorded a little before its time; a day more than any such leaves no repeated event unrefused."""
_AT_ONCE = 20_000
"""Entries that leave in one transaction: so long the org's writers wait."""

FORGET_STEPS = ("forget.begun", "forget.verified", "forget.gone", "forget.done")
"""The named steps of retention, in their order."""


class Retention(NamedTuple):
    """What left the database.

    Attributes:
        recorded_before: entries recorded before this were looked at.
        entries: how many left.
        orgs: of how many orgs.
        blocks: the blocks whose files were verified for it.
        refused: why entries of a block stayed although they are old enough, one problem for each block.
    """

    recorded_before: datetime
    entries: int
    orgs: int
    blocks: int
    refused: tuple[TallyError, ...]


def run_retention(runtime: Runtime) -> Retention:
    """Let go what may go; safe at any time, and to be run again after anything that interrupted it.

    Raises:
        BadInput: `retention_not_set`.
        Unavailable: `database_unreachable`, `retention_refused`: the database's own rules forbid it.
    """
    days = runtime.settings.retention_days
    if days is None:
        raise BadInput(
            "retention_not_set",
            "entries are kept in the database for good: no retention is set",
            next_step="set TALLY_RETENTION_DAYS to 45 or more, for every process that writes events",
            where="TALLY_RETENTION_DAYS",
        )
    before = runtime.clock() - timedelta(days=days) - _MARGIN
    store = block_store(runtime.settings)
    store.prepare()
    gone: dict[str, int] = {}
    refused: list[TallyError] = []
    with alone, full_disks_named(), runtime.database.operator() as lock:
        lock_folder(lock)  # nobody seals or erases while files and rows are compared
        reached("forget.begun")
        by_block = _old_ranges(lock, before)
        _record(runtime, days, before, by_block)
        held: set[str] = set()  # orgs of which an earlier range has stayed
        for file in block_files(lock, list(by_block)):
            ranges = [one for one in by_block[file.block] if one.org_id not in held]
            try:
                _verify(runtime, store, file, ranges)
            except (BadInput, Conflict) as error:
                refused.append(error)
                held |= {one.org_id for one in ranges}
                continue
            reached("forget.verified")
            for one in ranges:
                gone[one.org_id] = gone.get(one.org_id, 0) + _forget(runtime, one)
        reached("forget.done")
    return Retention(before, sum(gone.values()), len(gone), len(by_block), tuple(refused))


def _old_ranges(connection: Connection, before: datetime) -> dict[int, list[KeptRange]]:
    """What may leave, by block: of each org its oldest ranges, up to the first that may not."""
    found: dict[int, list[KeptRange]] = {}
    stays: set[str] = set()
    for one in kept_ranges(connection):
        if one.org_id in stays:
            continue
        if may_leave(connection, one, before):
            found.setdefault(one.block, []).append(one)
        else:
            stays.add(one.org_id)
    return found


def _verify(runtime: Runtime, store: BlockStore, file: BlockFile, ranges: Sequence[KeptRange]) -> None:
    """That the block has the rows of the ranges, exactly as they are in the database.

    Raises:
        Conflict: `block_changed`, `block_differs`.
        BadInput: `missing_block`, `broken_block`.
    """
    main = store.main(file.path)
    if not main.is_file() or file_sha256(main) != file.file_sha256:
        raise Conflict(
            "block_changed",
            f"block {file.block} is not the file that was sealed",
            next_step="restore it from a backup of the blocks folder; `tally verify` says what else is wrong",
            where=str(main),
        )
    difference = _difference(runtime, main, ranges)
    if difference:
        raise Conflict(
            "block_differs",
            f"block {file.block} does not have the entries that are in the database: {difference}",
            next_step="`tally erase-person` finishes an erasure that was interrupted; otherwise run `tally verify`",
            where=str(main),
        )


def _difference(runtime: Runtime, main: Path, ranges: Sequence[KeptRange]) -> str | None:
    """Where the block's rows of these ranges and the database's part; both are read side by side, in the same order."""
    import pyarrow as pa

    from tallystick.archive.columns import ENTRY_SCHEMA, conform
    from tallystick.archive.format import iterate_block

    with read_entries(runtime.database, [OrgRange(*one[1:]) for one in ranges]) as batches:
        ahead = ENTRY_SCHEMA.empty_table()
        for batch in iterate_block(main, people_path(main)):
            sealed = pa.Table.from_batches([batch.filter(_in_ranges(batch, ranges))])
            while ahead.num_rows < sealed.num_rows and (more := next(batches, None)) is not None:
                ahead = pa.concat_tables([ahead, conform(pa.Table.from_batches([more]))])
            kept = ahead.slice(0, sealed.num_rows)
            if not kept.equals(sealed):
                return _first_difference(kept, sealed)
            ahead = ahead.slice(sealed.num_rows)
        left = ahead.num_rows or next(batches, None) is not None
    return "it lacks some of them" if left else None


def _in_ranges(batch: pa.RecordBatch, ranges: Sequence[KeptRange]) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    place = pc.index_in(batch.column("org_id"), value_set=pa.array([one.org_id for one in ranges]))
    first = pa.array([one.first_seq for one in ranges], pa.int64()).take(place)
    last = pa.array([one.last_seq for one in ranges], pa.int64()).take(place)
    seq = batch.column("seq")
    return pc.fill_null(pc.and_(pc.less_equal(first, seq), pc.less_equal(seq, last)), False)


def _first_difference(kept: pa.Table, sealed: pa.Table) -> str:
    for row, other in zip(kept.to_pylist(), sealed.to_pylist(), strict=False):
        for name, value in row.items():
            if other[name] != value:
                return f"entry {row['seq']} of {row['org_id']} has another {name}"
    return f"{sealed.num_rows - kept.num_rows:,} of them are not in the database"


def _record(runtime: Runtime, days: int, before: datetime, by_block: Mapping[int, Sequence[KeptRange]]) -> None:
    """Write down that entries are about to leave, before the first one does: where any are old enough."""
    ranges = [one for listed in by_block.values() for one in listed]
    if ranges:
        after = {
            "retention_days": days,
            "recorded_before": format_instant(before),
            "blocks": len(by_block),
            "orgs": len({one.org_id for one in ranges}),
            "entries_at_most": sum(one.last_seq - one.first_seq + 1 for one in ranges),
        }
        with runtime.database.operator() as connection:
            record_act(connection, Act("retention.run", "ledger_entries", runtime.clock(), after=after))


def _forget(runtime: Runtime, one: KeptRange) -> int:
    gone = 0
    for through in (*range(one.first_seq + _AT_ONCE - 1, one.last_seq, _AT_ONCE), one.last_seq):
        try:
            with runtime.database.operator() as connection:
                gone += forget_entries(connection, one.org_id, through)
        except psycopg.errors.RestrictViolation as error:
            raise Unavailable(
                "retention_refused",
                f"the database keeps entries of {one.org_id}: {error.diag.message_primary}",
                next_step="compare this machine's clock with the database's",
                where=f"{one.org_id} up to {through}",
            ) from None
        reached("forget.gone")
    return gone
