"""Finding entries in sealed blocks: only the columns that say what an entry is called, and what it refers to, are read.

A block has no index by request id: each is read through, some millions of entries a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tallystick.archive.format import named_faults
from tallystick.archive.org_rows import groups_of_org

_ROWS = 65_536
_LAST = 2**63 - 1
Place = tuple[str, int]
"""Org and sequence number."""


def rows_named(main: Path, org_id: str | None, ids: AbstractSet[str], refers_to: AbstractSet[int]) -> list[Place]:
    """Where the entries are that were sent under one of these request ids, or refer to one of these entries.

    Args:
        main: the block's own file.
        org_id: whose; None for any. Without an org `refers_to` means nothing.

    Raises:
        BadInput: `broken_block`, `missing_block`.
    """
    called = pa.array(sorted(ids), pa.string())
    referred = pa.array(sorted(refers_to) if org_id is not None else [], pa.int64())

    def wanted(batch: pa.RecordBatch) -> pa.Array:
        by_name = pc.is_in(batch.column("request_id").cast(pa.string()), value_set=called)
        return pc.or_(by_name, pc.is_in(batch.column("refers_to_seq"), value_set=referred))

    return list(_places(main, org_id, ("org_id", "seq", "request_id", "refers_to_seq"), wanted))


def rows_of_provider(people: Path, org_id: str | None, provider_request_id: str) -> list[Place]:
    """Where the usage of calls is that the provider knows under this id; it stands among what may be erased.

    Args:
        people: the block's people file.

    Raises:
        BadInput: `broken_block`, `missing_block`.
    """
    text = msgspec.json.encode(provider_request_id).decode()

    def wanted(batch: pa.RecordBatch) -> pa.Array:
        column = batch.column("attributes").cast(pa.string())
        maybe = pc.fill_null(pc.match_substring(column, text), False)
        return pa.array(
            [
                near and msgspec.json.decode(one.as_py()).get("provider_request_id") == provider_request_id
                for near, one in zip(maybe.to_pylist(), column, strict=True)
            ],
            pa.bool_(),
        )

    return list(_places(people, org_id, ("org_id", "seq", "attributes"), wanted))


def rows_with_body(main: Path, org_id: str | None, text: str) -> list[Place]:
    """Where operations are whose body has this text in it.

    Raises:
        BadInput: `broken_block`, `missing_block`.
    """

    def wanted(batch: pa.RecordBatch) -> pa.Array:
        return pc.fill_null(pc.match_substring(batch.column("body").cast(pa.string()), text), False)

    return list(_places(main, org_id, ("org_id", "seq", "body"), wanted))


def _places(
    file_path: Path, org_id: str | None, columns: Sequence[str], wanted: Callable[[pa.RecordBatch], pa.Array]
) -> Iterator[Place]:
    with named_faults(file_path), pq.ParquetFile(file_path) as file:
        groups = None if org_id is None else groups_of_org(file, org_id, 1, _LAST)
        for batch in file.iter_batches(batch_size=_ROWS, row_groups=groups, columns=list(columns)):
            chosen = wanted(batch)
            if org_id is not None:
                chosen = pc.and_(chosen, pc.equal(batch.column("org_id").cast(pa.string()), org_id))
            found = batch.filter(chosen)
            yield from zip(
                found.column("org_id").cast(pa.string()).to_pylist(), found.column("seq").to_pylist(), strict=True
            )
