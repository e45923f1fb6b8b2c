"""A sealed block as two Parquet files: the entries, and apart from them what may be erased of them.

The block's own file has no personal data; it is hashed, signed and never changes. The people file beside it has
`org_id`, `seq` and the personal columns of the entries that have any. It may be rewritten when a person is erased;
every row of it is proved through the salted fingerprint in the block. docs/blocks.md describes both, column by column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tallystick.archive.columns import (
    ENTRY_SCHEMA,
    PERSONAL_COLUMNS,
    PLAIN_COLUMNS,
    REPEATING_COLUMNS,
    conform,
)
from tallystick.archive.lines import flat_fields, flat_meters, to_flat
from tallystick.archive.lists import to_lists
from tallystick.core.errors import BadInput
from tallystick.core.struct_types import work_out

FORMAT = "tallystick block 1"
"""What a block's file says of itself under the key `format`; another layout will say another number."""
GROUP_ROWS = 122_880
"""Entries in a row group: 60 of DuckDB's vectors, so that its threads share a block, and an org's rows are found."""

_HASHES = ("fingerprint", "leaf")
_NUMBERS = ("time", "cost_pico", "provider_cost_pico")
"""What a replay reads besides the flat columns and what repeats. lz4 is unpacked in a third of the time of zstd."""
_RISING = ("seq", "time", "time_max", "recorded_at", "refers_to_seq")
PEOPLE_SCHEMA = pa.schema([ENTRY_SCHEMA.field(name) for name in ("org_id", "seq", *PERSONAL_COLUMNS)])

Target = Path | IO[bytes]


class BlockInfo(msgspec.Struct, frozen=True):
    """What a block's file says of itself.

    Attributes:
        block: its number.
        entries: how many entries it holds.
        meters: the meters that have columns of their own.
        time_min: the earliest event time in it.
        time_max: the latest event time in it.
    """

    block: int
    entries: int
    meters: tuple[str, ...]
    time_min: datetime
    time_max: datetime


work_out(BlockInfo)


def write_block(table: pa.Table, main: Target, people: Target, *, block: int) -> BlockInfo:
    """Write entries as block number `block`: their own file, and the people file.

    Nothing is flushed to disk here and nothing is renamed; that is the caller's.

    Args:
        table: the columns of `ledger_entries` as ADBC reads them, sorted by org and sequence, at least one row.
        main: where the block goes: a path or an open file.
        people: where the personal columns go.
        block: the block's number, from 1.
    """
    entries = conform(table)
    meters = flat_meters([entries.column("meter_names"), entries.column("line_meters")])
    times = pc.min_max(entries.column("time")).as_py()
    info = BlockInfo(block, entries.num_rows, tuple(meters), times["min"].astimezone(UTC), times["max"].astimezone(UTC))
    about = {"format": FORMAT, "block": msgspec.json.encode(info)}
    schema = block_schema(meters).with_metadata(about)
    options = _main_options(schema, min(GROUP_ROWS, entries.num_rows))
    with pq.ParquetWriter(main, schema, **options) as writer:
        for start in range(0, entries.num_rows, GROUP_ROWS):
            (rows,) = entries.slice(start, GROUP_ROWS).combine_chunks().to_batches()
            plain = [_encoded(rows.column(name), name) for name in PLAIN_COLUMNS]
            batch = pa.RecordBatch.from_arrays([*plain, *to_flat(rows, meters)], schema=schema)
            writer.write_batch(batch, row_group_size=GROUP_ROWS)
    write_people(entries.select(PEOPLE_SCHEMA.names), people)
    return info


def write_people(table: pa.Table, people: Target) -> None:
    """Write the personal columns of entries, in the order of (org_id, seq): those rows that have any."""
    has_any = pc.is_valid(table.column("user_id"))
    for name in PERSONAL_COLUMNS[1:]:
        has_any = pc.or_(has_any, pc.is_valid(table.column(name)))
    kept = table.select(PEOPLE_SCHEMA.names).filter(has_any)
    pq.write_table(
        kept,
        people,
        row_group_size=GROUP_ROWS,
        compression={name: "none" if name == "salt" else "zstd" for name in kept.column_names},
        use_dictionary=["org_id", "user_id", "session_id", "attributes"],
        write_page_index=True,
        store_schema=True,
    )


