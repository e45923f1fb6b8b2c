"""The spool: events that wait on this machine's disk for the database, in one SQLite file that processes share.

    DATA_DIR/spool/spool.sqlite   waiting: checked events, in the order in which they came, each id once
                                  refused: what the ledger would not take when it was asked; nothing is dropped
    DATA_DIR/spool/waiting        is there while events wait: whether the spool has to be asked at all
    DATA_DIR/spool/drain.lock     held by the one process that empties it

Every call is one transaction, and what it adds is on disk when it returns (write-ahead log, synchronous=FULL): a crash
or a full disk leaves the spool as it was before a call or after it, never in between.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from tallystick.core.errors import Unavailable
from tallystick.core.instants import format_instant
from tallystick.journal.spool_file import SpoolFile
from tallystick.usage.event import UsageEvent

_VACUUM_PAGES = 1000

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(UsageEvent).decode


class Waiting(NamedTuple):
    """An event in the spool.

    Attributes:
        place: its place in the queue, rising.
        event: as it was checked.
        salt: 16 random bytes: those of its fingerprint, now and in the ledger.
        spooled_at: when it was taken.
    """

    place: int
    event: UsageEvent
    salt: bytes
    spooled_at: datetime


class RefusedEvent(NamedTuple):
    """An event that the ledger would not take when the spool was drained: why, and its JSON as it was spooled."""

    org_id: str
    request_id: str
    code: str
    reason: str
    spooled_at: str
    refused_at: str
    event: bytes


class SpoolState(NamedTuple):
    """How much waits, since when, and how much was refused."""

    waiting: int
    oldest: str | None
    refused: int


class Spool(SpoolFile):
    """The spool of one data directory, for one thread; processes and threads each open their own.

    The file is made by the first event, so that looking at a spool that was never used leaves nothing behind.
    """

    def __init__(self, data_dir: Path, *, events_max: int) -> None:
        super().__init__(data_dir / "spool")
        self.events_max = events_max

    # ── asking ──────────────────────────────────────────────────────────────────────────────────

    def may_hold_events(self) -> bool:
        """Whether anything may be waiting: one look for a file, in any thread."""
        return os.path.exists(self._flag_path)

    def find(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Waiting]:
        """The events that wait under these keys, (org, request id).

        Raises:
            Unavailable: `spool_unusable`.
        """
        if not self._file.exists():
            return {}
        found: dict[tuple[str, str], Waiting] = {}
        with self._transaction(write=False) as connection:
            for key in keys:
                stored = _find(connection, key)
                if stored is not None:
                    found[key] = stored
        return found

    def first(self, count: int) -> list[Waiting]:
        """The events that have waited longest, at most `count` of them.

        Raises:
            Unavailable: `spool_unusable`.
        """
        if not self._file.exists():
            return []
        with self._transaction(write=False) as connection:
            rows = connection.execute(
                "select place, event, salt, spooled_at from waiting order by place limit ?", [count]
            )
            return [_waiting(row) for row in rows]

    def state(self) -> SpoolState:
        """What is in it.

        Raises:
            Unavailable: `spool_unusable`.
        """
        if not self._file.exists():
            return SpoolState(0, None, 0)
        with self._transaction(write=False) as connection:
            row = connection.execute(
                "select (select count(*) from waiting), (select spooled_at from waiting order by place limit 1),"
                " (select count(*) from refused)"
            ).fetchone()
            return SpoolState(*row)

    def refused(self) -> list[RefusedEvent]:
        """What the ledger would not take, in the order in which it was asked.

        Raises:
            Unavailable: `spool_unusable`.
        """
        if not self._file.exists():
            return []
        with self._transaction(write=False) as connection:
            columns = ", ".join(RefusedEvent._fields)
            return [RefusedEvent(*row) for row in connection.execute(f"select {columns} from refused order by place")]

    # ── changing ────────────────────────────────────────────────────────────────────────────────

    def add(self, events: Sequence[UsageEvent], salts: Sequence[bytes], now: datetime) -> list[Waiting]:
        """Put events at the end of the queue, all or none; what now waits under the id of each, in order.

        That is the event itself, or the one that waits under its id already: with the same content or with other.

        Raises:
            Unavailable: `spool_full`, `storage_full` or `spool_unusable`; then none was added.
        """
        self._make_folder()
        with self._transaction(write=True) as connection:
            stored = [_add(connection, event, salt, now) for event, salt in zip(events, salts, strict=True)]
            if _held(connection) > self.events_max:
                raise Unavailable(
                    "spool_full",
                    f"the database is away, and the spool holds {self.events_max:,} events, as many as it may",
                    next_step="send the same again once the database is back: nothing is counted twice",
                    retry_after_seconds=10,
                )
            self._raise_flag()  # before the commit: there is no moment at which events wait unseen
        return stored

    def settle(self, done: Sequence[Waiting], refused: Sequence[tuple[Waiting, str, str]], now: datetime) -> None:
        """Take out what the ledger has answered for: `done` is in it, `refused` (with code and reason) is kept apart.

        Raises:
            Unavailable: `storage_full` or `spool_unusable`; then all of it still waits.
        """
        with self._transaction(write=True) as connection:
            connection.executemany(
                "insert or ignore into refused (org_id, request_id, event, spooled_at, refused_at, code, reason)"
                " values (?, ?, ?, ?, ?, ?, ?)",
                [
                    (one.event.org_id, one.event.request_id, _encode(one.event), format_instant(one.spooled_at),
                     format_instant(now), code, reason)
                    for one, code, reason in refused
                ],
            )  # fmt: skip
            places = [(one.place,) for one in done] + [(one.place,) for one, _, _ in refused]
            connection.executemany("delete from waiting where place = ?", places)

    def retry(self, new_salt: Callable[[], bytes], now: datetime) -> int:
        """Put what was refused back at the end of the queue, but for ids that wait there; how many were put back.

        Raises:
            Unavailable: `storage_full` or `spool_unusable`; then nothing has changed.
        """
        back = 0
        if not self._file.exists():
            return back
        with self._transaction(write=True) as connection:
            for place, event in connection.execute("select place, event from refused order by place").fetchall():
                stored = _add(connection, _decode(event), new_salt(), now)
                if stored.spooled_at == now and _encode(stored.event) == event:
                    connection.execute("delete from refused where place = ?", [place])
                    back += 1
            if back:
                self._raise_flag()
        return back

    def dismiss(self, org_id: str, request_id: str) -> int:
        """Drop what was refused under this id, because somebody has seen to it; how many events that were.

        Raises:
            Unavailable: `storage_full` or `spool_unusable`; then nothing has changed.
        """
        if not self._file.exists():
            return 0
        with self._transaction(write=True) as connection:
            dropped = connection.execute(
                "delete from refused where org_id = ? and request_id = ?", [org_id, request_id]
            )
            return dropped.rowcount

    def tidy(self) -> None:
        """When nothing waits any more: say so to the other processes, and give the disk back.

        Raises:
            Unavailable: `storage_full` or `spool_unusable`.
        """
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


def _add(connection: sqlite3.Connection, event: UsageEvent, salt: bytes, now: datetime) -> Waiting:
    stored = _find(connection, (event.org_id, event.request_id))
    if stored is not None:
        return stored
    added = connection.execute(
        "insert into waiting (org_id, request_id, event, salt, spooled_at) values (?, ?, ?, ?, ?)",
        [event.org_id, event.request_id, _encode(event), salt, format_instant(now)],
    )
    return Waiting(added.lastrowid or 0, event, salt, now)


def _find(connection: sqlite3.Connection, key: tuple[str, str]) -> Waiting | None:
    row = connection.execute(
        "select place, event, salt, spooled_at from waiting where org_id = ? and request_id = ?", key
    ).fetchone()
    return None if row is None else _waiting(row)


def _waiting(row: tuple[int, bytes, bytes, str]) -> Waiting:
    place, event, salt, spooled_at = row
    return Waiting(place, _decode(event), salt, datetime.fromisoformat(spooled_at))


def _held(connection: sqlite3.Connection) -> int:
    """How many events are in the spool, or a few more: places are given out without gaps and taken out in order."""
    first, last, refused = connection.execute(
        "select (select min(place) from waiting), (select max(place) from waiting), (select max(place) from refused)"
    ).fetchone()
    waiting = 0 if first is None else last - first + 1
    return int(waiting + (refused or 0))
