"""What waits on this machine's disk for the ledger, in one SQLite file that processes share.

    FOLDER/NAME          waiting: in the order in which it came, each name of an org once
                         refused: what the ledger would not take when it was asked; nothing is dropped
                         given_up: what somebody has decided to leave at that: who, when and why, without its content
    FOLDER/waiting       is there while anything waits: whether the file has to be asked at all
    FOLDER/drain.lock    held by the one process that empties it

Every call is one transaction, and what it adds is on disk when it returns (write-ahead log, synchronous=FULL): a crash
or a full disk leaves the queue as it was before a call or after it, never in between. The spool of events and the
queue of settlements are both such a file; what a row's content is, is theirs to say.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from tallystick.journal.queue_file import QueueFile

_VACUUM_PAGES = 1000


class NewRow(NamedTuple):
    """What is to wait: whose it is, what it is called, its bytes, and the salt of its fingerprint."""

    org_id: str
    name: str
    content: bytes
    salt: bytes = b""


class WaitingRow(NamedTuple):
    """What waits, as it was added; places rise."""

    place: int
    org_id: str
    name: str
    content: bytes
    salt: bytes
    queued_at: str


class RefusedRow(NamedTuple):
    """What the ledger would not take: why, and its bytes as they were added."""

    org_id: str
    name: str
    content: bytes
    queued_at: str
    refused_at: str
    code: str
    reason: str


class GivenUp(NamedTuple):
    """What was refused and is left at that: why the ledger would not take it, who says so, and why."""

    org_id: str
    name: str
    queued_at: str
    refused_at: str
    code: str
    reason: str
    given_up_at: str
    author: str
    why: str


class QueueState(NamedTuple):
    """How much waits, since when, and how much was refused."""

    waiting: int
    oldest: str | None
    refused: int


Refusal = tuple[WaitingRow, str, str]
"""What was refused, with code and reason."""


class WaitingQueue(QueueFile):
    """The file, for one thread; processes and threads each open their own.

    It is made by the first that waits, so that looking at a queue that was never used leaves nothing behind.
    Every method raises `Unavailable`: `storage_full` or `spool_unusable`; then nothing has changed.
    """

    def may_hold_any(self) -> bool:
        """Whether anything may be waiting: one look for a file, in any thread."""
        return os.path.exists(self._flag_path)

    def state(self) -> QueueState:
        """What is in it."""
        if not self._file.exists():
            return QueueState(0, None, 0)
        with self._transaction(write=False) as connection:
            row = connection.execute(
                "select (select count(*) from waiting), (select queued_at from waiting order by place limit 1),"
                " (select count(*) from refused)"
            ).fetchone()
            return QueueState(*row)

    def waiting_rows(self, count: int = -1) -> list[WaitingRow]:
        """What has waited longest, at most `count`; all of it when that is below zero."""
        if not self._file.exists():
            return []
        with self._transaction(write=False) as connection:
            columns = ", ".join(WaitingRow._fields)
            rows = connection.execute(f"select {columns} from waiting order by place limit ?", [count])
            return [WaitingRow(*row) for row in rows]

    def waiting_with(self, name: str, content: bytes) -> list[WaitingRow]:
        """What waits under that name, or has these bytes in its content, the oldest first. It looks at all of it."""
        return [WaitingRow(*row) for row in self._with("waiting", WaitingRow._fields, name, content)]

    def refused_with(self, name: str, content: bytes) -> list[RefusedRow]:
        """What was refused under that name, or has these bytes in its content. It looks at all of it."""
        return [RefusedRow(*row) for row in self._with("refused", RefusedRow._fields, name, content)]

    def refused_rows(self) -> list[RefusedRow]:
        """What the ledger would not take, in the order in which it was asked."""
        return [RefusedRow(*row) for row in self._rows("refused", RefusedRow._fields)]

    def given_up(self) -> list[GivenUp]:
        """What was left at its refusal, in that order."""
        return [GivenUp(*row) for row in self._rows("given_up", GivenUp._fields)]

    def take_out(self, done: Sequence[WaitingRow], refused: Sequence[Refusal], now: str) -> None:
        """Take out what the ledger has answered for: `done` is in it, `refused` is kept apart."""
        with self._transaction(write=True) as connection:
            connection.executemany(
                "insert or ignore into refused (org_id, name, content, queued_at, refused_at, code, reason)"
                " values (?, ?, ?, ?, ?, ?, ?)",
                [(one.org_id, one.name, one.content, one.queued_at, now, code, why) for one, code, why in refused],
            )
            places = [(one.place,) for one in done] + [(one.place,) for one, _, _ in refused]
            connection.executemany("delete from waiting where place = ?", places)

    def retry_rows(
        self, new_salt: Callable[[], bytes], now: str, only: Callable[[RefusedRow], bool] = lambda _: True
    ) -> int:
        """Put what was refused back at the end of the queue, but for names that wait there; how many were put back."""
        back = 0
        if not self._file.exists():
            return back
        with self._transaction(write=True) as connection:
            columns = ", ".join(RefusedRow._fields)
            for place, *row in connection.execute(f"select place, {columns} from refused order by place").fetchall():
                one = RefusedRow(*row)
                if only(one) and insert_row(connection, NewRow(one.org_id, one.name, one.content, new_salt()), now):
                    connection.execute("delete from refused where place = ?", [place])
                    back += 1
            if back:
                self._raise_flag()
        return back

    def dismiss(self, org_id: str, name: str) -> int:
        """Drop what was refused under this name, because somebody has seen to it; how many that were."""
        if not self._file.exists():
            return 0
        with self._transaction(write=True) as connection:
            return connection.execute("delete from refused where org_id = ? and name = ?", [org_id, name]).rowcount

    def give_up(
        self, org_id: str, name: str, *, author: str, why: str, now: str, first: Callable[[], object] = lambda: None
    ) -> int:
        """Leave what was refused under this name at that, and keep who says so and why; how many that were.

        `first` is what has to be done besides, where there are any: nobody puts them back into the queue meanwhile, and
        when it raises, nothing has changed.
        """
        if not self._file.exists():
            return 0
        with self._transaction(write=True) as connection:
            connection.execute(
                "insert into given_up (org_id, name, queued_at, refused_at, code, reason, given_up_at, author, why)"
                " select org_id, name, queued_at, refused_at, code, reason, ?, ?, ? from refused"
                " where org_id = ? and name = ? order by place",
                [now, author, why, org_id, name],
            )
            found = connection.execute("delete from refused where org_id = ? and name = ?", [org_id, name]).rowcount
            if found:
                first()
            return found

    def tidy(self) -> None:
        """When nothing waits any more: say so to the other processes, and give the disk back."""
        if not self._file.exists():
            self._flag.unlink(missing_ok=True)
            return
        with self._transaction(write=True) as connection:  # nobody adds meanwhile
            if connection.execute("select exists (select 1 from waiting)").fetchone()[0]:
                self._raise_flag()
                return
            self._flag.unlink(missing_ok=True)
        # Whoever looks into it at this moment keeps it from shrinking; the next time will do.
        with contextlib.suppress(sqlite3.OperationalError):
            connection = self._open()
            if connection.execute("pragma page_count").fetchone()[0] > _VACUUM_PAGES:
                connection.execute("vacuum")
            connection.execute("pragma wal_checkpoint(truncate)").fetchone()

    def _rows(self, table: str, fields: Iterable[str]) -> list[tuple[Any, ...]]:
        if not self._file.exists():
            return []
        with self._transaction(write=False) as connection:
            return connection.execute(f"select {', '.join(fields)} from {table} order by place").fetchall()

    def _with(self, table: str, fields: Iterable[str], name: str, content: bytes) -> list[tuple[Any, ...]]:
        if not self._file.exists():
            return []
        found = f"select {', '.join(fields)} from {table} where name = ? or instr(content, ?) > 0 order by place"
        with self._transaction(write=False) as connection:
            return connection.execute(found, [name, content]).fetchall()


def insert_row(connection: sqlite3.Connection, row: NewRow, now: str) -> int:
    """Put a row at the end of the queue; its place, or 0 when its name waits there already."""
    added = connection.execute(
        "insert or ignore into waiting (org_id, name, content, salt, queued_at) values (?, ?, ?, ?, ?)", [*row, now]
    )
    return (added.lastrowid or 0) if added.rowcount > 0 else 0
