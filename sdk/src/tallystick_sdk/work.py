"""Work that was authorized and is under way: the usage that belongs to it, until it is settled."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from decimal import Decimal
from typing import Any, Final

from tallystick_sdk.requests import credits_text
from tallystick_sdk.results import Authorization, Settlement
from tallystick_sdk.tagging import tags

OUTCOMES: Final = ("success", "empty", "failure")
EVENTS_MAX: Final = 1000
"""How many events one settlement brings; what the work uses beyond them is recorded by itself."""
_GRACE_SECONDS: Final = 60.0


class Work:
    """Work under way. Say in it what became of it; record in it what it uses.

    Attributes:
        outcome: `success`, `empty` (it was done, and found nothing) or `failure`; the contract says which are charged.
        charge_credits: the most to charge, where it is not for the contract to say.
        authorization: the decision and the hold; None where the server could not be asked, and work is done all the
            same (`fail_open`).
        settlement: what was charged, once the work has ended; None while it is not known.
        tags: of the work.
    """

    def __init__(self, authorization: Authorization | None, tags: Mapping[str, Any]) -> None:
        self.authorization = authorization
        self.tags = dict(tags)
        self._outcome = "success"
        self._charge_credits: str | None = None
        self.settlement: Settlement | None = None
        self.is_open = True
        self.alone_from = 0.0
        if authorization is not None:
            life = authorization.hold.expires_at - authorization.entry.recorded_at
            # By this machine's clock: the server's may be another.
            self.alone_from = time.time() + life.total_seconds() + _GRACE_SECONDS
        self._lock = threading.Lock()
        self._events: list[Mapping[str, Any]] = []

    @property
    def hold_id(self) -> str | None:
        """The hold's id."""
        return self.authorization.hold_id if self.authorization is not None else None

    @property
    def outcome(self) -> str:
        """What became of it; setting anything else than the three raises `ValueError`."""
        return self._outcome

    @outcome.setter
    def outcome(self, outcome: str) -> None:
        if outcome not in OUTCOMES:
            raise ValueError(f"{outcome!r} is no outcome; they are {', '.join(OUTCOMES)}")
        self._outcome = outcome

    @property
    def charge_credits(self) -> str | None:
        """The most to charge; setting what is no amount raises `BadRequest`."""
        return self._charge_credits

    @charge_credits.setter
    def charge_credits(self, credits: Decimal | str | int | None) -> None:
        self._charge_credits = None if credits is None else credits_text(credits)

    def take(self, event: Mapping[str, Any]) -> bool:
        """Make a usage event part of the work; whether it is: not when the work has ended, or is another org's."""
        with self._lock:
            if not self.is_open or self.authorization is None or event["org_id"] != self.authorization.org_id:
                return False
            if len(self._events) >= EVENTS_MAX:
                return False
            self._events.append(event)
            return True

    def end(self) -> list[Mapping[str, Any]]:
        """No more usage comes; what came."""
        with self._lock:
            self.is_open = False
            return list(self._events)


_current: ContextVar[Work | None] = ContextVar("tallystick_work", default=None)


def current_work() -> Work | None:
    """The work that runs in this context."""
    return _current.get()


class Entered:
    """The context of the work; what is recorded in it is part of the work, and has its tags."""

    def __init__(self, work: Work) -> None:
        self._token = _current.set(work)
        self._tags = tags(**work.tags)
        self._tags.__enter__()

    def leave(self) -> None:
        """Back to the context before."""
        self._tags.__exit__(None, None, None)
        _current.reset(self._token)
