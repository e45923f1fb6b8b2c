"""The short way of `POST /v1/events`, for single events from many connections at once.

Each turn of the event loop hands on all that came in it together:

    a request is complete ─► read and checked at once ─► gathered until the loop's turn ends
    the turn ends         ─► one `submit` for all of them (priced and encoded here, written by the journal's thread)
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from tallystick.api.access import EVENTS_SCOPE
from tallystick.api.event_answers import answer_one
from tallystick.api.event_schema import EVENTS_PATH
from tallystick.api.short_ways import Reply, failure_answer, plain_object
from tallystick.app.loop_inbox import LoopInbox
from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError
from tallystick.ledger.receipt import Receipt
from tallystick.usage.checks import sound_event
from tallystick.usage.event import UsageEvent


class Waiting(NamedTuple):
    """One caller who waits for an answer."""

    event: UsageEvent
    request_id: str
    reply: Reply


class SingleEvents:
    """The short way, for one event loop; see the module. Everything but `_done` runs in that loop's thread."""

    path = EVENTS_PATH
    scope = EVENTS_SCOPE
    events: int | None = 1

    def __init__(self, runtime: Runtime, inbox: LoopInbox) -> None:
        self.runtime = runtime
        self._inbox = inbox
        self._gathered: list[Waiting] = []

    def take(self, body: bytes, request_id: str, reply: Reply, org_id: str | None = None) -> bool:
        """See `ShortWay.take`."""
        event = self._read(body)
        if event is None or (org_id is not None and event.org_id != org_id):
            return False
        if not self._gathered:
            self._inbox.loop.call_soon(self._submit_gathered)
        self._gathered.append(Waiting(event, request_id, reply))
        return True

    def _read(self, body: bytes) -> UsageEvent | None:
        raw, runtime = plain_object(body), self.runtime
        return None if raw is None else sound_event(raw, now=runtime.clock(), known_meters=runtime.known_meters())

    def _submit_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        self._submit(gathered)

    def _submit(self, gathered: Sequence[Waiting]) -> None:
        try:
            future = self.runtime.submit([waiting.event for waiting in gathered])
        except Exception as error:
            self._refuse(gathered, error)
            return
        future.add_done_callback(partial(self._done, gathered))

    def _done(self, gathered: Sequence[Waiting], future: Future[list[Receipt]]) -> None:
        self._inbox.leave(partial(self._answer, gathered, future))

    def _answer(self, gathered: Sequence[Waiting], future: Future[list[Receipt]]) -> None:
        error = future.exception()
        if error is not None:
            self._refuse(gathered, error)
            return
        for waiting, receipt in zip(gathered, future.result(), strict=True):
            waiting.reply(answer_one(receipt, waiting.request_id))

    def _refuse(self, gathered: Sequence[Waiting], error: BaseException) -> None:
        if len(gathered) > 1 and not isinstance(error, TallyError):
            # Only one of them may be to blame, and chance has put them together.
            for waiting in gathered:
                self._submit([waiting])
            return
        for waiting in gathered:
            waiting.reply(failure_answer(error, waiting.request_id))
