"""The one thread of a process that looks into the spool and adds to it, so that nobody else waits for the disk."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from tallystick.core.errors import Unavailable
from tallystick.core.instants import Clock
from tallystick.journal.spool import Spool, Waiting
from tallystick.journal.steps import reached
from tallystick.ledger.encoding import SALT_BYTES, event_fingerprint
from tallystick.ledger.receipt import Receipt
from tallystick.usage.event import UsageEvent

GROUP_EVENTS = 2000
"""Events of several callers that go into the spool in one transaction, so that one flush serves them all."""

Key = tuple[str, str]
"""Org and request id: the identity of an event."""
Found = Callable[[dict[Key, Waiting]], None]
Answer = Future[list[Receipt]]


class _Task(NamedTuple):
    """Events to look up, when there is `found`; else events to add. `answer` is theirs, or learns why not."""

    events: Sequence[UsageEvent]
    answer: Answer
    found: Found | None = None


class SpoolKeeper:
    """Does one thing after the other; its thread begins with the first."""

    def __init__(self, spool: Spool, clock: Clock, *, queue_events_max: int) -> None:
        self._spool = spool
        self._clock = clock
        self._room = queue_events_max
        self._tasks: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False

    def find(self, events: Sequence[UsageEvent], answer: Answer, found: Found) -> None:
        """Call `found` with what waits under the ids of these events; when that is not known, `answer` fails."""
        self._put(_Task(events, answer, found))

    def add(self, events: Sequence[UsageEvent], answer: Answer) -> None:
        """Put events into the spool, and then their receipts into `answer`; or the reason why it took none of them."""
        self._put(_Task(events, answer))

    def close(self) -> None:
        """Finish what was asked for, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _put(self, task: _Task) -> None:
        with self._changed:
            refusal = self._refusal(task)
            if refusal is None:
                self._room -= len(task.events)
                self._tasks.append(task)
                self._changed.notify()
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="tally-spool", daemon=True)
                    self._thread.start()
        if refusal is not None:
            task.answer.set_exception(refusal)

    def _refusal(self, task: _Task) -> Unavailable | None:
        if self._closing:
            return Unavailable(
                "journal_closed", "this process is stopping", next_step="send the same again to the next one"
            )
        if self._tasks and self._room < len(task.events):
            return Unavailable(
                "journal_busy",
                "as many events as may wait are waiting for the spool's disk",
                next_step="send the same again in a moment: nothing is counted twice",
            )
        return None

    def _run(self) -> None:
        while group := self._next_group():
            try:
                self._do(group)
            except BaseException as error:
                for task in group:
                    if not task.answer.done():
                        task.answer.set_exception(error)
                if not isinstance(error, Exception):
                    raise
        self._spool.close()

    def _next_group(self) -> list[_Task]:
        """What to do next: one look, or as many adds as follow each other and fit a group; nothing at the end."""
        with self._changed:
            while not self._tasks and not self._closing:
                self._changed.wait()
            group: list[_Task] = []
            count = 0
            while self._tasks and count < GROUP_EVENTS and not (group and (group[0].found or self._tasks[0].found)):
                task = self._tasks.popleft()
                count += len(task.events)
                group.append(task)
            self._room += count
            return group

    def _do(self, group: list[_Task]) -> None:
        first = group[0]
        if first.found is not None:
            first.found(self._spool.find([key_of(event) for event in first.events]))
            return
        try:
            self._add(group)
        except Unavailable:
            if len(group) == 1:
                raise
            for task in group:  # perhaps some of them find room
                try:
                    self._add([task])
                except Unavailable as error:
                    task.answer.set_exception(error)

    def _add(self, group: list[_Task]) -> None:
        events = [event for task in group for event in task.events]
        stored = iter(self._spool.add(events, [os.urandom(SALT_BYTES) for _ in events], self._clock()))
        reached("spool.committed")
        for task in group:
            task.answer.set_result([receipt_of(event, next(stored)) for event in task.events])


def new_answer() -> Answer:
    """A future that nobody can cancel: what it stands for is being written."""
    answer: Answer = Future()
    answer.set_running_or_notify_cancel()
    return answer


def key_of(event: UsageEvent) -> Key:
    """What an event is known by."""
    return event.org_id, event.request_id


def receipt_of(event: UsageEvent, waiting: Waiting) -> Receipt:
    """What becomes of an event under whose id `waiting` waits; its salt is that of the entry to come."""
    fingerprint = event_fingerprint(event, waiting.salt).hex()
    if event == waiting.event:
        return Receipt(status="spooled", org_id=event.org_id, request_id=event.request_id, fingerprint=fingerprint)
    return Receipt(
        status="conflict",
        org_id=event.org_id,
        request_id=event.request_id,
        fingerprint=fingerprint,
        stored_fingerprint=event_fingerprint(waiting.event, waiting.salt).hex(),
        code="request_id_conflict",
        reason=f"request id {event.request_id!r} of {event.org_id!r} waits in the spool with other content",
    )
