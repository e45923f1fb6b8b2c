"""Rows grouped by several columns of small numbers: a key for each row, and ranges of values for each key."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tallystick.archive.lines import Int64s

_TABLE_MAX = 2**17
"""Keys below this are numbered with the help of a table, which the processor's cache holds; others are hashed."""
_KEYS_MAX = 2**62


class Ranges(NamedTuple):
    """The least and the largest of something, for each of some groups."""

    least: npt.NDArray[Any]
    largest: npt.NDArray[Any]


class Key:
    """A key for each row, of as many columns as are added to it: the same key, the same in all of them."""

    def __init__(self, count: int) -> None:
        self.values = empty(count)
        self.values[:] = 0
        self._spare = empty(count)
        self.size = 1
        """All values are below."""

    def add(self, codes: npt.NDArray[Any], size: int) -> None:
        """Tell rows apart by another column too, whose values are -1 to `size` - 1."""
        if not size or (size == 1 and codes.min() == codes.max()):
            return
        if self.size > 1 and self.size * (size + 1) > _TABLE_MAX:
            self.number()
        if self.size > 1:
            self.values *= size + 1
        self.values += codes
        self.values += 1
        self.size *= size + 1
        if self.size > _KEYS_MAX:
            raise OverflowError("more keys than there are numbers")

    def number(self) -> None:
        """Make the values those from 0 on, without a gap."""
        if self.size > _TABLE_MAX:
            encoded = pa.array(self.values).dictionary_encode()
            self.values[:] = encoded.indices.to_numpy()
            self.size = len(encoded.dictionary)
            return
        seen = np.zeros(self.size, dtype=np.bool_)
        seen[self.values] = True
        present = np.flatnonzero(seen)
        table = empty(self.size)
        table[present] = np.arange(len(present))
        np.take(table, self.values, out=self._spare, mode="clip")
        self.values, self._spare = self._spare, self.values
        self.size = len(present)

    def examples(self) -> Int64s:
        """For each value, when they are without a gap, a row that has it."""
        rows = np.empty(self.size, dtype=np.int64)
        rows[self.values] = _counted(len(self.values))
        return rows


def ranges(keys: Int64s, first: npt.NDArray[Any], values: npt.NDArray[Any]) -> Ranges:
    """The least and the largest value of each key.

    Args:
        keys: for each row its key, from 0 on.
        first: for each key the value of some row that has it.
        values: for each row its value.
    """
    least, largest = first.copy(), first.copy()
    np.minimum.at(least, keys, values)
    np.maximum.at(largest, keys, values)
    return Ranges(least, largest)


def empty(count: int) -> Int64s:
    """Numbers to be written over. Arrow's pool keeps what was given back; the system would zero new pages each time."""
    return np.frombuffer(pa.allocate_buffer(8 * count), dtype=np.int64)


@lru_cache(maxsize=4)
def _counted(count: int) -> Int64s:
    """0, 1, 2 …; not to be changed."""
    return np.arange(count)
