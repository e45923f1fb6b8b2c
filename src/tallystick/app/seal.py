"""Seal committed entries into blocks: signed, hashed Parquet files that hold every org's sequence without a gap.

    under the one sealer's lock, for each block
        read      the next entries of each org, as Arrow columns, in one snapshot
        write     both files in the work folder, flushed to disk
        verify    read them back: the same rows, and every leaf computed again from what was read
        publish   give the files their names
        record    block, ranges, roots and hashes, in the transaction that holds the lock
    then a checkpoint over the log of all blocks: recorded, and written as a file

Dying between any two of these loses nothing: what the database does not know is removed when sealing begins again,
and a block without a checkpoint gets it then. Ed25519 signs the same text to the same bytes, so a checkpoint that is
made again is the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from errno import EDQUOT, ENOSPC
from threading import Lock
from typing import NamedTuple

from tallystick.app.runtime import Runtime
from tallystick.app.seal_block import Content, Progress, Tampered, before_tampered, describe, write_draft
from tallystick.app.settings import Settings
from tallystick.app.signing import open_signing_key
from tallystick.archive.paths import block_path
from tallystick.archive.store import BlockStore
from tallystick.core.errors import Unavailable
from tallystick.journal import sealing
from tallystick.journal.checkpoints import latest_checkpoint
from tallystick.journal.database import Connection
from tallystick.journal.sealing import Block, OrgRange
from tallystick.journal.steps import reached
from tallystick.ledger.checkpoint import NO_PREVIOUS, Checkpoint, note_sha256, sign_checkpoint
from tallystick.ledger.merkle import Frontier, leaf_hash, root

SEAL_ENTRIES_MIN = 100_000
"""So many unsealed entries are sealed at the next look."""
SEAL_AGE_MAX = timedelta(minutes=15)
"""Fewer are sealed once the oldest of them has waited so long: small blocks cost a reader more than they hold."""
_ORGS_MAX = 50_000
"""Most orgs in one block: each is a row, a statement and a line of the query that reads it."""

SEAL_STEPS = (
    "seal.begun",
    "seal.read",
    "seal.written",
    "seal.verified",
    "seal.people_in_place",
    "seal.block_in_place",
    "seal.recorded",
    "seal.committed",
    "seal.signed",
    "seal.checkpoint_recorded",
    "seal.done",
)
"""The named steps of sealing a block, in their order."""


alone = Lock()
"""One thread of a process at a time works on the blocks folder, as one process does: those that wait for the database's
lock hold a connection each, and must never keep the one who has it from the connections that it needs."""


class SealReport(NamedTuple):
    """What a run of sealing did.

    Attributes:
        blocks: the blocks that it sealed.
        entries: how many entries they hold.
        left: how many entries were left for a later run: too few and too new, or behind a tampered one.
        tampered: the first bad entry of each org that has one; it and what follows it were not sealed.
        busy: another process is sealing; nothing was done.
    """

    blocks: tuple[Block, ...] = ()
    entries: int = 0
    left: int = 0
    tampered: tuple[Tampered, ...] = ()
    busy: bool = False


def block_store(settings: Settings) -> BlockStore:
    """The folder of blocks."""
    return BlockStore(settings.blocks_dir or settings.data_dir / "blocks")


def seal_is_due(runtime: Runtime) -> bool:
    """Whether there is enough to seal, or something has waited for long enough."""
    with runtime.database.operator() as connection:
        return _is_due(connection, sealing.unsealed(connection), runtime.clock()) or _lacks_checkpoint(connection)


def unsealed_entries(runtime: Runtime) -> int:
    """How many entries no block holds."""
    with runtime.database.operator() as connection:
        return sum(one.entries for one in sealing.unsealed(connection))


def all_blocks(runtime: Runtime) -> list[Block]:
    """Every sealed block, in order."""
    with runtime.database.operator() as connection:
        return sealing.list_blocks(connection)


def seal_once(runtime: Runtime, *, everything: bool = False, progress: Progress | None = None) -> SealReport:
    """Seal what is due, up to where each org stands now; with `everything`, whatever there is.

    Safe at any time and from any number of processes: one seals, the others leave politely. Whatever kills it,
    running it again goes on without a gap or a duplicate.

    Args:
        everything: seal whatever there is, and wait for another process that is sealing.
        progress: called with the number of entries as they are verified.

    Raises:
        Conflict: `blocks_ahead`, `blocks_elsewhere`, `block_exists`; see `archive.store`. `signing_key_unknown`,
            `log_origin_changed`.
        BadInput, NotFound: the signing key cannot be used; see `app.signing`.
        Unavailable: `database_unreachable`, `storage_full`, `blocks_folder_unusable`, `block_unsound`.
    """
    if not alone.acquire(blocking=everything):
        return SealReport(busy=True)
    try:
        with full_disks_named():
            return _seal(runtime, everything, progress or (lambda _: None))
    finally:
        alone.release()


def _seal(runtime: Runtime, everything: bool, progress: Progress) -> SealReport:
    store = block_store(runtime.settings)
    store.prepare()
    with (
        runtime.database.operator() as watch
    ):  # held through the run; each block is recorded in a transaction of its own
        if not sealing.be_sealer(watch, wait=everything):
            return SealReport(busy=True)
        store.expect_home(sealing.last_block(watch))
        ranges = sealing.unsealed(watch)
        pending = sum(one.entries for one in ranges)
        due = everything or _is_due(watch, ranges, runtime.clock())
        _sign_checkpoint(runtime, store)
        waiting = list(reversed(ranges)) if due else []
        blocks: list[Block] = []
        tampered: list[Tampered] = []
        while waiting:
            block, found = _seal_block(runtime, store, _take(waiting, runtime.settings.block_entries_max), progress)
            tampered += found
            bad = {one.org_id for one in found}
            waiting = [one for one in waiting if one.org_id not in bad]
            if block is not None:
                blocks.append(block)
                _sign_checkpoint(runtime, store)
    entries = sum(block.entries for block in blocks)
    return SealReport(tuple(blocks), entries, pending - entries, tuple(tampered))


def _is_due(connection: Connection, ranges: Sequence[OrgRange], now: datetime) -> bool:
    if sum(one.entries for one in ranges) >= SEAL_ENTRIES_MIN:
        return True
    oldest = sealing.oldest_recorded_at(connection, ranges) if ranges else None
    return oldest is not None and oldest <= now - SEAL_AGE_MAX


def _take(waiting: list[OrgRange], entries_max: int) -> list[OrgRange]:
    """The next block's ranges, taken off the end of what waits; a range that does not fit is divided."""
    taken: list[OrgRange] = []
    room = entries_max
    while waiting and room and len(taken) < _ORGS_MAX:
        org, first, last = waiting.pop()
        if last - first + 1 > room:
            waiting.append(OrgRange(org, first + room, last))
            last = first + room - 1
        taken.append(OrgRange(org, first, last))
        room -= last - first + 1
    return taken


