"""What a group writer is given to write: the one form of it, and usage events as the first of its kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TypeVar

import psycopg

from tallystick.journal.database import Connection
from tallystick.journal.prepare import Batch
from tallystick.journal.steps import reached
from tallystick.journal.writer import stored_already, write
from tallystick.ledger.receipt import Receipt

_Given_contra = TypeVar("_Given_contra", contravariant=True)
_Made = TypeVar("_Made")


class Work(Protocol[_Given_contra, _Made]):
    """What a group writer writes: items, each of which has an answer.

    Attributes:
        name: of the thread that does it.
    """

    name: str

    def taken(self) -> None:
        """A group is taken from the queue: a step to be killed at, as `answered` is when all have their answers."""
        ...

    def answered(self) -> None: ...

    def size(self, item: _Given_contra, /) -> int:
        """How many entries it may come to; none needs no writing."""
        ...

    def callers(self, item: _Given_contra, /) -> int:
        """How many may wait for its answer, each of whom may come again once they have it."""
        ...

    def nothing(self) -> _Made:
        """The answer to an item without any."""
        ...

    def write(self, connection: Connection, items: Sequence[_Given_contra], /, *, probe: bool) -> list[_Made]:
        """Write the items in one transaction and commit it; an answer for each, in order; a `TallyError` is raised.

        `probe`: look first for what is stored already. Without it, `stored_already` says of the error that is raised
        whether something was.
        """
        ...

    def stored_already(self, error: psycopg.Error, /) -> bool:
        """Whether it means that something is stored already: writing the same with a probe says what."""
        ...

    def has_repeats(self, answers: Sequence[_Made], /) -> bool:
        """Whether something among it was stored before."""
        ...


class EventWork:
    """Usage events, as prepared batches; an answer is their receipts."""

    name = "writer"

    def __init__(self, counts: Counter[tuple[str, str]] | None = None) -> None:
        """`counts`: where to count what becomes of events, by the status of their receipts and its code."""
        self._counts = Counter() if counts is None else counts

    def taken(self) -> None:
        reached("append.taken")

    def answered(self) -> None:
        reached("append.answered")

    def size(self, item: Batch, /) -> int:
        return len(item.keys)

    def callers(self, item: Batch, /) -> int:
        return len(item.keys)  # single events of many callers come in one batch

    def nothing(self) -> list[Receipt]:
        return []

    def write(self, connection: Connection, items: Sequence[Batch], /, *, probe: bool) -> list[list[Receipt]]:
        written = write(connection, items, probe=probe)
        for receipts in written:
            others = [receipt for receipt in receipts if receipt.status != "accepted"]
            self._counts["accepted", ""] += len(receipts) - len(others)
            for receipt in others:
                self._counts[receipt.status, receipt.code or ""] += 1
        return written

    def stored_already(self, error: psycopg.Error, /) -> bool:
        return stored_already(error)

    def has_repeats(self, answers: Sequence[list[Receipt]], /) -> bool:
        return any(receipt.status != "accepted" for receipts in answers for receipt in receipts)
