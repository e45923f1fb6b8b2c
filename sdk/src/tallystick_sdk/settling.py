"""The two ends of billable work: its hold before, its settlement after, and what becomes of it when nobody answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from tallystick_sdk import wire
from tallystick_sdk.async_client import AsyncTally
from tallystick_sdk.client import Tally
from tallystick_sdk.errors import TallyError, Unauthorized, Unavailable
from tallystick_sdk.requests import authorize_body, release_body, settle_body
from tallystick_sdk.spool import Waiting
from tallystick_sdk.work import Work

if TYPE_CHECKING:
    from tallystick_sdk.base import BaseTally

log: Final = logging.getLogger("tallystick_sdk")

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
    if ending.body is None:
        return
    try:
        if ending.kind == "release":
            tally.release(ending.body["hold_id"], ending.body.get("reason"), org_id=ending.body["org_id"])
        else:
            work.settlement = tally.settle(
                ending.body["hold_id"], ending.body["outcome"], ending.events,
                charge_credits=ending.body.get("charge_credits"), org_id=ending.body["org_id"],
            )  # fmt: skip
    except TallyError as refused:
        ending.refused(refused)
    else:
        ending.done()


async def end_async(tally: BaseTally, work: Work, error: BaseException | None) -> None:
    """As `end`."""
    if not isinstance(tally, AsyncTally):
        return await asyncio.to_thread(end, _blocking(tally), work, error)
    ending = _Ending(tally, work, error)
    if ending.body is None:
        return None
    try:
        if ending.kind == "release":
            await tally.release(ending.body["hold_id"], ending.body.get("reason"), org_id=ending.body["org_id"])
        else:
            work.settlement = await tally.settle(
                ending.body["hold_id"], ending.body["outcome"], ending.events,
                charge_credits=ending.body.get("charge_credits"), org_id=ending.body["org_id"],
            )  # fmt: skip
    except TallyError as refused:
        ending.refused(refused)
    else:
        ending.done()
    return None


class _Ending:
    """How a piece of work ends: settled, or released when it failed and used nothing."""

    def __init__(self, tally: BaseTally, work: Work, error: BaseException | None) -> None:
        self._tally = tally
        self.events = work.end()
        self.body: dict[str, Any] | None = None
        self.kind = "settle"
        if work.authorization is None:
            return
        has_failed = error is not None and not isinstance(error, GeneratorExit)
        org_id, hold_id = work.authorization.org_id, work.authorization.hold_id
        if has_failed and not self.events:
            self.kind = "release"
            self.body = release_body(org_id, hold_id, f"the work ended with {type(error).__name__}")
        else:
            outcome = "failure" if has_failed else work.outcome
            self.body = settle_body(org_id, hold_id, outcome, self.events, None if has_failed else work.charge_credits)

    def done(self) -> None:
        """The server has it."""
        if self.events:
            self._tally.sender.settled(str(self.body and self.body["org_id"]), self._ids())

    def refused(self, error: TallyError) -> None:
        """It is sent later when that may help; else the usage is recorded by itself, and nothing is charged."""
        assert self.body is not None  # noqa: S101  there was something to refuse
        org_id, hold_id = self.body["org_id"], self.body["hold_id"]
        if isinstance(error, (Unavailable, Unauthorized)):
            log.warning("the work of %s is %sd later: %s", hold_id, self.kind, error)
            kind: Any = self.kind
            self._tally.sender.offer(Waiting(kind, org_id, hold_id, wire.encode(self.body)))
            return
        log.error("the work of %s could not be %sd, and is not charged: %s", hold_id, self.kind, error)
        self._tally.sender.freed(org_id, self._ids())

    def _ids(self) -> list[str]:
        return [str(event["request_id"]) for event in self.events]


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
