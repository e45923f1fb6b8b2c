"""The hold before a call and what ends it after: awaited on the loop, written by the journal's thread.

A call's hold always ends: it is settled or released, or, should this process die, its life does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple

import anyio.to_thread
import structlog

from tallystick.app.gateway_calls import ATTEMPTS_MAX, Call, check_next_attempt, hold_operation, is_own, submit
from tallystick.app.gateway_settlements import (
    HOLD_IS_OVER,
    ID_IS_TAKEN,
    CallFigures,
    Used,
    figures_of,
    of_hold,
    queued_figures,
    record_unsettled,
    release_operation,
    settle_operation,
    under_own_ids,
)
from tallystick.app.loop_inbox import LoopInbox
from tallystick.app.runtime import Runtime
from tallystick.app.settlement_queue import SettlementQueue
from tallystick.core.errors import BadInput, Conflict, TallyError, Unavailable
from tallystick.ledger.operations import Denied, Operation, Recorded

_PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0)
"""Between attempts to write what ends a hold while the ledger cannot be reached."""

_log = structlog.get_logger("tallystick.gateway")


class Hold(NamedTuple):
    """An open hold, and the call that it is for."""

    call: Call
    recorded: Recorded


class Denial(NamedTuple):
    """Why a call may not be made."""

    recorded: Recorded
    result: Denied


class Charges:
    """All holds of one event loop."""

    def __init__(self, runtime: Runtime, inbox: LoopInbox, queue: SettlementQueue) -> None:
        self._runtime = runtime
        self._queue = queue
        self._inbox = inbox
        self._under_way: set[asyncio.Task[Any]] = set()

    async def begin(self, call: Call) -> Hold | Denial:
        """Ask whether a call may be made, and hold the most that it may take.

        Raises:
            BadInput, Problems: what is wrong with the request.
            Conflict: `request_in_flight`, `request_already_charged`, `request_id_conflict`.
            Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`.
        """
        for attempt in range(1, ATTEMPTS_MAX + 1):
            operation = hold_operation(self._runtime, call, attempt)
            recorded = await self._write(operation)
            if isinstance(recorded.result, Denied):
                return Denial(recorded, recorded.result)
            if is_own(operation, recorded):
                return Hold(call, recorded)
            await anyio.to_thread.run_sync(check_next_attempt, self._runtime, recorded)
        raise Conflict(
            "too_many_attempts",
            f"request {call.request_id} was attempted {ATTEMPTS_MAX} times, and none succeeded",
            next_step="send it as a new request, under another x-tally-request-id",
            where="x-tally-request-id",
        )

    async def settle(self, hold: Hold, used: Used, *, later: bool = False) -> CallFigures:
        """End a hold with what its call has used; it is in the ledger when this returns, or durably queued.

        Args:
            later: queue it, whether the ledger is there or not.

        Raises:
            TallyError: it could neither be written nor queued.
        """
        runtime, held = self._runtime, hold.recorded
        try:
            operation = settle_operation(runtime, held, used)
        except BadInput as error:  # figures or names of the provider's that no event may have
            _log.warning("usage_not_recorded_as_stated", request_id=held.request_id, **error.as_dict())
            operation = settle_operation(runtime, held, used.without_names())
        if later:
            return await self._queue_end(hold, operation)
        try:
            return figures_of(held, await self._settled(operation))
        except Unavailable as error:
            _log.warning("settlement_queued", request_id=held.request_id, **error.as_dict())
            return await self._queue_end(hold, operation)
        except Conflict as error:
            if error.code not in HOLD_IS_OVER:
                raise
            _log.warning("call_outlived_its_hold", request_id=held.request_id, org_id=held.org_id, code=error.code)
            return await self._inbox.wait_for(record_unsettled(runtime, hold.call, held, operation))

    async def _settled(self, operation: Operation) -> Recorded:
        try:
            return await self._write_surely(operation)
        except Conflict as error:
            if error.code not in ID_IS_TAKEN:
                raise
        return await self._write_surely(under_own_ids(operation))

    async def release(self, hold: Hold, reason: str) -> CallFigures:
        """Give a hold back: nothing was sent to a provider.

        Raises:
            TallyError: it could not be written.
        """
        operation = release_operation(self._runtime, hold.recorded, reason)
        try:
            return figures_of(hold.recorded, await self._write_surely(operation))
        except Unavailable as error:
            _log.warning("release_queued", request_id=hold.recorded.request_id, **error.as_dict())
            return await self._queue_end(hold, operation)

    async def _queue_end(self, hold: Hold, operation: Operation) -> CallFigures:
        await self._inbox.wait_for(self._queue.put(operation, of_hold(hold.call)))
        return queued_figures(hold.recorded)

    def in_the_background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do what ends a hold although nobody waits for it any more; `finish` waits for all of it."""
        task = asyncio.create_task(_logged(work))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def finish(self) -> None:
        """Wait for what is done in the background."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _write(self, operation: Operation) -> Recorded:
        return await self._inbox.wait_for(submit(self._runtime, operation))

    async def _write_surely(self, operation: Operation) -> Recorded:
        """Write what ends a hold, trying again for a while: the same again is the same operation."""
        for pause in _PAUSES_SECONDS:
            try:
                return await self._write(operation)
            except Unavailable as error:
                if error.code != "journal_busy":
                    raise  # it is queued at once: who waits for an answer is not to wait for a database
                await asyncio.sleep(pause)
        return await self._write(operation)


async def _logged(work: Coroutine[Any, Any, Any]) -> None:
    try:
        await work
    except TallyError as error:
        _log.error("hold_not_ended", **error.as_dict())
    except Exception:
        _log.exception("hold_not_ended")
