"""Ends of holds that wait on this machine's disk to be written to the ledger: one SQLite file that processes share.

    DATA_DIR/settlements/queue.sqlite    waiting: in the order in which they came, each hold once
                                         refused: what the ledger would not take; nothing is dropped
    DATA_DIR/settlements/waiting         is there while any wait
    DATA_DIR/settlements/drain.lock      held by the one process that empties it

Every call is one transaction, and what it adds is on disk when it returns.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tallystick.journal.spool_file import SpoolFile

_SCHEMA = """
create table if not exists waiting (
    place     integer primary key autoincrement,
    org_id    text not null,
    hold_seq  integer not null,
    content   blob not null,
    queued_at text not null,
    unique (org_id, hold_seq)
);
create table if not exists refused (
    place      integer primary key autoincrement,
    org_id     text not null,
    hold_seq   integer not null,
    content    blob not null,
    queued_at  text not null,
    refused_at text not null,
    code       text not null,
    reason     text not null
);
"""


class WaitingEnd(NamedTuple):
    """The end of a hold that waits, as its bytes were added."""

    place: int
    org_id: str
    hold_seq: int
    content: bytes
    queued_at: str


class QueueState(NamedTuple):
    """How many wait, since when, and how many were refused."""

    waiting: int
    oldest: str | None
    refused: int


class SettlementFile(SpoolFile):
    """The file of one data directory, for one thread; processes and threads each open their own."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir / "settlements", name="queue.sqlite", schema=_SCHEMA)

    def may_hold_any(self) -> bool:
        """Whether anything may be waiting: one look for a file, in any thread."""
        return os.path.exists(self._flag_path)

    def add(self, ends: Iterable[tuple[str, int, bytes]], now: str) -> None:
        """Put ends of holds (org, hold, content) at the end of the queue, all or none; one that waits stays as it is.

        Raises:
            Unavailable: `storage_full` or `spool_unusable`; then none was added.
        """
        self._make_folder()
        with self._transaction(write=True) as connection:
            connection.executemany(
                "insert or ignore into waiting (org_id, hold_seq, content, queued_at) values (?, ?, ?, ?)",
                [(*end, now) for end in ends],
            )
            self._raise_flag()  # before the commit: there is no moment at which any wait unseen

    def first(self, count: int) -> list[WaitingEnd]:
        """Those that have waited longest, at most `count` of them.

        Raises:
            Unavailable: `spool_unusable`.
        """
        if not self._file.exists():
            return []
        with self._transaction(write=False) as connection:
            rows = connection.execute(
                "select place, org_id, hold_seq, content, queued_at from waiting order by place limit ?", [count]
            )
            return [WaitingEnd(*row) for row in rows]

    def take_out(self, done: Sequence[WaitingEnd], refused: Sequence[tuple[WaitingEnd, str, str]], now: str) -> None:
        """Take out what the ledger has answered for; what it refused (with code and reason) is kept apart.

        Raises:
            Unavailable: `storage_full` or `spool_unusable`; then all of it still waits.
        """
        with self._transaction(write=True) as connection:
            connection.executemany(
                "insert into refused (org_id, hold_seq, content, queued_at, refused_at, code, reason)"
                " values (?, ?, ?, ?, ?, ?, ?)",
                [(*one[1:], now, code, reason) for one, code, reason in refused],
            )
            places = [(one.place,) for one in done] + [(one.place,) for one, _, _ in refused]
            connection.executemany("delete from waiting where place = ?", places)

    def state(self) -> QueueState:
        """What is in it.

        Raises:
            Unavailable: `spool_unusable`.
        """
        if not self._file.exists():
            return QueueState(0, None, 0)
        with self._transaction(write=False) as connection:
            row = connection.execute(
                "select (select count(*) from waiting), (select queued_at from waiting order by place limit 1),"
                " (select count(*) from refused)"
            ).fetchone()
            return QueueState(*row)

    def tidy(self) -> None:
        """When nothing waits any more, say so to the other processes.

        Raises:
            Unavailable: `storage_full` or `spool_unusable`.
        """
        if not self._file.exists():
            self._flag.unlink(missing_ok=True)
            return
        with self._transaction(write=True) as connection:  # nobody adds meanwhile
            if connection.execute("select exists (select 1 from waiting)").fetchone()[0]:
                self._raise_flag()
            else:
                self._flag.unlink(missing_ok=True)
