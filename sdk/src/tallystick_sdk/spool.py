"""What waits to be sent, in one SQLite file: written through to the disk, bounded, shared by processes.

Every row is a request of its own: a usage event, a settlement, or a release. A row may have to wait (`due_at`): usage
of work that is to be settled is sent with its settlement, and by itself only when that never came.

One process sends at a time (`sending`): the lock is the operating system's, on a file beside, so that it ends with its
process, however that ends. Sending something twice would have no effect; sending nothing would.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

Kind = Literal["event", "settle", "release"]

_SCHEMA: Final = """
create table waiting (
    place integer primary key autoincrement, kind text not null, org_id text not null, id text not null,
    body blob not null, due_at real not null, stored_at real not null
);
create index waiting_due on waiting (due_at, place);
create index waiting_id on waiting (id);
create table refused (
    place integer primary key autoincrement, kind text not null, org_id text not null, id text not null,
    body blob not null, refused_at real not null, code text not null, detail text not null
);
create table total (items integer not null, bytes integer not null);
insert into total values (0, 0);
create trigger waiting_more after insert on waiting begin
    update total set items = items + 1, bytes = bytes + length(new.body);
end;
create trigger waiting_less after delete on waiting begin
    update total set items = items - 1, bytes = bytes - length(old.body);
