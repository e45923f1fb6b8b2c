"""The file that a queue on this machine's disk is in: opened when it is first needed, made by the first that waits,
never torn.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tallystick.core.errors import Unavailable
from tallystick.journal.server_folder import has_no_room, storage_full

_SCHEMA_VERSION = 1
_SCHEMA = """
create table if not exists waiting (
    place     integer primary key autoincrement,
    org_id    text not null,
    name      text not null,
    content   blob not null,
    salt      blob not null,
    queued_at text not null,
    unique (org_id, name)
);
create table if not exists refused (
    place      integer primary key autoincrement,
    org_id     text not null,
    name       text not null,
    content    blob not null,
    queued_at  text not null,
    refused_at text not null,
    code       text not null,
    reason     text not null,
    unique (org_id, name, content)
);
create table if not exists given_up (
    place       integer primary key autoincrement,
    org_id      text not null,
    name        text not null,
    queued_at   text not null,
    refused_at  text not null,
    code        text not null,
    reason      text not null,
    given_up_at text not null,
    author      text not null,
    why         text not null
);
"""
_BUSY_SECONDS = 10.0  # another process writes: its transactions take milliseconds


class QueueFile:
    """A connection to the file, for one thread, and its transactions."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._file = folder / name
        self._flag = folder / "waiting"
        self._flag_path = str(self._flag)
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    @contextlib.contextmanager
    def drain_lock(self) -> Iterator[bool]:
        """Whether we are the one that drains the file, as long as the block runs. The kernel frees it at our death."""
        self._make_folder()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._locked("drain.lock", fcntl.LOCK_NB))
            except BlockingIOError:
                ours = False
            else:
                ours = True
            yield ours

    def _make_folder(self) -> None:
        if self.folder.is_dir():
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_folder(self.folder.parent)
        except OSError as error:
            raise self._unusable(error) from None

    @contextlib.contextmanager
    def _locked(self, name: str, how: int = 0) -> Iterator[None]:
        try:
            lock = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | how)
            yield
        finally:
            os.close(lock)

    def _raise_flag(self) -> None:
        try:
            os.close(os.open(self._flag, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:
            raise self._unusable(error) from None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self._file, timeout=_BUSY_SECONDS, isolation_level=None)
            self._connection = connection
            with self._locked("open.lock"):  # two processes that make the file would take each other's for busy
                self._prepare(connection)
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("pragma journal_mode = wal").fetchone()
        connection.execute("pragma synchronous = full")
        connection.execute("pragma secure_delete = on")  # events name persons: what is taken out is gone
        (version,) = connection.execute("pragma user_version").fetchone()
        if version > _SCHEMA_VERSION:
            self.close()
            raise self._unusable(f"a later release made it (its version is {version})")
        if version < _SCHEMA_VERSION:
            connection.executescript(f"begin immediate; {_SCHEMA} pragma user_version = {_SCHEMA_VERSION}; commit")

    @contextlib.contextmanager
    def _transaction(self, *, write: bool) -> Iterator[sqlite3.Connection]:
        with self._named_errors():
            connection = self._open()
            connection.execute("begin immediate" if write else "begin")
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk may have rolled it back already
                    connection.execute("rollback")
                raise

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self.close()
            raise self._unusable(error) from error

    def _unusable(self, error: Exception | str) -> Unavailable:
        return _unusable(self._file, self.folder, error)


def copy_queue(file: Path, target: Path) -> None:
    """Copy a queue as it is between two transactions, while others use it.

    Args:
        file: the queue's.
        target: written over; all of the copy is in this one file.

    Raises:
        Unavailable: `storage_full`: where the target is; `spool_unusable`.
    """
    try:
        with (
            contextlib.closing(
                sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
            ) as found,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            found.backup(copy)
            copy.execute("pragma journal_mode = delete").fetchone()
    except sqlite3.Error as error:
        raise _unusable(file, target.parent, error) from error


def _unusable(file: Path, folder: Path, error: Exception | str) -> Unavailable:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL or (
        isinstance(error, Exception) and has_no_room(folder)
    ):
        return storage_full(folder)
    return Unavailable(
        "spool_unusable",
        f"the queue {file} cannot be used: {error}",
        next_step="see to the file and its folder; keep them: what was answered `spooled` or `queued` is in it",
        retry_after_seconds=5,
    )


def _sync_folder(folder: Path) -> None:
    """A folder's new entries survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
