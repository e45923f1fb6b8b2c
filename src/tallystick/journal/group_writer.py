"""Group commit: one thread writes for all callers of a process, many of their batches in one transaction.

What is written is the `Work`'s: usage events (`EventWork`), or operations on orgs' accounts.

A commit waits for the disk however many events are in it. So what comes waits a few milliseconds for others, all are
written together, and every caller is answered after the commit. What comes meanwhile is the next group. Callers who
were answered often come again at once, each with the next: a group waits until there are as many callers as were under
way when the last one ended, and no longer than it may linger. A caller who is alone never waits.

    submit ──► queue (bounded, in events) ──► gather ──► write ──► commit ──► answer each caller
                 full: `journal_busy`            │
                                  until as many are there as were under way, or it has lingered

    connection lost       the group is written again, once, on a new connection: what had arrived all the same is
                          recognised, so that a lost answer to a commit costs nobody anything
    server silent         the group is told so after a while, and the server counts as away
    server away           the group, and all who come, are told `database_unreachable` at once; meanwhile the thread
                          keeps trying to connect
    disk full             the group is told `storage_full`; the next one tries again
    anything else         the group's batches are written one by one, so that only the guilty one fails
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

import psycopg

from tallystick.core.errors import TallyError, Unavailable
from tallystick.journal.database import Connection
from tallystick.journal.group_work import Work
from tallystick.journal.migrate import storage_full, unreachable
from tallystick.journal.patience import ServerSilent

_ATTEMPTS_MAX = 5  # of a transaction that lost a deadlock; locks are taken in one order, so one is hardly ever lost
_PROBE_SECONDS = (0.1, 2.0)  # between attempts to connect while the server is away: at first, and at most
_RETRY_SECONDS_MAX = 30
_GROUPS_PROBED = 32  # after an event that was stored already: others may follow, and writing a group twice costs more
_GONE = (
    psycopg.InterfaceError,
    psycopg.errors.AdminShutdown,
    psycopg.errors.CrashShutdown,
    psycopg.errors.CannotConnectNow,
    psycopg.errors.ReadOnlySqlTransaction,  # it has become a standby
)


Item = TypeVar("Item")
Answer = TypeVar("Answer")


class WriterState(NamedTuple):
    """How the writer is doing.

    Attributes:
        queue_events: how many events wait to be written.
        queue_events_max: how many may.
        events_written: since it was made, duplicates and refused ones included.
        last_commit_age_seconds: since the last commit; None before the first.
        down: why the database cannot be written to; None while it can, as far as is known.
        last_error: what the last failure said, also of one that is over; None when there was none.
    """

    queue_events: int
    queue_events_max: int
    events_written: int
    last_commit_age_seconds: float | None
    down: str | None
    last_error: str | None


class _Submission(NamedTuple, Generic[Item, Answer]):
    item: Item
    size: int
    callers: int
    future: Future[Answer]
    arrived: float


class GroupWriter(Generic[Item, Answer]):
    """Writes for all callers of a process; make one for each kind of work, and close it in the end.

    Args:
        connect: opens a connection of the writer's role, or raises psycopg.Error within a few seconds.
        work: what is written, and how.
        linger_seconds: how long a group waits for others at most.
        group_events_max: how many events one transaction holds, unless a single batch has more.
        queue_events_max: how many events may wait.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        work: Work[Item, Answer],
        *,
        linger_seconds: float,
        group_events_max: int,
        queue_events_max: int,
    ) -> None:
        self._connect = connect
        self._work = work
        self._linger_seconds = linger_seconds
        self._group_events_max = group_events_max
        self._queue_events_max = queue_events_max
        self._changed = threading.Condition()
        self._queue: deque[_Submission[Item, Answer]] = deque()
        self._queue_events = 0
        self._queue_callers = 0
        self._wanted_callers = group_events_max
        """With so many a group need not wait for more."""
        self._closing = False
        self._down: str | None = None
        self._thread: threading.Thread | None = None
        # Only the thread's own from here on; others read single values.
        self._connection: Connection | None = None
        self._groups_to_probe = 0
        self._events_written = 0
        self._events_per_second = 0.0
        self._last_commit: float | None = None
        self._last_error: str | None = None
        self._free_since = 0.0

    def submit(self, item: Item) -> Future[Answer]:
        """Have an item written; it never waits, and may be called from an event loop.

        The future gives the answer once it is on disk (for a batch of events one receipt for each, in order). It
        raises `Unavailable` (`database_unreachable`, `storage_full`): nothing is known to be stored then, and sending
        it again is safe.

        Raises:
            Unavailable: `journal_busy`, the queue is full; `database_unreachable`, the server is known to be away;
                `journal_closed`.
        """
        count = self._work.size(item)
        future: Future[Answer] = Future()
        if not count:
            future.set_result(self._work.nothing())
            return future
        with self._changed:
            if self._closing:
                raise Unavailable(
                    "journal_closed", "this process is stopping", next_step="send the same again to the next one"
                )
            if self._down is not None:
                raise _unreachable(self._down)
            if self._queue and self._queue_events + count > self._queue_events_max:
                raise self._busy()
            was_enough = self._has_enough()
            self._queue.append(_Submission(item, count, self._work.callers(item), future, time.monotonic()))
            self._queue_events += count
            self._queue_callers += self._queue[-1].callers
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"tally-{self._work.name}", daemon=True)
                self._thread.start()
            elif len(self._queue) == 1 or (not was_enough and self._has_enough()):
                self._changed.notify()
        return future

    def state(self) -> WriterState:
        """How it is doing, at a glance."""
        last = self._last_commit
        return WriterState(
            self._queue_events,
            self._queue_events_max,
            self._events_written,
            None if last is None else time.monotonic() - last,
            self._down,
            self._last_error,
        )

    @property
    def callers_under_way(self) -> int:
        """How many there were as the last group ended, those it answered among them; 0 before the first."""
        return 0 if self._last_commit is None else self._wanted_callers

    def close(self) -> None:
        """Write what waits, then stop. What comes later is refused."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    # ── the thread ──────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            while group := self._gather():
                self._write_group(group)
                if self._down is not None:
                    self._wait_for_server()
            self._drop_connection()
        except BaseException as error:  # nobody may wait for a thread that is no more
            with self._changed:
                self._closing = True
            self._gone(error)
            raise

    def _gather(self) -> list[_Submission[Item, Answer]]:
        """The next group, once it has lingered; none when it is time to stop."""
        with self._changed:
            while not self._queue:
                if self._closing:
                    return []
                self._changed.wait()
            until = max(self._queue[0].arrived, self._free_since) + self._linger_seconds
            while not self._has_enough() and not self._closing:
                remaining = until - time.monotonic()
                if remaining <= 0:
                    break
                self._changed.wait(remaining)
            group = [self._queue.popleft()]
            events = group[0].size
            while self._queue and events + self._queue[0].size <= self._group_events_max:
                group.append(self._queue.popleft())
                events += group[-1].size
            self._queue_events -= events
            self._queue_callers -= sum([one.callers for one in group])
        return group

    def _has_enough(self) -> bool:
        """Whether a group need not wait for more."""
        return self._queue_callers >= self._wanted_callers or self._queue_events >= self._group_events_max

    def _write_group(self, group: list[_Submission[Item, Answer]]) -> None:
        # A caller that has gone meanwhile is not written for; from here on, no future can be cancelled.
        group = [one for one in group if one.future.set_running_or_notify_cancel()]
        if group:
            self._write_running(group)
        self._free_since = time.monotonic()

    def _write_running(self, group: list[_Submission[Item, Answer]]) -> None:
        started = time.monotonic()
        try:
            self._work.taken()
            answers = self._written([one.item for one in group])
        except Unavailable as error:
            self._last_error = error.detail
            _fail(group, error)
        except Exception as error:
            self._last_error = " ".join(str(error).split())
            if len(group) == 1:
                group[0].future.set_exception(error)
            else:
                for one in group:
                    self._write_running([one])
        else:
            self._count(group, started)
            for one, answer in zip(group, answers, strict=True):
                if isinstance(answer, TallyError):
                    one.future.set_exception(answer)
                else:
                    one.future.set_result(answer)
            self._work.answered()

    def _written(self, items: Sequence[Item]) -> list[Answer]:
        lost = rolled_back = 0
        while True:
            connection = self._connected()
            try:
                answers = self._work.write(connection, items, probe=lost > 0 or self._groups_to_probe > 0)
            except psycopg.Error as error:
                if self._is_lost(error):
                    self._drop_connection()
                    lost += 1
                    if lost > 1 or isinstance(error, ServerSilent):  # nobody is to wait as long once more
                        raise self._gone(error) from error
                elif self._work.stored_already(error) and not self._groups_to_probe:
                    self._roll_back()
                    self._groups_to_probe = _GROUPS_PROBED
                elif isinstance(error, psycopg.errors.TransactionRollback) and rolled_back + 1 < _ATTEMPTS_MAX:
                    self._roll_back()
                    rolled_back += 1
                else:
                    self._roll_back()
                    if isinstance(error, psycopg.errors.DiskFull):
                        raise storage_full(error) from error
                    raise
            except BaseException:
                self._roll_back()
                raise
            else:
                self._learn(answers)
                return answers

    def _connected(self) -> Connection:
        if self._down is not None:
            raise _unreachable(self._down)
        try:
            if self._connection is None:
                self._connection = self._connect()
        except psycopg.Error as error:
            raise self._gone(error) from error
        return self._connection

    def _learn(self, answers: list[Answer]) -> None:
        """Whether the next groups are probed: as long as repeated events come, and for a while after."""
        if self._groups_to_probe:
            repeated = self._work.has_repeats(answers)
            self._groups_to_probe = _GROUPS_PROBED if repeated else self._groups_to_probe - 1

    def _is_lost(self, error: psycopg.Error) -> bool:
        return self._connection is None or self._connection.closed or isinstance(error, _GONE)

    def _gone(self, error: BaseException) -> Unavailable:
        """The server is away: from now on all are told at once."""
        detail = " ".join(str(error).split())
        refused = _unreachable(detail)
        with self._changed:
            self._down = detail
            waiting = list(self._queue)
            self._queue.clear()
            self._queue_events = self._queue_callers = 0
        _fail([one for one in waiting if one.future.set_running_or_notify_cancel()], refused)
        return refused

    def _wait_for_server(self) -> None:
        pause, longest = _PROBE_SECONDS
        while True:
            with self._changed:
                if not self._closing:
                    self._changed.wait(pause)
                if self._closing:
                    return
            try:
                self._connection = self._connect()
            except psycopg.Error as error:
                self._down = " ".join(str(error).split())
                pause = min(2 * pause, longest)
            else:
                self._down = None
                return

    def _roll_back(self) -> None:
        try:
            if self._connection is not None:
                self._connection.rollback()
        except psycopg.Error:
            self._drop_connection()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _count(self, group: Sequence[_Submission[Item, Answer]], started: float) -> None:
        self._last_commit = now = time.monotonic()
        events = sum([one.size for one in group])
        self._events_written += events
        self._wanted_callers = sum([one.callers for one in group]) + self._queue_callers
        rate = events / max(now - started, 1e-6)
        self._events_per_second += 0.1 * (rate - self._events_per_second) if self._events_per_second else rate

    def _busy(self) -> Unavailable:
        wait = math.ceil(self._queue_events / self._events_per_second) if self._events_per_second else 1
        return Unavailable(
            "journal_busy",
            f"{self._queue_events:,} events wait to be written, and no more than {self._queue_events_max:,} may",
            next_step="send the same again a little later: nothing is counted twice",
            retry_after_seconds=max(1, min(wait, _RETRY_SECONDS_MAX)),
        )


def _fail(group: Sequence[_Submission[Item, Answer]], error: Unavailable) -> None:
    for one in group:
        one.future.set_exception(
            Unavailable(
                error.code, error.detail, next_step=error.next_step, retry_after_seconds=error.retry_after_seconds
            )
        )


def _unreachable(detail: str) -> Unavailable:
    return unreachable(RuntimeError(detail))