end;
pragma user_version = 1;
"""
_BUSY_SECONDS: Final = 10.0
_READ_BYTES_MAX: Final = 16 * 1024 * 1024
REFUSED_MAX: Final = 10_000
"""How many refused requests are kept to be looked at: the newest."""


class Waiting(NamedTuple):
    """Something to be sent: `id` is the event's request id, or the hold's id; `due_at` in seconds of the epoch."""

    kind: Kind
    org_id: str
    id: str
    body: bytes
    due_at: float = 0.0


class Row(NamedTuple):
    """Something to be sent, as it stands in the file."""

    place: int
    kind: Kind
    org_id: str
    id: str
    body: bytes


class Refused(NamedTuple):
    """What the server will never take, and why."""

    kind: Kind
    org_id: str
    id: str
    body: bytes
    refused_at: float
    code: str
    detail: str


class Spool:
    """The file. Safe to share between threads, processes, and after a fork; raises `sqlite3.Error` and `OSError`."""

    def __init__(self, path: Path | None, *, items_max: int, bytes_max: int) -> None:
        """Begin; the file is opened when it is first needed.

        Args:
            path: the file; None for memory, which ends with the process.
            items_max: how many may wait.
            bytes_max: how many bytes may wait, of their bodies.
        """
        self.path = path
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._sending: sqlite3.Connection | None = None
        _spools.add(self)

    def put(self, items: Iterable[Waiting]) -> int:
        """Store what there is room for, durably, in one transaction; how many of them, from the first on."""
        stored = 0
        with self._transaction() as connection:
            (count, size) = connection.execute("select items, bytes from total").fetchone()
            for item in items:
                count, size = count + 1, size + len(item.body)
                if count > self._items_max or size > self._bytes_max:
                    break
                connection.execute(
                    "insert into waiting (kind, org_id, id, body, due_at, stored_at) values (?, ?, ?, ?, ?, ?)",
                    (*item[:4], item.due_at, time.time()),
                )
                stored += 1
        return stored

    def due(self, now: float, count: int, without_orgs: Iterable[str] = ()) -> list[Row]:
        """The oldest that may be sent now."""
        orgs = list(without_orgs)
        marks = ",".join("?" * len(orgs))
        found: list[Row] = []
        size = 0
        with self._transaction(write=False) as connection:
            for row in connection.execute(
                "select place, kind, org_id, id, body from waiting"
                f" where due_at <= ? and org_id not in ({marks}) order by due_at, place limit ?",
                (now, *orgs, count),
            ):
                found.append(Row(*row))
                size += len(found[-1].body)
                if size > _READ_BYTES_MAX:
                    break
        return found

    def drop(self, places: Iterable[int]) -> None:
        """These are sent."""
        with self._transaction() as connection:
            connection.executemany("delete from waiting where place = ?", [(place,) for place in places])

    def drop_events(self, org_id: str, ids: Iterable[str]) -> None:
        """These events were sent with their settlement."""
        with self._transaction() as connection:
            connection.executemany(
                "delete from waiting where id = ? and org_id = ? and kind = 'event'", [(one, org_id) for one in ids]
            )

    def free_events(self, org_id: str, ids: Iterable[str]) -> None:
        """These events need not wait for a settlement any more."""
        with self._transaction() as connection:
            connection.executemany(
                "update waiting set due_at = 0 where id = ? and org_id = ? and kind = 'event'",
                [(one, org_id) for one in ids],
            )

    def refuse(self, refused: Iterable[tuple[Row, str, str]]) -> None:
        """The server will never take these: `(row, code, detail)`; they are kept apart, to be looked at."""
        with self._transaction() as connection:
            for row, code, detail in refused:
                connection.execute("delete from waiting where place = ?", (row.place,))
                connection.execute(
                    "insert into refused (kind, org_id, id, body, refused_at, code, detail)"
                    " values (?, ?, ?, ?, ?, ?, ?)",
                    (*row[1:], time.time(), code, detail),
                )
            connection.execute(
                "delete from refused where place <= (select max(place) from refused) - ?", (REFUSED_MAX,)
            )

    def refused(self) -> list[Refused]:
        """What was refused, oldest first."""
        with self._transaction(write=False) as connection:
            found = connection.execute(
                "select kind, org_id, id, body, refused_at, code, detail from refused order by place"
            ).fetchall()
        return [Refused(*row) for row in found]

    def count(self) -> int:
        """How many wait."""
        with self._transaction(write=False) as connection:
            (count,) = connection.execute("select items from total").fetchone()
        return int(count)

    def count_up_to(self, place: int, now: float, without_orgs: Iterable[str] = ()) -> int:
        """How many of those that may be sent now were stored up to that place."""
        orgs = list(without_orgs)
        marks = ",".join("?" * len(orgs))
        with self._transaction(write=False) as connection:
            (count,) = connection.execute(
                f"select count(*) from waiting where place <= ? and due_at <= ? and org_id not in ({marks})",
                (place, now, *orgs),
            ).fetchone()
        return int(count)

    def last_place(self) -> int:
        """The place of the newest."""
        with self._transaction(write=False) as connection:
            (place,) = connection.execute("select coalesce(max(place), 0) from waiting").fetchone()
        return int(place)

    def next_due(self, without_orgs: Iterable[str] = ()) -> float | None:
        """When the next one may be sent; None when nothing waits."""
        orgs = list(without_orgs)
        marks = ",".join("?" * len(orgs))
        with self._transaction(write=False) as connection:
            (due_at,) = connection.execute(
                f"select min(due_at) from waiting where org_id not in ({marks})", orgs
            ).fetchone()
        return None if due_at is None else float(due_at)

    @contextlib.contextmanager
    def sending(self) -> Iterator[bool]:
        """Whether this process is the one that sends, until the block ends; not when another one is at it."""
        if self.path is None:
            yield True
            return
        try:
            taken = self._take_sending()
        except sqlite3.OperationalError:  # another process has it, or another client of this one
            yield False
            return
        try:
            yield True
        finally:
            with self._lock, contextlib.suppress(sqlite3.Error):  # closed for a fork
                taken.execute("rollback")

    def _take_sending(self) -> sqlite3.Connection:
        with self._lock:  # a fork closes it, and must not while a statement is under way
            if self._sending is None:
                self._sending = sqlite3.connect(
                    f"{self.path}.sending", timeout=0, isolation_level=None, check_same_thread=False
                )
            self._sending.execute("begin exclusive")
            return self._sending

    def close(self) -> None:
        """Let go of the file and of the sending; the next call opens it again. What is in memory is kept."""
        with self._lock:
            if self.path is None:
                return
            for connection in (self._connection, self._sending):
                if connection is not None:
                    with contextlib.suppress(sqlite3.Error):
                        connection.close()
            self._connection = self._sending = None

    @contextlib.contextmanager
    def _transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._opened()
            connection.execute("begin immediate" if write else "begin")
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk may have rolled it back already
                    connection.execute("rollback")
                raise

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        if self.path is not None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))  # events name persons
        connection = sqlite3.connect(
            self.path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            with contextlib.suppress(sqlite3.OperationalError):  # two processes change it at once: one of them does
                connection.execute("pragma journal_mode = wal").fetchone()
            connection.execute("pragma synchronous = full")
            connection.execute("pragma secure_delete = on")
            connection.execute("begin immediate")
            (version,) = connection.execute("pragma user_version").fetchone()
            if version == 0:
                for statement in _statements(_SCHEMA):
                    connection.execute(statement)
            connection.execute("commit")
            if version > 1:
                raise sqlite3.DatabaseError(f"{self.path} was made by a later release")
        except BaseException:
            connection.close()
            raise
        return connection

    def before_fork(self) -> None:
        """SQLite's locks are the process's: nothing may be open while it is copied."""
        self._lock.acquire()
        self.close()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """What waits in memory is the parent's; the file is everybody's."""
        self._lock = threading.RLock()
        self._connection = self._sending = None


_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


def _each(step: str) -> None:
    for spool in list(_spools):
        getattr(spool, step)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _each("before_fork"),
        after_in_parent=lambda: _each("after_fork_in_parent"),
        after_in_child=lambda: _each("after_fork_in_child"),
    )


def _statements(script: str) -> Iterator[str]:
    held = ""
    for line in script.splitlines(keepends=True):
        held += line
        if sqlite3.complete_statement(held):
            yield held
            held = ""
