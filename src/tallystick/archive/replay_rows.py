"""Single rows of a replay: entries out of DuckDB's columns, and what the scalar pricing says of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tallystick.archive.columns import ENTRY_SCHEMA, LIST_COLUMNS, PERSONAL_COLUMNS, PLAIN_COLUMNS
from tallystick.archive.leaves import batch_entries
from tallystick.archive.lists import to_lists
from tallystick.archive.replay_cases import CardOf
from tallystick.invoice.compare import Difference
from tallystick.invoice.facts import StoredFact, name_of, recheck
from tallystick.ledger.entry import Entry


@dataclass(frozen=True, slots=True)
class EntryDifference:
    """One thing of one entry that is not as the scalar pricing has it; values as text, None for nothing."""

    org_id: str
    seq: int
    request_id: str
    field: str
    recorded: str | None
    recomputed: str | None


def entries_of(batch: pa.RecordBatch, meters: Sequence[str]) -> Iterator[Entry]:
    """The entries of rows of `entries`, as DuckDB gives them; personal data is not there."""
    rows = _typed(batch)
    columns = {name: pc.cast(rows.column(name), ENTRY_SCHEMA.field(name).type) for name in PLAIN_COLUMNS}
    columns |= to_lists(rows, meters)
    columns |= {name: pa.nulls(rows.num_rows, ENTRY_SCHEMA.field(name).type) for name in PERSONAL_COLUMNS}
    restored = pa.RecordBatch.from_arrays([columns[name] for name in ENTRY_SCHEMA.names], schema=ENTRY_SCHEMA)
    return batch_entries(restored)


def _typed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """DuckDB calls the elements of lists otherwise than Arrow does."""
    columns = {name: batch.column(name) for name in batch.schema.names}
    columns |= {name: pc.cast(columns[name], ENTRY_SCHEMA.field(name).type) for name in LIST_COLUMNS}
    return pa.RecordBatch.from_pydict(columns)


def check_usage(entry: Entry, card_of: CardOf) -> list[EntryDifference]:
    """Price an entry of usage again: how that differs."""
    return _checked(entry, StoredFact(entry, None), card_of)


def check_correction(correction: Entry, usage: Entry | None, card_of: CardOf) -> list[EntryDifference]:
    """Price again what a correction says that the entry it refers to costs: how that differs."""
    if usage is None:
        where = f"entry {correction.refers_to_seq} of the org"
        return [_difference(correction, "refers_to_seq", where, "a sealed entry of usage")]
    return _checked(correction, StoredFact(usage, correction), card_of)


def _checked(entry: Entry, fact: StoredFact, card_of: CardOf) -> list[EntryDifference]:
    try:
        again = recheck(fact, card_of)
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        # What was changed from outside may hold anything, also what nothing here can compute with.
        return [_difference(entry, "cost", str(entry.cost_pico), f"nothing: {error}")]
    return list(_of_entry(entry, again.differences))


def _of_entry(entry: Entry, differences: Sequence[Difference]) -> Iterator[EntryDifference]:
    """Those about this entry: leaves are for `tally verify`, which looks at every one."""
    for one in differences:
        if one.where == name_of(entry) and one.field != "leaf":
            yield _difference(entry, one.field, one.stored, one.recomputed)


def _difference(entry: Entry, field: str, recorded: str | None, recomputed: str | None) -> EntryDifference:
    return EntryDifference(entry.org_id, entry.seq, entry.request_id, field, recorded, recomputed)
