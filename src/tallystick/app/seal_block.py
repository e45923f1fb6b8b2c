"""Make one block: read its entries, write its files, read them back, and say what it holds.

Nothing is published or recorded here; `app.seal` does that once the files are known to be right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import IO, TYPE_CHECKING, NamedTuple

from tallystick.archive.store import Draft, file_sha256
from tallystick.core.errors import BadInput, Unavailable
from tallystick.journal.database import Database
from tallystick.journal.sealing import Block, OrgRange, SealedRange, read_entries
from tallystick.journal.steps import reached
from tallystick.ledger.merkle import Frontier, root
from tallystick.ledger.statements import BlockStatement, OrgStatement, orgs_root

if TYPE_CHECKING:
    import pyarrow as pa

_READ_ROWS = 32_768  # of a block in memory while it is read back
Progress = Callable[[int], object]


class Tampered(NamedTuple):
    """An entry that is not the one that was written: its row is gone, or gives another leaf than it carries."""

    org_id: str
    seq: int


class Content(NamedTuple):
    """What was read back of a block's file: every leaf in its order, and the times of the events."""

    leaves: list[bytes]
    time_min: datetime
    time_max: datetime


def write_draft(
    database: Database, draft: Draft, number: int, ranges: Sequence[OrgRange], progress: Progress
) -> Content | list[Tampered]:
    """Write the files of a block and verify them; where rows are tampered with, the first such of each org instead.

    Raises:
        Unavailable: `database_unreachable`; `block_unsound`: the files do not give back what was written to them.
    """
    import pyarrow as pa

    from tallystick.archive.columns import conform
    from tallystick.archive.format import write_block

    with read_entries(database, ranges) as batches:
        table = conform(pa.Table.from_batches(batches, schema=batches.schema))
    missing = _missing(table, ranges)
    if missing:
        return missing
    reached("seal.read")

    def write(main: IO[bytes], people: IO[bytes]) -> None:
        write_block(table, main, people, block=number)

    draft.write(write)
    pa.default_memory_pool().release_unused()
    reached("seal.written")
    try:
        content = _read_back(draft, table, progress)
    except BadInput as error:
        raise _unsound(draft, error.detail) from None
    reached("seal.verified")
    return content


def _read_back(draft: Draft, table: pa.Table, progress: Progress) -> Content | list[Tampered]:
    import pyarrow as pa

    from tallystick.archive.format import block_info, iterate_block
    from tallystick.archive.leaves import batch_leaves

    leaves: list[bytes] = []
    wrong: dict[str, int] = {}
    for batch in iterate_block(draft.main, draft.people, rows=_READ_ROWS):
        if not pa.Table.from_batches([batch]).equals(table.slice(len(leaves), batch.num_rows)):
            raise _unsound(draft, "other rows came back than were written")
        stored = batch.column("leaf").to_pylist()
        computed = batch_leaves(batch)
        if computed != stored:
            for place, leaf in enumerate(stored):
                if computed[place] != leaf:
                    wrong.setdefault(batch.column("org_id")[place].as_py(), batch.column("seq")[place].as_py())
        leaves += stored
        progress(batch.num_rows)
    info = block_info(draft.main)
    if not len(leaves) == table.num_rows == info.entries:
        raise _unsound(draft, f"{len(leaves):,} rows came back of {table.num_rows:,}")
    if wrong:
        return [Tampered(org, seq) for org, seq in sorted(wrong.items())]
    return Content(leaves, info.time_min, info.time_max)


def _missing(table: pa.Table, ranges: Sequence[OrgRange]) -> list[Tampered]:
    """Of each org the first entry that is not where it should be: its row was deleted."""
    found: list[Tampered] = []
    orgs, seqs = table.column("org_id").combine_chunks(), table.column("seq").to_numpy()
    start = 0
    for org, first, last in ranges:
        count = last - first + 1
        same = _run(orgs, seqs, start, org, first, count)
        if same < count:
            found.append(Tampered(org, first + same))
            # What is left of the org's rows is behind the gap.
            while start + same < len(orgs) and orgs[start + same].as_py() == org:
                start += 1
        start += same
    return found


def _run(orgs: pa.Array, seqs: object, start: int, org: str, first: int, count: int) -> int:
    """How many of the rows from `start` on are the org's, numbered from `first` without a gap."""
    import numpy as np
    import pyarrow.compute as pc

    part = np.asarray(seqs)[start : start + count]
    if len(part) == count and int(part[0]) == first and int(part[-1]) == first + count - 1:
        steps = np.diff(part)
        if (steps == 1).all() and pc.all(pc.equal(orgs.slice(start, count), org)).as_py():
            return count
    same = 0
    for place, seq in enumerate(part.tolist()):
        if seq != first + place or orgs[start + place].as_py() != org:
            break
        same += 1
    return same


def before_tampered(ranges: Sequence[OrgRange], tampered: Sequence[Tampered]) -> list[OrgRange]:
    """The ranges up to the first bad entry of each org."""
    bad = {one.org_id: one.seq for one in tampered}
    cut = (OrgRange(org, first, min(last, bad.get(org, last + 1) - 1)) for org, first, last in ranges)
    return [one for one in cut if one.entries > 0]


def describe(
    draft: Draft,
    number: int,
    path: str,
    ranges: Sequence[OrgRange],
    trees: dict[str, Frontier],
    content: Content,
    sealed_at: datetime,
) -> tuple[Block, list[SealedRange]]:
    """The rows that record a block whose files were verified.

    Args:
        trees: each org's tree before this block; it is grown.
    """
    sealed: list[SealedRange] = []
    start = 0
    for org, first, last in ranges:
        tree = trees[org]
        tree.extend(content.leaves[start : start + last - first + 1])
        start += last - first + 1
        sealed.append(SealedRange(org, first, last, tree.root(), tree.to_bytes()))
    statement = BlockStatement(
        block=number,
        entries=len(content.leaves),
        file_sha256=file_sha256(draft.main),
        merkle_root=root(content.leaves),
        orgs=len(sealed),
        orgs_root=orgs_root(OrgStatement(one.org_id, one.first_seq, one.last_seq, one.root) for one in sealed),
        sealed_at=sealed_at,
    )
    block = Block(
        block=number,
        path=path,
        entries=statement.entries,
        file_bytes=draft.main.stat().st_size,
        time_min=content.time_min,
        time_max=content.time_max,
        file_sha256=statement.file_sha256,
        merkle_root=statement.merkle_root,
        orgs_root=statement.orgs_root,
        statement=statement.encode().decode(),
        sealed_at=sealed_at,
    )
    return block, sealed


def _unsound(draft: Draft, what: str) -> Unavailable:
    return Unavailable(
        "block_unsound",
        f"the block that was just written to {draft.main} does not read back: {what}",
        next_step="check the disk that holds the blocks; nothing was sealed, and sealing tries again",
        where=str(draft.main),
    )
