"""One org's operations out of a block: little of each entry is read, and nothing of usage is restored."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tallystick.archive.columns import REPEATING_COLUMNS
from tallystick.archive.format import named_faults
from tallystick.archive.org_rows import groups_of_org, is_wanted, people_of

_TEXTS = ("feature", "environment", "provider", "model", "api_key_id", "action")
_COLUMNS = ("seq", "kind", "recorded_at", "refers_to_seq", "body", "request_id", *_TEXTS)
_ROWS = 16_384


def iterate_operations(
    main: Path, people: Path, org_id: str, first_seq: int, last_seq: int
) -> Iterator[tuple[Any, ...]]:
    """The org's operations among its entries first_seq to last_seq that the block holds, in order.

    Yields:
        seq, kind, recorded_at, refers_to_seq, user_id, body, request_id, and (feature, environment, provider, model,
        api_key_id, action).

    Raises:
        BadInput: `broken_block`, `missing_block`.
    """
    personal = people_of(people, org_id, first_seq, last_seq)
    users = dict(zip(personal.column("seq").to_pylist(), personal.column("user_id").to_pylist(), strict=True))
    with named_faults(main), pq.ParquetFile(main, read_dictionary=list(REPEATING_COLUMNS)) as file:
        groups = groups_of_org(file, org_id, first_seq, last_seq)
        for batch in file.iter_batches(batch_size=_ROWS, row_groups=groups, columns=["org_id", *_COLUMNS]):
            wanted = pc.and_(is_wanted(batch, org_id, first_seq, last_seq), pc.is_valid(batch.column("body")))
            rows = batch.filter(wanted)
            columns = [rows.column(name).to_pylist() for name in _COLUMNS]
            for seq, kind, recorded_at, refers_to_seq, body, request_id, *texts in zip(*columns, strict=True):
                at = recorded_at.replace(tzinfo=UTC)
                yield seq, kind, at, refers_to_seq, users.get(seq), body, request_id, tuple(texts)
