"""Ends of holds that are written to the ledger a moment later: on this machine's disk before their answers are given.

    put    ─► on disk, many with one flush ─► answered
    drain  ─► the ledger ─► taken out only when it has answered

A hold is resolved once, whoever offers its end and however often: what dies in between is offered again, and the ledger
knows it. Where the hold's life was over before, its usage is recorded all the same, and charged no credits.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from typing import NamedTuple

import msgspec

from tallystick.app.gateway_settlements import HOLD_IS_OVER, ID_IS_TAKEN, OfHold, hold_events, under_own_ids
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Conflict, TallyError, Unavailable
from tallystick.core.instants import format_instant
from tallystick.journal.settlement_file import SettlementFile
from tallystick.journal.steps import reached
from tallystick.journal.waiting_queue import QueueState, Refusal, WaitingRow
from tallystick.ledger.operations import Operation, Recorded, ReleaseHold, Settle, SettleEvent

LOOK_SECONDS = 0.5
"""How often a running process looks whether anything waits that another has left."""
_GROUP = 500
_PAUSE_SECONDS = 0.5

_log = logging.getLogger("tallystick.settlements")


class QueuedEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a hold as it stands in the file."""

    org_id: str
    request_id: str
    salt: bytes
    of_hold: OfHold
    settle: Settle | None = None
    release: ReleaseHold | None = None
    events: tuple[SettleEvent, ...] = ()

    def operation(self) -> Operation:
        """What is written to the ledger."""
        request = self.settle or self.release
        assert request is not None  # noqa: S101 - it is the end of a hold
        return Operation(
            org_id=self.org_id,
            kind="settlement" if self.settle is not None else "release",
            request_id=self.request_id,
            request=request,
            salt=self.salt,
            events=self.events,
        )


_encode = msgspec.json.Encoder().encode
decode_end = msgspec.json.Decoder(QueuedEnd).decode
"""A row's content as the end of a hold that it is."""


class _Task(NamedTuple):
    org_id: str
    hold_seq: int
    content: bytes
    answer: Future[None]


