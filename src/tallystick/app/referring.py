"""The later entries that refer to an entry, wherever they are: in the database, or in blocks."""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.app.entries import stream_entries
from tallystick.app.runtime import Runtime
from tallystick.app.seal import block_store
from tallystick.journal.accounts import entries_referring, first_kept_seq
from tallystick.journal.sealing import blocks_of_org
from tallystick.ledger.entry import Entry

_ENDS = frozenset({"hold", "grant"})
"""What one entry refers to: the one that ends it. To others any number may."""


def referring_entries(runtime: Runtime, org_id: str, seq: int, kind: str) -> list[Entry]:
    """The entries that refer to the one at that place, in their order.

    Args:
        kind: of the entry that they refer to.

    Raises:
        Conflict: `entries_missing`.
        BadInput: of a block: `missing_block`, `broken_block`.
        Unavailable: `database_unreachable`.
    """
    with runtime.database.org(org_id) as connection:
        kept = entries_referring(connection, org_id, [seq])
        first_kept = first_kept_seq(connection, org_id)
    if kept and kind in _ENDS:
        return kept
    gone: list[Entry] = []
    for later in _seqs_in_blocks(runtime, org_id, seq, first_kept - 1):
        gone += stream_entries(runtime, org_id, later, later)
        if kind in _ENDS:
            break
    return [*gone, *kept]


def _seqs_in_blocks(runtime: Runtime, org_id: str, seq: int, last_seq: int) -> Iterator[int]:
    if seq >= last_seq:
        return
    from tallystick.archive.references import iterate_references

    with runtime.database.org(org_id) as connection:
        blocks = blocks_of_org(connection, org_id, seq + 1, last_seq)
    store = block_store(runtime.settings)
    for block in blocks:
        yield from iterate_references(store.main(block.path), org_id, seq + 1, last_seq, frozenset({seq}))
