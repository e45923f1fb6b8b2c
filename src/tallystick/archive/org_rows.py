"""One org's entries out of a block: only the row groups that can hold them are read, and nothing else is restored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tallystick.archive.columns import ENTRY_SCHEMA, PERSONAL_COLUMNS, PLAIN_COLUMNS, REPEATING_COLUMNS
from tallystick.archive.format import PEOPLE_SCHEMA, block_info, named_faults
from tallystick.archive.lists import to_lists

_ROWS = 16_384


def iterate_org(main: Path, people: Path, org_id: str, first_seq: int, last_seq: int) -> Iterator[pa.RecordBatch]:
    """The org's entries first_seq to last_seq that the block holds, in order, with the columns of `ENTRY_SCHEMA`.

    Raises:
        BadInput: `broken_block`, `missing_block`.
    """
    meters = block_info(main).meters
    personal = people_of(people, org_id, first_seq, last_seq)
    with named_faults(main), pq.ParquetFile(main, read_dictionary=[*REPEATING_COLUMNS, "pricing"]) as file:
        groups = groups_of_org(file, org_id, first_seq, last_seq)
        for batch in file.iter_batches(batch_size=_ROWS, row_groups=groups):
            wanted = batch.filter(is_wanted(batch, org_id, first_seq, last_seq))
            if wanted.num_rows:
                yield _restored(wanted, meters, personal)


def people_of(people: Path, org_id: str, first_seq: int, last_seq: int) -> pa.Table:
    """What the people file has of the org's entries first_seq to last_seq, in order."""
    with named_faults(people), pq.ParquetFile(people) as file:
        parts = [
            batch.filter(is_wanted(batch, org_id, first_seq, last_seq))
            for batch in file.iter_batches(row_groups=groups_of_org(file, org_id, first_seq, last_seq))
        ]
    return pa.Table.from_batches(parts, schema=PEOPLE_SCHEMA).combine_chunks()


def groups_of_org(file: pq.ParquetFile, org_id: str, first_seq: int, last_seq: int) -> list[int]:
    """The row groups whose statistics do not rule the entries out."""
    names = file.schema_arrow.names
    org, seq = names.index("org_id"), names.index("seq")
    found = []
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        orgs, seqs = group.column(org).statistics, group.column(seq).statistics
        if orgs is not None and orgs.has_min_max and not orgs.min <= org_id <= orgs.max:
            continue
        if seqs is not None and seqs.has_min_max and (seqs.max < first_seq or seqs.min > last_seq):
            continue
        found.append(number)
    return found


def is_wanted(batch: pa.RecordBatch, org_id: str, first_seq: int, last_seq: int) -> pa.Array:
    """Which rows are of the org's entries first_seq to last_seq."""
    seq = batch.column("seq")
    in_range = pc.and_(pc.greater_equal(seq, first_seq), pc.less_equal(seq, last_seq))
    return pc.and_(pc.equal(batch.column("org_id").cast(pa.string()), org_id), in_range)


def _restored(batch: pa.RecordBatch, meters: tuple[str, ...], personal: pa.Table) -> pa.RecordBatch:
    columns = {name: pc.cast(batch.column(name), ENTRY_SCHEMA.field(name).type) for name in PLAIN_COLUMNS}
    columns |= to_lists(batch, meters)
    place = pc.index_in(columns["seq"], value_set=personal.column("seq").combine_chunks())
    for name in PERSONAL_COLUMNS:
        column = personal.column(name).combine_chunks()
        columns[name] = column.take(place) if len(column) else pa.nulls(batch.num_rows, column.type)
    return pa.RecordBatch.from_arrays([columns[name] for name in ENTRY_SCHEMA.names], schema=ENTRY_SCHEMA)
