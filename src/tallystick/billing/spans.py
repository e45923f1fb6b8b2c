"""Sets of half-open times [start, end): united, cut out, measured. The same however their parts are given."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

Span = tuple[datetime, datetime]
"""From `start` up to, and without, `end`; one that ends where it begins is empty."""
_MICROSECOND = timedelta(microseconds=1)


def unite(spans: Iterable[Span]) -> list[Span]:
    """The times that are in any of them, in order, apart from each other; what overlaps or touches is one."""
    united: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], end))
        else:
            united.append((start, end))
    return united


def common(first: Iterable[Span], second: Iterable[Span]) -> list[Span]:
    """The times that are in both."""
    mine, theirs = unite(first), unite(second)
    found: list[Span] = []
    here = there = 0
    while here < len(mine) and there < len(theirs):
        start, end = max(mine[here][0], theirs[there][0]), min(mine[here][1], theirs[there][1])
        if start < end:
            found.append((start, end))
        if mine[here][1] < theirs[there][1]:
            here += 1
        else:
            there += 1
    return found


def without(spans: Iterable[Span], taken: Iterable[Span]) -> list[Span]:
    """The times that are in the first and not in the second."""
    left: list[Span] = []
    cuts = unite(taken)
    place = 0
    for begins, end in unite(spans):
        start = begins
        while place < len(cuts) and cuts[place][0] < end:
            cut_start, cut_end = cuts[place]
            if start < cut_start:
                left.append((start, cut_start))
            start = max(start, cut_end)
            if cut_end > end:  # it may reach into the next ones
                break
            place += 1
        if start < end:
            left.append((start, end))
    return left


def microseconds(spans: Iterable[Span]) -> int:
    """How long they are together, what overlaps once; in real time, whatever clocks do meanwhile."""
    return sum((end - start) // _MICROSECOND for start, end in unite(spans))
