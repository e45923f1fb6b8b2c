"""The background sender: what is recorded goes to disk at once, and from there to the server, whatever happens.

    record ──► memory ──(thread "tally-spool": one write to disk for many)──► spool ──(thread "tally-send")──► server

It never blocks the caller and never raises into the caller's work. What cannot be kept is counted, and said loudly.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tallystick_sdk.delivery import EVENTS_MAX, Delivered, deliver, event_ids_of
from tallystick_sdk.errors import TallyError, Unavailable
from tallystick_sdk.http import Http
from tallystick_sdk.recordings import Recording, Stats
from tallystick_sdk.retry import Attempts, Retry
from tallystick_sdk.spool import Refused, Row, Spool, Waiting

log: Final = logging.getLogger("tallystick_sdk")

MEMORY_MAX: Final = 10_000
"""How many requests may be on their way to the disk."""
_ROWS_MAX: Final = 10 * EVENTS_MAX
_IDLE_SECONDS: Final = 2.0  # how often it looks for what other processes have left
_BUSY_SECONDS: Final = 0.1  # another process sends
_FOREIGN_SECONDS: Final = 60.0
_WAITS: Final = Retry(wait_seconds=0.2, wait_seconds_max=30.0)


@dataclass
class _Step:
    """Something for the spool: a row to keep, or events whose settlement has come or will not."""

    item: Waiting | None = None
    recording: Recording | None = None
    org_id: str = ""
    settled: Sequence[str] = ()
    freed: Sequence[str] = ()


class _Run:
    """The two threads, from when they are started to when they are told to end."""

    def __init__(self) -> None:
        self.is_closing = False
        self.is_orphan = False
        self.threads: list[threading.Thread] = []


class Sender:
    """See the module. One for each client; several on one spool, in one process or many, share the work."""

    def __init__(self, spool: Spool, http: Http, *, on_refused: Callable[[Refused], None] | None = None) -> None:
        self._spool = spool
        self._http = http
        self._on_refused = on_refused
        self._changed = threading.Condition()
        self._steps: deque[_Step] = deque()
        self._spooling = 0  # taken out of memory, and not on disk yet
        self._run: _Run | None = None
        self._wake = self._hurry = False
        self._recorded = self._sent = self._refused = self._dropped = 0
        self._drops_told = 0.0
        self._last_error: TallyError | None = None
        self._foreign: dict[str, float] = {}
        _senders.add(self)

    # ── what callers do ─────────────────────────────────────────────────────────────────────────────────────────────

    def offer(self, item: Waiting) -> Recording:
        """Keep it, and send it when it is due. It returns at once, and raises nothing."""
        recording = Recording(item.id)
        self._add(_Step(item=item, recording=recording))
        return recording

    def settled(self, org_id: str, ids: Sequence[str]) -> None:
        """These events were sent with their settlement."""
        if ids:
            self._add(_Step(org_id=org_id, settled=ids))

    def freed(self, org_id: str, ids: Sequence[str]) -> None:
        """These events need not wait for a settlement any more."""
        if ids:
            self._add(_Step(org_id=org_id, freed=ids))

    def refused_here(self, recording: Recording, error: TallyError) -> None:
        """It cannot be sent as it is; said loudly, since it is usage that nobody will bill."""
        with self._changed:
            self._recorded += 1
            self._refused += 1
        recording.settle(is_kept=False)
        log.error("usage was not recorded: %s", error)

    def start_if_any_waits(self) -> None:
        """Send what an earlier process has left."""
        if self._spool.path is None or not self._spool.path.exists():
            return
        try:
            waits = self._spool.count()
        except (sqlite3.Error, OSError) as error:
            log.error("the spool %s cannot be read: %s", self._spool.path, error)  # noqa: TRY400
            return
        if waits:
            with self._changed:
                self._start()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until all that was recorded so far is sent, or refused; whether it is."""
        ends = time.monotonic() + timeout_seconds
        if not self._wait_until_spooled(ends):
            return False
        try:
            place = self._spool.last_place()
            with self._changed:
                self._start()
                self._hurry = True
                self._changed.notify_all()
            # What the key may not send is not waited for; but then not all of it is sent.
            while self._spool.count_up_to(place, time.time(), self._not_ours()) and time.monotonic() < ends:
                with self._changed:
                    self._changed.wait(0.02)
            count = self._spool.count_up_to(place, time.time())
        except (sqlite3.Error, OSError):
            return False
        return not count

    def close(self, timeout_seconds: float) -> bool:
        """Send what can be sent in that time and stop; the rest stays on disk. Whether all was sent."""
        is_sent = self.flush(timeout_seconds) if self._run is not None else True
        with self._changed:
            run, self._run = self._run, None
            if run is not None:
                run.is_closing = True
                self._changed.notify_all()
        for thread in run.threads if run is not None else ():
            thread.join(max(0.1, min(timeout_seconds, 2.0)))
        with contextlib.suppress(sqlite3.Error):
            self._spool.close()
        return is_sent

    def end_when_idle(self) -> None:
        """Nobody records any more: what waits is sent, and then the threads end."""
        with self._changed:
            run, self._run = self._run, None
            if run is not None:
                run.is_orphan = True
                self._wake = True
                self._changed.notify_all()

    def stats(self) -> Stats:
        """Counts since this process began, and what waits."""
        try:
            spooled = self._spool.count()
        except (sqlite3.Error, OSError):
            spooled = 0
        with self._changed:
            waiting = spooled + self._spooling + sum(step.item is not None for step in self._steps)
            return Stats(
                recorded=self._recorded, sent=self._sent, refused=self._refused, dropped=self._dropped,
                waiting=waiting, last_error=self._last_error,
            )  # fmt: skip

    def _add(self, step: _Step) -> None:
        with self._changed:
            if step.item is not None:
                self._recorded += 1
                if len(self._steps) >= MEMORY_MAX:
                    self._drop(1, [step], "memory is full: the disk does not keep up")
                    return
            self._steps.append(step)
            self._start()
            self._changed.notify_all()

    def _drop(self, count: int, steps: Iterable[_Step], why: str) -> None:
        self._dropped += count
        for step in steps:
            if step.recording is not None:
                step.recording.settle(is_kept=False)
        if time.monotonic() - self._drops_told > 1.0:  # once a second, however many
            self._drops_told = time.monotonic()
            log.error("usage is being LOST, %d so far: %s", self._dropped, why)

    def _start(self) -> None:
        if self._run is not None:
            return
        self._run = run = _Run()
        for name, target in (("tally-spool", self._keep), ("tally-send", self._send)):
            run.threads.append(threading.Thread(target=target, name=name, args=(run,), daemon=True))
        for thread in run.threads:
            thread.start()

    def _wait_until_spooled(self, ends: float) -> bool:
        with self._changed:
            while self._steps or self._spooling:
                left = ends - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.1))
        return True

    # ── from memory to disk ─────────────────────────────────────────────────────────────────────────────────────────

    def _keep(self, run: _Run) -> None:
        attempts = Attempts(_WAITS)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._steps or run.is_closing or run.is_orphan)
                if not self._steps:
                    return
                steps = list(self._steps)
                self._steps.clear()
                self._spooling = sum(step.item is not None for step in steps)
            if self._keep_all(steps):
                attempts = Attempts(_WAITS)
                continue
            with self._changed:
                self._changed.wait_for(lambda: run.is_closing, attempts.next_wait(None))
                if run.is_closing:
                    return

    def _keep_all(self, steps: list[_Step]) -> bool:
        """Whether the disk has them; else they are sent without it, or are back in memory."""
        items = [(step, step.item) for step in steps if step.item is not None]
        try:
            stored = self._spool.put(item for _, item in items)
            for step in steps:
                if step.settled:
                    self._spool.drop_events(step.org_id, step.settled)
                if step.freed:
                    self._spool.free_events(step.org_id, step.freed)
        except (sqlite3.Error, OSError) as error:
            log.error(  # noqa: TRY400  it is told whole
                "the spool %s cannot be written: %s; what was recorded is only in memory", self._spool.path, error
            )
            self._send_past_the_disk(steps)
            return False
        except Exception:
            # A fault of ours must not end the thread; these steps would only meet it again.
            log.exception("what was recorded could not be kept")
            with self._changed:
                self._spooling = 0
                self._drop(len(items), steps, "of a fault in this library")
                self._changed.notify_all()
            return True
        with self._changed:
            self._spooling = 0
            if stored < len(items):
                lost = [step for step, _ in items[stored:]]
                self._drop(len(lost), lost, "the spool is full: the server does not take what it is sent")
            for step, _ in items[:stored]:
                if step.recording is not None:
                    step.recording.settle(is_kept=True)
            self._wake = True
            self._changed.notify_all()
        return True

    def _send_past_the_disk(self, steps: list[_Step]) -> None:
        """The disk is full or broken: what the server takes now is safe; the rest waits in memory, and is bounded."""
        now = time.time()
        due = [step for step in steps if step.item is not None and step.item.due_at <= now]
        rows = [Row(place, *step.item[:4]) for place, step in enumerate(due) if step.item is not None]
        told = deliver(self._http, rows[:_ROWS_MAX])
        gone = {id(due[place]): True for place in told.done}
        gone |= {id(due[row.place]): False for row, _, _ in told.refused}
        for row, code, detail in told.refused:
            log.error("%s %s of %s was refused: %s [%s]", row.kind, row.id, row.org_id, detail, code)
        with self._changed:
            self._sent += len(told.done)
            self._refused += len(told.refused)
            self._spooling = 0
            for step in steps:
                if id(step) in gone and step.recording is not None:
                    step.recording.settle(is_kept=gone[id(step)])
            left = [step for step in steps if id(step) not in gone]
            self._steps.extendleft(reversed(left))
            self._changed.notify_all()

    # ── from disk to the server ─────────────────────────────────────────────────────────────────────────────────────

    def _send(self, run: _Run) -> None:
        attempts = Attempts(_WAITS)
        while True:
            wait, is_idle = _IDLE_SECONDS, True
            try:
                with self._spool.sending() as is_ours:  # only while it sends: another's key may be a better one
                    wait, is_idle = self._send_some(attempts) if is_ours else (_BUSY_SECONDS, False)
                if wait == 0.0:
                    attempts = Attempts(_WAITS)
            except (sqlite3.Error, OSError) as error:
                log.error("the spool %s cannot be read: %s", self._spool.path, error)  # noqa: TRY400
                wait = attempts.next_wait(None)
            except Exception:
                # A fault of ours must not end the thread: what waits would wait for ever.
                log.exception("sending failed unexpectedly")
                wait = attempts.next_wait(None)
            with self._changed:
                self._changed.wait_for(lambda: run.is_closing or self._is_called(), wait)
                is_called = self._wake or self._hurry
                self._wake = self._hurry = False
                is_through = is_idle and not is_called and not self._steps and not self._spooling
                if run.is_closing or (run.is_orphan and is_through):
                    return

    def _is_called(self) -> bool:
        # While the server is away, new usage is no reason to ask it again earlier; who waits for it is.
        return self._hurry or (self._wake and self._last_error is None)

    def _send_some(self, attempts: Attempts) -> tuple[float, bool]:
        """Send what is due; how long to wait before the next time, and whether there was nothing."""
        now = time.time()
        foreign = self._not_ours()
        rows = self._spool.due(now, _ROWS_MAX, foreign)
        if not rows:
            due_at = self._spool.next_due(foreign)
            return (_IDLE_SECONDS if due_at is None else min(_IDLE_SECONDS, max(0.01, due_at - now))), True
        told = deliver(self._http, rows)
        self._take_note(told, now)
        with self._changed:
            self._last_error = told.error
            self._changed.notify_all()
        if told.error is None:
            return 0.0, False
        log.warning("what was recorded cannot be sent for now, and is kept: %s", told.error)
        waits = told.error.retry_after_seconds if isinstance(told.error, Unavailable) else None
        return attempts.next_wait(waits), False

    def _not_ours(self) -> list[str]:
        now = time.time()
        return [org_id for org_id, until in list(self._foreign.items()) if until > now]

    def _take_note(self, told: Delivered, now: float) -> None:
        for row in told.settled:
            self._spool.drop_events(row.org_id, event_ids_of(row))
        for row in told.freed:
            self._spool.free_events(row.org_id, event_ids_of(row))
        self._spool.drop(told.done)
        if told.refused:
            self._spool.refuse(told.refused)
        for org_id in told.foreign:
            log.error("the key may not send usage of %s: it is kept for who may", org_id)
            self._foreign[org_id] = now + _FOREIGN_SECONDS
        with self._changed:
            self._sent += len(told.done)
            self._refused += len(told.refused)
        for row, code, detail in told.refused:
            log.error("%s %s of %s was refused, and is kept apart: %s [%s]", row.kind, row.id, row.org_id, detail, code)
            if self._on_refused is not None:
                with contextlib.suppress(Exception):
                    self._on_refused(Refused(*row[1:], now, code, detail))

    def after_fork_in_child(self) -> None:
        """Threads are not copied, and what is in memory is the parent's to send."""
        self._changed = threading.Condition()
        self._steps = deque()
        self._spooling = 0
        self._run = None
        self._wake = self._hurry = False
        self._recorded = self._sent = self._refused = self._dropped = 0


_senders: weakref.WeakSet[Sender] = weakref.WeakSet()
EXIT_SECONDS: Final = 5.0
"""How long a process that ends waits for what it recorded to be sent; the rest is on disk."""


@atexit.register
def _close_all() -> None:
    ends = time.monotonic() + EXIT_SECONDS
    for sender in list(_senders):
        sender.close(max(0.0, ends - time.monotonic()))


def _forked() -> None:
    for sender in list(_senders):
        sender.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
