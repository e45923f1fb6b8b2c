"""Rows grouped by several columns of small numbers: a key for each row, and ranges of values for each key."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tallystick.archive.lines import Int64s

_TABLE_MAX = 2**20
"""Keys below this are numbered with the help of a table, of which few places are touched; others are hashed."""
_SHORT_MAX = 2**31
_KEYS_MAX = 2**62

_Number = TypeVar("_Number", bound=np.generic)


class Ranges(NamedTuple):
    """The least and the largest of something, for each of some groups."""

    least: npt.NDArray[Any]
    largest: npt.NDArray[Any]


class Scratch:
    """Arrays to be written over, for one thread: the system would clear new memory each time, which takes longer.

    Whoever asks again by the same name writes over what the other had.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, npt.NDArray[Any]] = {}

    def array(self, name: str, count: int, kind: type[_Number]) -> npt.NDArray[_Number]:
        """So many numbers of a kind, whatever they are."""
        held = self._arrays.get(name)
        if held is None or len(held) < count:
            held = self._arrays[name] = np.empty(count, dtype=kind)
        return held[:count]


class Key:
    """A key for each row, of as many columns as are added to it: the same key, the same in all of them."""

    def __init__(self, count: int, scratch: Scratch) -> None:
        self._short = scratch.array("key", count, np.int32)
        self._short[:] = 0
        self._values: npt.NDArray[Any] = self._short
        self._least = 0
        self.numbers = scratch.array("numbered key", count, np.int64)
        """Once `number` was called, the keys, from 0 on without a gap."""
        self.size = 1
        """There are no more different keys."""

    def add(self, codes: npt.NDArray[Any], size: int) -> None:
        """Tell rows apart by another column too, whose values are -1 to `size` - 1."""
        if not size or (size == 1 and codes.min() == codes.max()):
            return
        if self.size > 1 and self.size * (size + 1) > _TABLE_MAX:
            self.number()
        if self.size * (size + 1) > _SHORT_MAX and self._values.dtype == np.int32:
            self._values = self._values.astype(np.int64)
        if self.size > 1:
            self._values *= size + 1
        self._values += codes
        self._least = self._least * (size + 1) - 1
        self.size *= size + 1
        if self.size > _KEYS_MAX:
            raise OverflowError("more keys than there are numbers")

    def number(self) -> None:
        """Make the keys those from 0 on, without a gap."""
        values, self._values = self._values, self._short
        if self.size > _TABLE_MAX:
            encoded = pa.array(values).dictionary_encode()
            self.size = len(encoded.dictionary)
            self._values[:] = encoded.indices.to_numpy()
        else:
            places = self.numbers
            places[:] = values
            places -= self._least
            seen = np.zeros(self.size, dtype=np.bool_)
            seen[places] = True
            present = np.flatnonzero(seen)
            table = np.empty(self.size, dtype=np.int32)
            self.size = len(present)
            table[present] = np.arange(self.size)
            table.take(places, out=self._values, mode="clip")
        self.numbers[:] = self._values
        self._least = 0

    def examples(self) -> Int64s:
        """For each key, when they are numbered, a row that has it."""
        rows = np.empty(self.size, dtype=np.int64)
        rows[self.numbers] = _counted(len(self.numbers))
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


@lru_cache(maxsize=4)
def _counted(count: int) -> Int64s:
    """0, 1, 2 …; not to be changed."""
    return np.arange(count)