def read_people(people: Path) -> pa.Table:
    """The whole people file.

    Raises:
        BadInput: `broken_block`, `missing_block`.
    """
    with named_faults(people):
        table = pq.read_table(people)
        if not table.schema.remove_metadata().equals(PEOPLE_SCHEMA):
            raise _broken(people, "its columns are not those of a people file")
        return table


def block_schema(meters: Sequence[str]) -> pa.Schema:
    """The columns of a block's own file in which these meters occur."""
    plain = [_field(name) for name in PLAIN_COLUMNS]
    return pa.schema([*plain, *flat_fields(meters)])


def _field(name: str) -> pa.Field:
    if name in REPEATING_COLUMNS:
        return pa.field(name, pa.dictionary(pa.int32(), pa.string()))
    return pa.field(name, pa.binary(32)) if name in _HASHES else ENTRY_SCHEMA.field(name)


def _encoded(column: pa.Array, name: str) -> pa.Array:
    if name in REPEATING_COLUMNS:
        return column.dictionary_encode()
    return pc.cast(column, pa.binary(32)) if name in _HASHES else column


def _main_options(schema: pa.Schema, rows: int) -> dict[str, Any]:
    flat = [name for name in schema.names if name.startswith(("quantity.", "amount."))]
    often_read = {*REPEATING_COLUMNS, *_NUMBERS, "pricing", *flat}
    return {
        "compression": {
            path: "none" if path in _HASHES else "lz4" if path in often_read else "zstd" for path in _leaf_paths(schema)
        },
        "max_rows_per_page": GROUP_ROWS,
        "use_dictionary": [*REPEATING_COLUMNS, "pricing", *flat],
        "column_encoding": dict.fromkeys(_RISING, "DELTA_BINARY_PACKED"),
        "write_statistics": [name for name in schema.names if name not in (*_HASHES, "request_id")],
        "write_page_index": True,
        "bloom_filter_options": {"request_id": {"ndv": rows, "fpp": 0.01}},
        "sorting_columns": [
            pq.SortingColumn(schema.names.index("org_id")),
            pq.SortingColumn(schema.names.index("seq")),
        ],
    }


def _leaf_paths(schema: pa.Schema) -> list[str]:
    return [f"{one.name}.list.element" if pa.types.is_list(one.type) else one.name for one in schema]


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def block_info(main: Path) -> BlockInfo:
    """What a block's file says of itself; only its end is read.

    Raises:
        BadInput: `broken_block`.
    """
    with named_faults(main):
        return _info(pq.read_schema(main), main)


def _info(schema: pa.Schema, main: Path) -> BlockInfo:
    metadata = schema.metadata or {}
    if metadata.get(b"format") != FORMAT.encode():
        raise _broken(main, f"it does not say that it is a {FORMAT!r}")
    try:
        info = msgspec.json.decode(metadata.get(b"block", b""), type=BlockInfo)
    except msgspec.DecodeError as error:
        raise _broken(main, f"what it says of itself cannot be read: {error}") from None
    if not schema.remove_metadata().equals(block_schema(info.meters)):
        raise _broken(main, "its columns are not those of a block")
    return info


