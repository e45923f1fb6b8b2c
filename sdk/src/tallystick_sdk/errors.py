"""What can go wrong, with what the server says about it: a stable code, a sentence, and what to do now.

TallyError
├── Denied          the policy says no; `decision` says why
├── BadRequest      the request is wrong (400, 413, 415, 422)
├── Unauthorized    the key is missing, unknown, revoked or expired (401)
├── Forbidden       the key may not do that (403)
├── NotFound        there is no such thing (404)
├── Conflict        something else stands there already (409)
├── Unavailable     try again later (408, 429, 5xx, no connection, no answer in time)
└── UnexpectedAnswer  what answers is no Tallystick, or a much newer one
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tallystick_sdk.results import Decision, WalletChange


class TallyError(Exception):
    """Anything that the server refuses, or that keeps it from being asked.

    Attributes:
        code: stable, for programs to branch on; the server's documentation lists them.
        detail: what happened and why, for a person.
        next_step: what to do now, as a sentence; "" where nothing is known.
        status: the HTTP status; None when there was no answer.
        where: the member that is wrong, where one is.
        problems: several faults that were found in one pass, as the server gives them.
        request_id: of the HTTP request, as the server's log has it.
        retry_after_seconds: when it may be tried again, where the server says so.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        next_step: str = "",
        status: int | None = None,
        where: str | None = None,
        problems: tuple[Mapping[str, Any], ...] = (),
        request_id: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.next_step = next_step
        self.status = status
        self.where = where
        self.problems = problems
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        where = f" at {self.where}" if self.where else ""
        step = f"; {self.next_step}" if self.next_step else ""
        return f"{self.detail}{where}{step} [{self.code}]"


class Denied(TallyError):
    """The work may not be done: nothing was held, and nothing is charged.

    Attributes:
        decision: the whole answer: limits, budgets, the quote, and the next step as a program needs it.
        wallet: what the org has.
    """

    decision: Decision
    wallet: WalletChange | None = None


class BadRequest(TallyError):
    """The request is wrong, and stays so."""


class Unauthorized(TallyError):
    """The key is missing, unknown, revoked or expired."""


class Forbidden(TallyError):
    """The key may not do that, or not for that org."""


class NotFound(TallyError):
    """There is no such hold, org or address."""


class Conflict(TallyError):
    """Something else stands there: other content under the same id, or a hold that is resolved or expired."""


class Unavailable(TallyError):
    """The server cannot be reached, or is too busy; the same may be sent again."""


class UnexpectedAnswer(TallyError):
    """What was answered is not what this library can read."""
