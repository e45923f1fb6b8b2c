"""One org's usage out of a block, and what corrects it, by request ids: little of each entry, and nothing personal."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tallystick.archive.columns import REPEATING_COLUMNS
from tallystick.archive.format import named_faults
from tallystick.archive.org_rows import groups_of_org, is_wanted

_COLUMNS = ("request_id", "seq", "cost_pico", "payer", "environment", "refers_to_seq")
_KINDS = pa.array(["usage", "correction"], pa.string())
_ROWS = 65_536


def iterate_usage(main: Path, org_id: str, last_seq: int, request_ids: AbstractSet[str]) -> Iterator[tuple[Any, ...]]:
    """The org's entries of usage up to last_seq under these request ids that the block holds, and what corrects them.

    Yields:
        request_id, seq, cost_pico, payer, environment and refers_to_seq, as the ledger has them, in order; the last is
        None of usage.

    Raises:
        BadInput: `broken_block`, `missing_block`.
    """
    wanted_ids = pa.array(sorted(request_ids), pa.string())
    with named_faults(main), pq.ParquetFile(main, read_dictionary=list(REPEATING_COLUMNS)) as file:
        groups = groups_of_org(file, org_id, 1, last_seq)
        for batch in file.iter_batches(batch_size=_ROWS, row_groups=groups, columns=["org_id", "kind", *_COLUMNS]):
            wanted = pc.and_(
                is_wanted(batch, org_id, 1, last_seq), pc.is_in(batch.column("kind").cast(pa.string()), _KINDS)
            )
            rows = batch.filter(pc.and_(wanted, pc.is_in(batch.column("request_id").cast(pa.string()), wanted_ids)))
            yield from zip(*(rows.column(name).to_pylist() for name in _COLUMNS), strict=True)