class SettlementQueue:
    """Takes ends of holds for all callers of a process, and drains what waits, its own and what others have left."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._tasks: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._waits = threading.Event()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, name="tally-settlements", daemon=True),
            threading.Thread(target=self._drain_on, name="tally-settlements-drain", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def put(self, operation: Operation, of_hold: OfHold) -> Future[None]:
        """Have the end of a hold written later; the future is done once it is on disk.

        Raises:
            Unavailable: as the future's error: `storage_full`, `spool_unusable`, `journal_closed`.
        """
        request = operation.request
        assert isinstance(request, Settle | ReleaseHold)  # noqa: S101 - what ends a hold
        end = QueuedEnd(
            org_id=operation.org_id,
            request_id=operation.request_id,
            salt=operation.salt,
            of_hold=of_hold,
            settle=request if isinstance(request, Settle) else None,
            release=request if isinstance(request, ReleaseHold) else None,
            events=operation.events,
        )
        answer: Future[None] = Future()
        answer.set_running_or_notify_cancel()
        with self._changed:
            if self._stopping.is_set():
                answer.set_exception(
                    Unavailable("journal_closed", "this process is stopping", next_step="send it to the next one")
                )
                return answer
            self._tasks.append(_Task(operation.org_id, request.hold_seq, _encode(end), answer))
            self._changed.notify()
        return answer

    def close(self) -> None:
        """Put on disk what was taken, and stop; what waits is drained by the next process."""
        with self._changed:
            self._stopping.set()
            self._changed.notify()
        self._waits.set()
        for thread in self._threads:
            thread.join()

    # ── to the disk ─────────────────────────────────────────────────────────────────────────────

    def _keep(self) -> None:
        with closing(self._open()) as file:
            while group := self._next_group():
                try:
                    file.add([task[:3] for task in group], format_instant(self._runtime.clock()))
                except TallyError as error:
                    for task in group:
                        task.answer.set_exception(error)
                else:
                    reached("settlements.queued")
                    self._waits.set()
                    for task in group:
                        task.answer.set_result(None)

    def _next_group(self) -> list[_Task]:
        with self._changed:
            while not self._tasks and not self._stopping.is_set():
                self._changed.wait()
            return [self._tasks.popleft() for _ in range(min(len(self._tasks), _GROUP))]

    # ── to the ledger ───────────────────────────────────────────────────────────────────────────

    def _drain_on(self) -> None:
        trouble = ""
        with closing(self._open()) as file:
            while not self._stopping.is_set():
                self._waits.wait(LOOK_SECONDS)
                self._waits.clear()
                if self._stopping.is_set() or not file.may_hold_any():
                    continue
                try:
                    drain_settlements(self._runtime, file, self._stopping.is_set)
                    trouble = ""
                except TallyError as error:
                    if error.code != trouble:
                        _log.warning("settlements wait on disk: %s", error.detail)
                    trouble = error.code
                    self._stopping.wait(_PAUSE_SECONDS)
                except Exception as error:
                    if repr(error) != trouble:
                        _log.exception("settlements wait on disk")
                    trouble = repr(error)
                    self._stopping.wait(_PAUSE_SECONDS)

    def _open(self) -> SettlementFile:
        return SettlementFile(self._runtime.settings.data_dir)


def drain_settlements(
    runtime: Runtime, file: SettlementFile, stopping: Callable[[], bool] = lambda: False
) -> tuple[int, int]:
    """Write what waits to the ledger, until nothing does; how many were written, and how many refused.

    Raises:
        Unavailable: the ledger cannot be reached, or a disk is full; what was not written still waits.
    """
    written = refused = 0
    with file.drain_lock() as ours:
        while ours and not stopping() and (batch := file.waiting_rows(_GROUP)):
            reached("settlements.read")
            done, refusals = _offer(runtime, batch)
            reached("settlements.written")
            file.take_out(done, refusals, format_instant(runtime.clock()))
            for one, code, reason in refusals:
                _log.error("the ledger refused the end of hold %s of %s (%s): %s", one.name, one.org_id, code, reason)
            written += len(done)
            refused += len(refusals)
        if ours:
            file.tidy()
    return written, refused


def _offer(runtime: Runtime, batch: list[WaitingRow]) -> tuple[list[WaitingRow], list[Refusal]]:
    """Offer a batch to the ledger all at once, so that it is one group there."""
    ends = [decode_end(one.content) for one in batch]
    futures = [_submit(runtime, end) for end in ends]
    done: list[WaitingRow] = []
    refusals: list[Refusal] = []
    for one, end, future in zip(batch, ends, futures, strict=True):
        try:
            _written(runtime, end, future)
        except Unavailable:
            raise
        except TallyError as error:
            refusals.append((one, error.code, error.detail))
        else:
            done.append(one)
    return done, refusals


def _submit(runtime: Runtime, end: QueuedEnd) -> Future[Recorded]:
    return runtime.operations.submit(end.operation())


def _written(runtime: Runtime, end: QueuedEnd, future: Future[Recorded]) -> None:
    """Wait until the end of a hold is in the ledger.

    Raises:
        TallyError: it is refused, or the ledger is away.
    """
    try:
        try:
            future.result()
        except Conflict as error:
            if error.code not in ID_IS_TAKEN or not end.events:
                raise
            runtime.operations.submit(under_own_ids(end.operation())).result()
    except Conflict as error:
        if error.code not in HOLD_IS_OVER:
            raise
        if end.events:
            _record_unsettled(runtime, end)


def _record_unsettled(runtime: Runtime, end: QueuedEnd) -> None:
    """Record the usage of a hold that is over: it is costed, and charged no credits."""
    receipts = runtime.submit(hold_events(end.of_hold, end.operation())).result()
    bad = next((one for one in receipts if one.status not in ("accepted", "duplicate", "spooled")), None)
    if bad is not None:
        raise Conflict(bad.code or bad.status, bad.reason or "", next_step="compare the two")


def queue_state(runtime: Runtime) -> QueueState:
    """What waits in the queue of this data directory.

    Raises:
        Unavailable: `spool_unusable`.
    """
    with closing(SettlementFile(runtime.settings.data_dir)) as file:
        return file.state()
