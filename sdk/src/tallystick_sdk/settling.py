"""The two ends of billable work: its hold before, its settlement after, and what becomes of it when nobody answers."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from tallystick_sdk import wire
from tallystick_sdk.async_client import AsyncTally
from tallystick_sdk.client import Tally
from tallystick_sdk.errors import TallyError, Unauthorized, Unavailable
from tallystick_sdk.requests import authorize_body, release_body, settle_body
from tallystick_sdk.results import Authorization
from tallystick_sdk.spool import Kind, Waiting
from tallystick_sdk.work import Work

if TYPE_CHECKING:
    from tallystick_sdk.base import BaseTally

log: Final = logging.getLogger("tallystick_sdk")

_EVENT: Final = re.compile(r"events\.(\d+)(?:\.|$)")
_OF_REQUEST: Final = ("request_id", "model", "meters", "provider")


def begin(tally: Tally, members: Mapping[str, Any], *, fail_open: bool) -> Work:
    """Ask for work and hold what it takes.

    Raises:
        Denied: it may not be done.
        TallyError: it cannot be asked for; with `fail_open` not for a server that cannot be reached.
    """
    body = authorize_body(members)
    try:
        return _work(tally.authorize(**body), members)
    except Unavailable as error:
        return _unasked(members, error, fail_open=fail_open)


async def begin_async(tally: BaseTally, members: Mapping[str, Any], *, fail_open: bool) -> Work:
    """As `begin`; a blocking client is asked in a thread."""
    body = authorize_body(members)
    try:
        if isinstance(tally, AsyncTally):
            return _work(await tally.authorize(**body), members)
        return await asyncio.to_thread(begin, _blocking(tally), body, fail_open=fail_open)
    except Unavailable as error:
        return _unasked(members, error, fail_open=fail_open)


def end(tally: Tally, work: Work, error: BaseException | None) -> None:
    """Settle work by its outcome, or give back what was held. It raises nothing: the work is done.

    Args:
        error: what ended it early; its reader's leaving a generator is no failure.
    """
    ending = _Ending(tally, work, error)
    while ending.body is not None:
        try:
            if ending.kind == "release":
                tally.release(*ending.of_release())
            else:
                work.settlement = tally.settle(*ending.of_settlement(), charge_credits=ending.charge_credits)
        except TallyError as refused:
            ending.refused(refused)
        else:
            ending.done()


async def end_async(tally: BaseTally, work: Work, error: BaseException | None) -> None:
    """As `end`."""
    if not isinstance(tally, AsyncTally):
        return await asyncio.to_thread(end, _blocking(tally), work, error)
    ending = _Ending(tally, work, error)
    while ending.body is not None:
        try:
            if ending.kind == "release":
                await tally.release(*ending.of_release())
            else:
                work.settlement = await tally.settle(*ending.of_settlement(), charge_credits=ending.charge_credits)
        except TallyError as refused:
            ending.refused(refused)
        else:
            ending.done()
    return None


class _Ending:
    """How a piece of work ends: settled, or released when it failed and used nothing.

    Attributes:
        kind: `settle` or `release`.
        body: what is to be asked of the server; None once there is nothing left to ask.
    """

    def __init__(self, tally: BaseTally, work: Work, error: BaseException | None) -> None:
        self._tally = tally
        self._authorization = work.authorization
        self._events = work.end()
        self.body: dict[str, Any] | None = None
        self.charge_credits: str | None = None
        self.kind: Kind = "settle"
        if work.authorization is None:
            return
        has_failed = error is not None and not isinstance(error, GeneratorExit)
        org_id, hold_id = work.authorization.org_id, work.authorization.hold_id
        if has_failed and not self._events:
            self.kind = "release"
            self.body = release_body(org_id, hold_id, f"the work ended with {type(error).__name__}")
        else:
            outcome = "failure" if has_failed else work.outcome
            self.charge_credits = None if has_failed else work.charge_credits
            self.body = settle_body(org_id, hold_id, outcome, self._events, self.charge_credits)

    def of_release(self) -> tuple[Authorization, str | None]:
        """What `release` is called with."""
        return self._held(), self._body().get("reason")

    def of_settlement(self) -> tuple[Authorization, str, list[Mapping[str, Any]]]:
        """What `settle` is called with."""
        return self._held(), self._body()["outcome"], self._events

    def done(self) -> None:
        """The server has it."""
        self._tally.sender.settled(self._body()["org_id"], self._ids(self._events))
        self.body = None

    def refused(self, error: TallyError) -> None:
        """It is sent later when that may help, or at once without the usage that is wrong in it; else the usage is
        recorded by itself, and nothing is charged.
        """
        body = self._body()
        org_id, hold_id = body["org_id"], body["hold_id"]
        if self._leaves_out(error):
            return
        self.body = None
        if isinstance(error, (Unavailable, Unauthorized)):
            log.warning("the work of %s is %sd later: %s", hold_id, self.kind, error)
            self._tally.sender.offer(Waiting(self.kind, org_id, hold_id, wire.encode(body)))
            return
        log.error("the work of %s could not be %sd, and is not charged: %s", hold_id, self.kind, error)
        self._tally.sender.freed(org_id, self._ids(self._events))

    def _leaves_out(self, error: TallyError) -> bool:
        """Whether the error is about some of the events: the work is charged without them, and they are sent by
        themselves, where what is wrong with them is told.
        """
        wheres = [error.where, *(problem.get("where") for problem in error.problems)]
        found = (_EVENT.match(where) for where in wheres if isinstance(where, str))
        wrong = {int(match[1]) for match in found if match is not None}
        if error.where == "events":  # one of them stands in the ledger otherwise, and is named
            wrong = {place for place, event in enumerate(self._events) if repr(event["request_id"]) in error.detail}
        if self.kind != "settle" or not wrong or max(wrong) >= len(self._events):
            return False
        body = self._body()
        log.error("the work of %s is settled without usage that is refused: %s", body["hold_id"], error)
        self._tally.sender.freed(body["org_id"], self._ids([self._events[place] for place in wrong]))
        self._events = [event for place, event in enumerate(self._events) if place not in wrong]
        body["events"] = [event for place, event in enumerate(body["events"]) if place not in wrong]
        return True

    def _held(self) -> Authorization:
        assert self._authorization is not None  # noqa: S101  without a hold there is nothing to end
        return self._authorization

    def _body(self) -> dict[str, Any]:
        assert self.body is not None  # noqa: S101  it is asked for while there is something to ask
        return self.body

    @staticmethod
    def _ids(events: Iterable[Mapping[str, Any]]) -> list[str]:
        return [str(event["request_id"]) for event in events]


def _work(authorization: Any, members: Mapping[str, Any]) -> Work:
    return Work(authorization, {name: value for name, value in members.items() if name not in _OF_REQUEST})


def _unasked(members: Mapping[str, Any], error: Unavailable, *, fail_open: bool) -> Work:
    if not fail_open:
        raise error
    log.error("work is done that nobody could be asked about, and it is not charged: %s", error)
    return _work(None, members)


def _blocking(tally: BaseTally) -> Tally:
    assert isinstance(tally, Tally)  # noqa: S101  there are two kinds
    return tally
