"""A row group of a block as arrays: numbers, and texts as numbers of the texts that there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tallystick.archive.columns import REPEATING_COLUMNS
from tallystick.archive.lines import Bools, Int64s

Codes = npt.NDArray[np.int32]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TEXT_MAX = 32  # statistics may hold the beginning of a longer one


class Numbers(NamedTuple):
    """A column's numbers, whatever where it is null, and where it is; None for nowhere."""

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
        if text not in self.texts:
            return np.ones(len(self.codes), dtype=np.bool_)
        differs: Bools = self.codes != self.texts.index(text)
        return differs


class Filter(NamedTuple):
    """Which rows: microseconds since 1970 in [time_min, time_end), one org or all."""

    time_min: int
    time_end: int
    org_id: str | None


class BlockFile:
    """A block's file, its end read once: what its row groups hold."""

    def __init__(self, main: Path) -> None:
        self.main = main
        with pq.ParquetFile(main) as file:
            self.about = file.metadata
        paths = (self.about.schema.column(place).path for place in range(self.about.num_columns))
        self._places = {path: place for place, path in enumerate(paths)}

    def first_row(self, group: int) -> int:
        """Where in the file a row group begins."""
        return sum(self.about.row_group(number).num_rows for number in range(group))

    def groups_with(self, start: datetime, end: datetime, org_id: str | None) -> list[int]:
        """The row groups that may hold entries of a time [start, end), of one org or any."""
        found = []
        for group in range(self.about.num_row_groups):
            time, org = self.about_column(group, "time"), self.about_column(group, "org_id")
            if time.least is not None and (time.largest < start or end <= time.least):
                continue
            if org_id is None or org.least is None or org.least <= org_id <= org.largest:
                found.append(group)
        return found

    def about_column(self, group: int, name: str) -> AboutColumn:
        """What is said of a column in a row group."""
        column = self.about.row_group(group).column(self._places[name])
        told = column.statistics
        if told is None or not told.has_null_count:
            return AboutColumn(None, None, None)
        least, largest = (told.min, told.max) if told.has_min_max else (None, None)
        return AboutColumn(least, largest, told.null_count)


class AboutColumn(NamedTuple):
    """The least and the largest value of a column in a row group, and its number of nulls; None for unknown."""

    least: Any
    largest: Any
    null_count: int | None

    def everywhere(self, rows: int) -> tuple[int | str | None] | None:
        """The one value that every row has; None when they have different ones, or that is not known."""
        if self.null_count == rows:
            return (None,)
        if self.null_count == 0 and self.least == self.largest and isinstance(self.least, int | str):
            return None if isinstance(self.least, str) and len(self.least) > _TEXT_MAX else (self.least,)
        return None


class RowGroup:
    """Columns of the rows of a row group that are wanted.

    A column that is the same in every row is not read.
    """

    def __init__(self, file: BlockFile, group: int, columns: Sequence[str], wanted: Filter | None) -> None:
        rows = file.about.row_group(group).num_rows
        self._about = {name: file.about_column(group, name) for name in columns}
        self._same = {name: one for name, told in self._about.items() if (one := told.everywhere(rows)) is not None}
        names = [name for name in columns if name not in self._same]
        if wanted is not None:
            names += [name for name in ("time", "org_id", "seq") if name not in names]
        with pq.ParquetFile(
            file.main, metadata=file.about, read_dictionary=["pricing", *REPEATING_COLUMNS]
        ) as open_file:
            table = open_file.read_row_group(group, columns=names, use_threads=False)
        self._first_row = file.first_row(group)
        self._mask: Bools | None = None
        if wanted is not None:
            mask = _mask(table, wanted)
            self._mask = mask.to_numpy(zero_copy_only=False)
            rows = int(np.count_nonzero(self._mask))
            table = table.filter(mask)
        self.count = rows
        """How many rows there are."""
        self._rows = table
        self._numbers: dict[str, Numbers] = {}
        self._texts: dict[str, Texts] = {}

    def places(self, some: Bools) -> Int64s:
        """Where in the file some of the rows stand."""
        places = np.flatnonzero(some)
        return self._first_row + (places if self._mask is None else np.flatnonzero(self._mask)[places])

    def has_nulls(self, name: str) -> bool:
        """Whether a column may be null somewhere."""
        told = self._about[name].null_count
        return told is None or told > 0

    def bounds(self, name: str) -> tuple[int, int]:
        """No number of a column is less than the first, or greater than the second; nulls aside."""
        told = self._about[name]
        if told.least is not None:
            return _number(told.least), _number(told.largest)
        if name in self._same:
            return 0, 0
        values = self.numbers(name).values
        return int(values.min(initial=0)), int(values.max(initial=0))

    def numbers(self, name: str) -> Numbers:
        """A column of integers, or of instants as microseconds since 1970."""
        if name not in self._numbers:
            self._numbers[name] = self._read_numbers(name)
        return self._numbers[name]

    def _read_numbers(self, name: str) -> Numbers:
        if name in self._same:
            (value,) = self._same[name]
            nulls = np.ones(self.count, dtype=np.bool_) if value is None else None
            return Numbers(np.broadcast_to(np.int64(value or 0), self.count), nulls)
        column = self._column(name)
        if pa.types.is_timestamp(column.type):
            column = column.view(pa.int64())
        if not column.null_count:
            return Numbers(column.to_numpy(), None)
        nulls, data = column.buffers()
        end = column.offset + len(column)
        valid = np.unpackbits(np.frombuffer(nulls, np.uint8), count=end, bitorder="little")[column.offset :]
        return Numbers(np.frombuffer(data, np.int64, end)[column.offset :], valid == 0)

    def texts(self, name: str) -> Texts:
        """A column of texts that repeat."""
        if name not in self._texts:
            self._texts[name] = self._read_texts(name)
        return self._texts[name]

    def _read_texts(self, name: str) -> Texts:
        if name in self._same:
            (value,) = self._same[name]
            known = [] if value is None else [str(value)]
            return Texts(known, np.full(self.count, len(known) - 1, dtype=np.int32))
        column = self._column(name)
        codes = column.indices.fill_null(-1) if column.null_count else column.indices
        return Texts(column.dictionary.to_pylist(), codes.to_numpy())

    def _column(self, name: str) -> pa.Array:
        column = self._rows.column(name)
        if column.num_chunks == 1:
            return column.chunk(0)
        if pa.types.is_dictionary(column.type):
            column = column.unify_dictionaries()
        return column.combine_chunks()


def _number(value: int | datetime) -> int:
    return (value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else value


def _mask(rows: pa.Table, wanted: Filter) -> pa.ChunkedArray:
    time = rows.column("time").cast(pa.int64())
    mask = pc.and_(pc.greater_equal(time, wanted.time_min), pc.less(time, wanted.time_end))
    if wanted.org_id is not None:
        mask = pc.and_(mask, pc.equal(rows.column("org_id").cast(pa.string()), wanted.org_id))
    return mask
