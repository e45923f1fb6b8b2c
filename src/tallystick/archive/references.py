"""Which of an org's entries in a block refer to others: two numbers of each entry are read, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tallystick.archive.columns import REPEATING_COLUMNS
from tallystick.archive.format import named_faults
from tallystick.archive.org_rows import groups_of_org, is_wanted

_ROWS = 65_536


def iterate_references(
    main: Path, org_id: str, first_seq: int, last_seq: int, referred: AbstractSet[int]
) -> Iterator[int]:
    """The org's entries first_seq to last_seq in the block that refer to one of these, by their sequence, in order.

    Raises:
        BadInput: `broken_block`, `missing_block`.
    """
    wanted_seqs = pa.array(sorted(referred), pa.int64())
    with named_faults(main), pq.ParquetFile(main, read_dictionary=list(REPEATING_COLUMNS)) as file:
        groups = groups_of_org(file, org_id, first_seq, last_seq)
        for batch in file.iter_batches(batch_size=_ROWS, row_groups=groups, columns=["org_id", "seq", "refers_to_seq"]):
            refers = pc.is_in(batch.column("refers_to_seq").cast(pa.int64()), wanted_seqs)
            rows = batch.filter(pc.and_(is_wanted(batch, org_id, first_seq, last_seq), refers))
            yield from rows.column("seq").to_pylist()