# ── one block ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _seal_block(
    runtime: Runtime, store: BlockStore, ranges: list[OrgRange], progress: Progress
) -> tuple[Block | None, list[Tampered]]:
    """The block, none when nothing of the ranges is sound, and what is not sound."""
    with runtime.database.operator() as connection:
        sealing.lock_folder(connection)
        number = sealing.last_block(connection) + 1
        store.tidy(number - 1)
        trees = _trees(connection, ranges)
        reached("seal.begun")
        block, tampered = _write_block(runtime, store, connection, number, ranges, trees, progress)
    reached("seal.committed")
    return block, tampered


def _write_block(
    runtime: Runtime,
    store: BlockStore,
    connection: Connection,
    number: int,
    ranges: list[OrgRange],
    trees: dict[str, Frontier],
    progress: Progress,
) -> tuple[Block | None, list[Tampered]]:
    tampered: list[Tampered] = []
    while ranges:
        with store.draft(number) as draft:
            found = write_draft(runtime.database, draft, number, ranges, progress)
            if isinstance(found, Content):
                sealed_at = runtime.clock()
                path = block_path(number, sealed_at)
                block, sealed = describe(draft, number, path, ranges, trees, found, sealed_at)
                draft.publish(path, reached)
                sealing.add_block(connection, block, sealed)
                reached("seal.recorded")
                return block, tampered
        tampered += found
        ranges = before_tampered(ranges, found)
    return None, tampered


def _trees(connection: Connection, ranges: list[OrgRange]) -> dict[str, Frontier]:
    trees = {one.org_id: Frontier() for one in ranges}
    for org, (size, frontier) in sealing.frontiers(connection, list(trees)).items():
        trees[org] = Frontier.from_bytes(size, frontier)
    return trees


# ── checkpoints ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _lacks_checkpoint(connection: Connection) -> bool:
    newest = latest_checkpoint(connection)
    return sealing.last_block(connection) > (newest.size if newest else 0)


def _sign_checkpoint(runtime: Runtime, store: BlockStore) -> None:
    """Sign the log as it stands, unless it is signed already, and see that every checkpoint has its file."""
    with runtime.database.operator() as connection:
        sealing.lock_folder(connection)
        if _lacks_checkpoint(connection):
            key = open_signing_key(runtime)
            newest = latest_checkpoint(connection)
            previous = note_sha256(newest.note) if newest else NO_PREVIOUS
            leaves = [leaf_hash(text.encode()) for text in sealing.statements(connection)]
            checkpoint = Checkpoint(runtime.settings.log_origin, len(leaves), root(leaves), previous)
            sealing.add_checkpoint(connection, len(leaves), sign_checkpoint(checkpoint, key), runtime.clock())
            reached("seal.signed")
    reached("seal.checkpoint_recorded")
    with runtime.database.operator() as connection:
        lacking = sealing.checkpoint_sizes(connection) - store.note_sizes()
        notes = sealing.checkpoint_notes(connection, lacking) if lacking else []
    for size, note in notes:
        store.write_note(size, note)
    reached("seal.done")


@contextmanager
def full_disks_named() -> Iterator[None]:
    """What the operating system says of a file in the blocks folder, as `storage_full` or `blocks_folder_unusable`."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            "storage_full" if error.errno in (ENOSPC, EDQUOT) else "blocks_folder_unusable",
            f"a block could not be written: {error}",
            next_step="make room on the disk that holds the blocks; nothing was lost, and sealing tries again",
            where=error.filename,
        ) from error
