"""The entries of a proof: that they are all there, and what those of each month add up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from tallystick.core.instants import format_instant
from tallystick.invoice.entry_count import EntryCount
from tallystick.ledger.entry import Entry
from tallystick.ledger.preimage import read_preimage

TIME_MAX_FIRST = datetime.fromisoformat("2000-01-01T00:00:00Z")
"""What a new org's latest time begins with; no event is older."""
_PROGRESS_ENTRIES = 1000


@dataclass(slots=True)
class EntriesFound:
    """What the entries of a proof are: the sequence of the first (1 when there are none) and the hash of each."""

    first_seq: int = 1
    leaves: list[bytes] = field(default_factory=list)


def read_entries(
    raws: Sequence[bytes | msgspec.Raw],
    org_id: str,
    since: datetime,
    through_seq: int,
    counts: Sequence[EntryCount],
    progress: Callable[[int], object],
) -> EntriesFound:
    """Read a dense run of one org's entries, and add each to the counts.

    That nothing of the months is missing follows from three things: the sequence is dense; it ends at
    `through_seq`; and it begins at entry 1, or with an entry at which the ledger, in all its history, had not
    reached the first of them yet (`time_max`, which rises with the sequence and is part of each leaf).

    Args:
        raws: the preimages of the entries.
        org_id, through_seq: what the invoice says of them.
        since: when the first of the months begins.
        counts: what is to be counted.
        progress: called with the number of entries read since the last call.

    Raises:
        BadInput: `invalid_entry`.
        ValueError: they are not a dense run of that org's entries up to `through_seq`.
    """
    found = EntriesFound()
    before: Entry | None = None
    for number, raw in enumerate(raws):
        entry = read_preimage(raw)
        _expect_next(entry, before, org_id)
        if before is None:
            found.first_seq = entry.seq
            _expect_beginning(entry, since)
        found.leaves.append(entry.leaf)
        for count in counts:
            count.add(entry)
        before = entry
        if number % _PROGRESS_ENTRIES == _PROGRESS_ENTRIES - 1:
            progress(_PROGRESS_ENTRIES)
    last = before.seq if before else 0
    if last != through_seq:
        raise ValueError(f"the entries end at {last}, and the invoice covers all up to {through_seq}")
    return found


def _expect_next(entry: Entry, before: Entry | None, org_id: str) -> None:
    """The entry is the org's next one, and its `time_max` the latest time so far."""
    if entry.org_id != org_id:
        raise ValueError(f"entry {entry.seq} belongs to {entry.org_id}, the invoice to {org_id}")
    if before is not None and entry.seq != before.seq + 1:
        raise ValueError(f"entry {before.seq + 1} is missing: {entry.seq} follows {before.seq}")
    if before is not None or entry.seq == 1:
        latest = before.time_max if before is not None else TIME_MAX_FIRST
        due = latest if entry.kind == "correction" else max(latest, entry.time)
        if entry.time_max != due:
            raise ValueError(
                f"entry {entry.seq} says that the latest time was {format_instant(entry.time_max)}, "
                f"and it was {format_instant(due)}"
            )


def _expect_beginning(entry: Entry, since: datetime) -> None:
    if entry.seq < 1 or (entry.seq > 1 and entry.time_max >= since):
        raise ValueError(
            f"the entries begin at {entry.seq}, when the ledger had reached the period already: "
            "entries of the period may be missing before it"
        )
