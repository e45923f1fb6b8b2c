"""The spool: events that wait on this machine's disk for the database.

DATA_DIR/spool/spool.sqlite    checked events, each named by its request id; see `waiting_queue`
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from tallystick.core.errors import Unavailable
from tallystick.core.instants import format_instant
from tallystick.journal.waiting_queue import NewRow, RefusedRow, WaitingQueue, WaitingRow, insert_row
from tallystick.usage.event import UsageEvent

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


class Spool(WaitingQueue):
    """The spool of one data directory, for one thread; processes and threads each open their own."""

    def __init__(self, data_dir: Path, *, events_max: int) -> None:
        super().__init__(data_dir / "spool", "spool.sqlite")
        self.events_max = events_max

    # ── asking ──────────────────────────────────────────────────────────────────────────────────

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
        return [_waiting(row) for row in self.waiting_rows(count)]

    def refused(self) -> list[RefusedEvent]:
        """What the ledger would not take, in the order in which it was asked.

        Raises:
            Unavailable: `spool_unusable`.
        """
        return [refused_event(row) for row in self.refused_rows()]

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
        self.take_out(
            [_row(one) for one in done], [(_row(one), code, why) for one, code, why in refused], format_instant(now)
        )

    def retry(self, new_salt: Callable[[], bytes], now: datetime) -> int:
        """Put what was refused back at the end of the queue, but for ids that wait there; how many were put back.

        Raises:
            Unavailable: `storage_full` or `spool_unusable`; then nothing has changed.
        """
        return self.retry_rows(new_salt, format_instant(now))


def refused_event(row: RefusedRow) -> RefusedEvent:
    """A refused row as the event that it is of."""
    return RefusedEvent(row.org_id, row.name, row.code, row.reason, row.queued_at, row.refused_at, row.content)


def _add(connection: sqlite3.Connection, event: UsageEvent, salt: bytes, now: datetime) -> Waiting:
    stored = _find(connection, (event.org_id, event.request_id))
    if stored is not None:
        return stored
    row = NewRow(event.org_id, event.request_id, _encode(event), salt)
    return Waiting(insert_row(connection, row, format_instant(now)), event, salt, now)


def _find(connection: sqlite3.Connection, key: tuple[str, str]) -> Waiting | None:
    columns = ", ".join(WaitingRow._fields)
    row = connection.execute(f"select {columns} from waiting where org_id = ? and name = ?", key).fetchone()
    return None if row is None else _waiting(WaitingRow(*row))


def _waiting(row: WaitingRow) -> Waiting:
    return Waiting(row.place, _decode(row.content), row.salt, datetime.fromisoformat(row.queued_at))


def _row(one: Waiting) -> WaitingRow:
    event = one.event
    return WaitingRow(
        one.place, event.org_id, event.request_id, _encode(event), one.salt, format_instant(one.spooled_at)
    )


def _held(connection: sqlite3.Connection) -> int:
    """How many events are in the spool, or a few more: places are given out without gaps and taken out in order."""
    first, last, refused = connection.execute(
        "select (select min(place) from waiting), (select max(place) from waiting), (select max(place) from refused)"
    ).fetchone()
    waiting = 0 if first is None else last - first + 1
    return int(waiting + (refused or 0))
