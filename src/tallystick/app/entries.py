"""An org's entries as one sequence, wherever they are: in the database, or, once they have left it, in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from tallystick.app.seal import block_store
from tallystick.app.settings import Settings
from tallystick.archive.paths import people_path
from tallystick.core.errors import Conflict
from tallystick.journal.accounts import entries_of
from tallystick.journal.database import Database
from tallystick.journal.retention import entries_page
from tallystick.journal.sealing import blocks_of_org
from tallystick.ledger.entry import Entry

_PAGE = 4_000


class Ledger(Protocol):
    """What reading entries needs of a running system, or of a ledger that is opened for a check alone."""

    @property
    def settings(self) -> Settings: ...
    @property
    def database(self) -> Database: ...


def stream_entries(runtime: Ledger, org_id: str, first_seq: int, last_seq: int) -> Iterator[Entry]:
    """Entries first_seq to last_seq of an org, in order and without a gap; memory does not grow with their number.

    It stays exact while entries leave the database: what is no longer found there is read from its block. Files are
    read as they are; that they are the sealed ones is for `tally verify` to say.

    Args:
        last_seq: at most the org's last.

    Raises:
        Conflict: `entries_missing`: an entry is neither in the database nor in a block; it was taken away.
        BadInput: `missing_block`, `broken_block`.
        Unavailable: `database_unreachable`.
    """
    next_seq = first_seq
    while next_seq <= last_seq:
        with runtime.database.org(org_id) as connection:
            page = entries_page(connection, org_id, next_seq, last_seq, _PAGE)
        begins = page[0].seq if page else last_seq + 1
        if begins > next_seq:
            yield from _from_blocks(runtime, org_id, next_seq, begins - 1)
            next_seq = begins
        for entry in page:
            if entry.seq != next_seq:
                raise _missing(org_id, next_seq)
            yield entry
            next_seq += 1


def entries_at(runtime: Ledger, org_id: str, seqs: Iterable[int]) -> dict[int, Entry]:
    """The entries at these places of an org's sequence, by place; those in the database are read at once.

    Raises:
        Conflict, BadInput, Unavailable: as `stream_entries`.
    """
    wanted = list(seqs)
    with runtime.database.org(org_id) as connection:
        found = {entry.seq: entry for entry in entries_of(connection, org_id, wanted)}
    for seq in wanted:
        if seq not in found:
            (found[seq],) = stream_entries(runtime, org_id, seq, seq)
    return found


def _from_blocks(runtime: Ledger, org_id: str, first_seq: int, last_seq: int) -> Iterator[Entry]:
    from tallystick.archive.leaves import batch_entries
    from tallystick.archive.org_rows import iterate_org

    with runtime.database.org(org_id) as connection:
        blocks = blocks_of_org(connection, org_id, first_seq, last_seq)
    store = block_store(runtime.settings)
    next_seq = first_seq
    for block in blocks:
        main = store.main(block.path)
        for batch in iterate_org(main, people_path(main), org_id, first_seq, last_seq):
            for entry in batch_entries(batch):
                if entry.seq != next_seq:
                    raise _missing(org_id, next_seq)
                yield entry
                next_seq += 1
    if next_seq <= last_seq:
        raise _missing(org_id, next_seq)


def _missing(org_id: str, seq: int) -> Conflict:
    return Conflict(
        "entries_missing",
        f"entry {seq} of {org_id} is neither in the database nor in a block",
        next_step="run `tally verify`; restore the database or the blocks folder from a backup",
        where=org_id,
    )
