"""A row group of a block as arrays: numbers, and texts as numbers of the texts that there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tallystick.archive.columns import REPEATING_COLUMNS
from tallystick.archive.lines import Bools, Int64s

Codes = npt.NDArray[np.int32]


class Numbers(NamedTuple):
    """A column's numbers, 0 where it is null, and where it is; None for nowhere."""

    values: Int64s
    nulls: Bools | None

    def part(self, here: slice) -> Numbers:
        """Some of the rows."""
        return Numbers(self.values[here], None if self.nulls is None else self.nulls[here])

    def is_null(self) -> Bools:
        """Where it is null."""
        return np.zeros(len(self.values), dtype=np.bool_) if self.nulls is None else self.nulls


class Texts(NamedTuple):
    """The texts of a column, and for each row which one it has; -1 for null."""

    texts: list[str]
    codes: Codes

    def is_not(self, text: str) -> Bools:
        """Where it is something else, or null."""
        differs: Bools = np.array([*(one != text for one in self.texts), True])[self.codes]
        return differs


class Filter(NamedTuple):
    """Which rows: microseconds since 1970 in [time_min, time_end), one org or all, a range of its sequence."""

    time_min: int
    time_end: int
    org_id: str | None
    first_seq: int | None
    last_seq: int | None


class RowGroup:
    """Columns of the rows of a row group that are wanted; `places` says where in the file they stand."""

    def __init__(self, main: Path, group: int, columns: Sequence[str], wanted: Filter | None) -> None:
        of_filter = [] if wanted is None else ["time", "org_id", "seq"]
        with pq.ParquetFile(main, read_dictionary=["pricing", *REPEATING_COLUMNS]) as file:
            start = sum(file.metadata.row_group(number).num_rows for number in range(group))
            names = [*columns, *(name for name in of_filter if name not in columns)]
            rows = file.read_row_group(group, columns=names, use_threads=False)
        self.places: Int64s = np.arange(start, start + rows.num_rows)
        if wanted is not None:
            mask = _mask(rows, wanted)
            self.places = self.places[mask.to_numpy(zero_copy_only=False)]
            rows = rows.filter(mask)
        self._rows = rows
        self._numbers: dict[str, Numbers] = {}
        self._texts: dict[str, Texts] = {}

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.places)

    def numbers(self, name: str) -> Numbers:
        """A column of integers, or of instants as microseconds since 1970."""
        if name not in self._numbers:
            self._numbers[name] = self._read_numbers(name)
        return self._numbers[name]

    def _read_numbers(self, name: str) -> Numbers:
        column = self._column(name)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        if not column.null_count:
            return Numbers(column.to_numpy(), None)
        return Numbers(column.fill_null(0).to_numpy(), column.is_null().to_numpy(zero_copy_only=False))

    def texts(self, name: str) -> Texts:
        """A column of texts that repeat."""
        if name not in self._texts:
            column = self._column(name)
            codes = column.indices.fill_null(-1) if column.null_count else column.indices
            self._texts[name] = Texts(column.dictionary.to_pylist(), codes.to_numpy())
        return self._texts[name]

    def _column(self, name: str) -> pa.Array:
        column = self._rows.column(name)
        if column.num_chunks == 1:
            return column.chunk(0)
        if pa.types.is_dictionary(column.type):
            column = column.unify_dictionaries()
        return column.combine_chunks()


def _mask(rows: pa.Table, wanted: Filter) -> pa.ChunkedArray:
    time = rows.column("time").cast(pa.int64())
    mask = pc.and_(pc.greater_equal(time, wanted.time_min), pc.less(time, wanted.time_end))
    if wanted.org_id is not None:
        mask = pc.and_(mask, pc.equal(rows.column("org_id").cast(pa.string()), wanted.org_id))
    if wanted.first_seq is not None:
        mask = pc.and_(mask, pc.greater_equal(rows.column("seq"), wanted.first_seq))
    if wanted.last_seq is not None:
        mask = pc.and_(mask, pc.less_equal(rows.column("seq"), wanted.last_seq))
    return mask
