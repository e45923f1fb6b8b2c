"""Erase a person: from the database's rows, and from the people files beside the blocks.

    under the lock of the blocks folder, so that no block is being sealed from rows that still name the person
        database   one function nulls user, session, attributes and salt of the person's entries and records which
                   keys that stand for the person end, and forget whom they stood for; billing profiles that are the
                   person are erased, but for those that issued invoices name
        files      each people file that names the person, or an entry that is recorded as erased, is written again

What was proved stays proved: leaves hold a salted fingerprint of the personal data, and without the salt it tells
nothing about anyone. Each step may be repeated: dying between two of them is mended by running it again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from tallystick.app.audit import Act, record_act
from tallystick.app.runtime import Runtime
from tallystick.app.seal import alone, block_store, full_disks_named
from tallystick.archive.paths import people_path
from tallystick.archive.store import BlockStore
from tallystick.core.errors import BadInput
from tallystick.journal.billing import erase_profiles
from tallystick.journal.erasure import erase_person as erase_rows
from tallystick.journal.erasure import erased_seqs, record_erasures
from tallystick.journal.keys import erase_person_of_keys
from tallystick.journal.sealing import BlockRange, blocks_of_org, last_block, lock_folder
from tallystick.journal.steps import reached

Progress = Callable[[int], object]
_SEQ_MAX = 2**63 - 1

ERASE_STEPS = ("erase.begun", "erase.rows_erased", "erase.recorded", "erase.file_written", "erase.done")
"""The named steps of an erasure, in their order."""


class Erasure(NamedTuple):
    """What was erased.

    Attributes:
        rows: entries in the database whose personal data was there and is gone.
        archived_rows: entries in people files, likewise; sealed entries that are also in the database count in both.
        files: the people files that were written again.
        keys: keys that stood for the person, and have ended.
    """

    rows: int
    archived_rows: int
    files: int
    keys: int = 0


def erase_person(runtime: Runtime, org_id: str, user_id: str, progress: Progress | None = None) -> Erasure:
    """Erase all that the org's entries hold of a user; running it again finishes what was interrupted.

    Events that arrive for the user afterwards are entries like any other: they name the user again.

    Raises:
        BadInput: `invalid_text`: no user can be called so; `broken_block`, `missing_block`: a file cannot be read.
        Unavailable: `database_unreachable`, `storage_full`, `blocks_folder_unusable`.
    """
    if not user_id or "\0" in user_id:
        raise BadInput("invalid_text", "no user can be called so", next_step="give the user's id", where="user_id")
    store = block_store(runtime.settings)
    store.prepare()
    with alone, full_disks_named(), runtime.database.operator() as lock:
        lock_folder(lock)
        store.tidy(last_block(lock))  # what an interrupted sealing has left may name the person, too
        reached("erase.begun")
        with runtime.database.operator() as connection:
            rows = erase_rows(connection, org_id, user_id)
            keys = erase_person_of_keys(connection, org_id, user_id, runtime.clock())
            profiles = erase_profiles(connection, org_id, user_id, runtime.clock())
            erased = {"entries": rows, "keys": keys, "billing_profiles": profiles}
            # Who it was is what is erased: the act says that a person was, and never which.
            record_act(connection, Act("person.erase", "a person", runtime.clock(), org_id, after=erased))
        if keys:
            runtime.keys.forget()
        reached("erase.rows_erased")
        archived_rows = files = 0
        for block in blocks_of_org(lock, org_id, 1, _SEQ_MAX):
            archived = _erase_in_block(runtime, store, block, org_id, user_id)
            archived_rows += archived
            files += archived > 0
            if progress:
                progress(1)
        reached("erase.done")
    return Erasure(rows, archived_rows, files, keys)


def _erase_in_block(runtime: Runtime, store: BlockStore, block: BlockRange, org_id: str, user_id: str) -> int:
    """How many rows the block's people file lost."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from tallystick.archive.org_rows import people_of

    main = store.main(block.path)
    found = people_of(people_path(main), org_id, block.first_seq, block.last_seq)
    named = found.filter(pc.equal(found.column("user_id"), user_id)).column("seq").to_pylist()
    with runtime.database.operator() as connection:
        record_erasures(connection, org_id, named)
    reached("erase.recorded")
    with runtime.database.operator() as connection:
        recorded = erased_seqs(connection, org_id, block.first_seq, block.last_seq)
    gone = pa.array(sorted({*named, *recorded}), pa.int64())
    count = pc.sum(pc.is_in(found.column("seq"), value_set=gone)).as_py() or 0
    if count:
        _rewrite(store, main, org_id, gone)
        reached("erase.file_written")
    return int(count)


def _rewrite(store: BlockStore, main: Path, org_id: str, gone: object) -> None:
    """The people file without the org's entries `gone`."""
    import pyarrow.compute as pc

    from tallystick.archive.format import read_people, write_people

    table = read_people(people_path(main))
    leaves = pc.and_(pc.equal(table.column("org_id"), org_id), pc.is_in(table.column("seq"), value_set=gone))
    kept = table.filter(pc.invert(leaves))

    def write(file: IO[bytes]) -> None:
        write_people(kept, file)

    store.replace_people(main, write)