class named_faults:  # noqa: N801 - it is used as a verb
    """What pyarrow says of a file that is no good, as `broken_block`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (pa.ArrowException, OSError, ValueError, KeyError, IndexError, msgspec.DecodeError)):
            if isinstance(error, FileNotFoundError):
                raise BadInput(
                    "missing_block",
                    "there is no such file",
                    next_step="restore it from a backup of the blocks folder",
                    where=str(self._path),
                ) from None
            raise _broken(self._path, " ".join(str(error).split())[:300]) from error


def _broken(path: Path, what: str) -> BadInput:
    return BadInput(
        "broken_block",
        f"it is not a sound file of a block: {what}",
        next_step="`tally verify` says what is wrong; restore the file from a backup of the blocks folder",
        where=str(path),
    )


def read_block(main: Path, people: Path | None) -> pa.Table:
    """All entries of a block with the columns of `ENTRY_SCHEMA`, exactly as they were written.

    Args:
        main: the block's own file.
        people: its people file; with None the personal columns are null.

    Raises:
        BadInput: `broken_block`, `missing_block`.
    """
    return pa.Table.from_batches(iterate_block(main, people), schema=ENTRY_SCHEMA)


def iterate_block(main: Path, people: Path | None, *, rows: int = GROUP_ROWS) -> Iterator[pa.RecordBatch]:
    """The same, in batches of at most `rows` entries: memory does not grow with the block."""
    with named_faults(main):
        with pq.ParquetFile(main, read_dictionary=[*REPEATING_COLUMNS, "pricing"]) as file:
            info = _info(file.schema_arrow, main)
            found = _People(people)
            for batch in file.iter_batches(batch_size=rows):
                yield _restored(batch, info.meters, found)
        found.finish()


def _restored(batch: pa.RecordBatch, meters: tuple[str, ...], people: _People) -> pa.RecordBatch:
    lists = to_lists(batch, meters)
    plain = {name: pc.cast(batch.column(name), ENTRY_SCHEMA.field(name).type) for name in PLAIN_COLUMNS}
    columns = {**plain, **lists, **people.of(plain["org_id"], plain["seq"])}
    return pa.RecordBatch.from_arrays([columns[name] for name in ENTRY_SCHEMA.names], schema=ENTRY_SCHEMA)


class _People:
    """The people file beside a block, read as far as the block has been read."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows = PEOPLE_SCHEMA.empty_table()
        self._next: Iterator[pa.RecordBatch] = iter(())
        if path is not None:
            with named_faults(path):
                file = pq.ParquetFile(path)
                if not file.schema_arrow.remove_metadata().equals(PEOPLE_SCHEMA):
                    raise _broken(path, "its columns are not those of a people file")
                self._next = file.iter_batches(batch_size=GROUP_ROWS)

    def of(self, orgs: pa.Array, seqs: pa.Array) -> dict[str, pa.Array]:
        """The personal columns of these entries; null where the file has nothing."""
        count = len(orgs)
        if self._path is None:
            return {name: pa.nulls(count, ENTRY_SCHEMA.field(name).type) for name in PERSONAL_COLUMNS}
        with named_faults(self._path):
            while self._rows.num_rows < count:
                batch = next(self._next, None)
                if batch is None:
                    break
                self._rows = pa.concat_tables([self._rows, pa.Table.from_batches([batch])])
            ahead = self._rows.slice(0, count).combine_chunks()
            place = _places(ahead, orgs, seqs)
            used = int((place >= 0).sum())
            if (place[:used] < 0).any() or (np.diff(place[:used]) <= 0).any():
                raise _broken(self._path, "its rows are not in the order of the block's entries")
            row_of = np.full(count, -1, dtype=np.int64)
            row_of[place[:used]] = np.arange(used)
            taken = pa.array(row_of, mask=row_of < 0)
            self._rows = self._rows.slice(used)
            columns = {name: ahead.column(name).take(taken) for name in PERSONAL_COLUMNS}
            return {name: pa.concat_arrays(column.chunks) for name, column in columns.items()}

    def finish(self) -> None:
        """The block is at its end: the people file must be too."""
        if self._path is not None and (self._rows.num_rows or next(self._next, None) is not None):
            raise _broken(self._path, "it has rows of entries that the block does not hold")


def _places(people: pa.Table, orgs: pa.Array, seqs: pa.Array) -> npt.NDArray[np.int64]:
    """Where among the entries (orgs, seqs) each row of the people file belongs; -1 when nowhere."""
    known = orgs.unique()
    all_seqs = np.unique(seqs.to_numpy())
    theirs = people.column("seq").to_numpy()
    at = np.searchsorted(all_seqs, theirs)
    named = pc.index_in(people.column("org_id"), value_set=known).fill_null(-1).to_numpy()
    keys = pc.index_in(orgs, value_set=known).to_numpy() * len(all_seqs) + np.searchsorted(all_seqs, seqs.to_numpy())
    order = np.argsort(keys, kind="stable")
    wanted = named * np.int64(len(all_seqs)) + at
    found = np.searchsorted(keys, wanted, sorter=order)
    place = order[np.minimum(found, len(order) - 1)]
    sound = (named >= 0) & (all_seqs[np.minimum(at, len(all_seqs) - 1)] == theirs) & (keys[place] == wanted)
    return np.where(sound, place, -1)
