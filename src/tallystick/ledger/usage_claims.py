"""Which settlement each entry of usage is the work of, for a check that no two have the same."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise


class UsageClaims:
    """The claims of one org's settlements.

    There may be many millions. Most are of usage that a settlement has brought, and stand in a row before it: each such
    row takes 24 bytes.
    """

    def __init__(self) -> None:
        self._firsts = array("q")
        self._lasts = array("q")
        self._settlements = array("q")
        self._others: dict[int, int] = {}

    def add(self, settlement_seq: int, usage_seqs: Iterable[int]) -> list[tuple[int, int]]:
        """A settlement claims entries of usage: those of them that are claimed already, each with its settlement.

        Args:
            settlement_seq: the place of the settlement; they may come in any order.
            usage_seqs: the places of the usage, each once, in any order.
        """
        seqs = sorted(usage_seqs)
        taken = [(seq, owner) for seq in seqs if (owner := self.of(seq)) is not None]
        gone = {seq for seq, _ in taken}
        free = [seq for seq in seqs if seq not in gone]
        starts = [place for place, (seq, after) in enumerate(pairwise(free), 1) if after != seq + 1]
        for start, end in zip((0, *starts), (*starts, len(free)), strict=True):
            if start < end:
                self._add_row(settlement_seq, free[start], free[end - 1])
        return taken

    def _add_row(self, settlement_seq: int, first: int, last: int) -> None:
        if not self._lasts or first > self._lasts[-1]:
            self._firsts.append(first)
            self._lasts.append(last)
            self._settlements.append(settlement_seq)
        else:
            self._others.update(dict.fromkeys(range(first, last + 1), settlement_seq))

    def of(self, usage_seq: int) -> int | None:
        """The settlement that has claimed the entry; None when none has."""
        place = bisect_right(self._firsts, usage_seq) - 1
        if place >= 0 and usage_seq <= self._lasts[place]:
            return self._settlements[place]
        return self._others.get(usage_seq)
