"""How long the writer waits for a server that is there and says nothing."""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

ANSWER_SECONDS_MAX = 20.0
"""For one answer. Longer than a frozen process can hold the heads of its orgs (10 s), and any group takes to write."""

_Result = TypeVar("_Result")


class ServerSilent(psycopg.OperationalError):
    """The server did not answer in time. Whether what was asked of it is done, now or later, is unknown."""


class PatientConnection(psycopg.Connection[Any]):
    """A connection that is closed when an answer takes longer than `ANSWER_SECONDS_MAX`, which raises `ServerSilent`.

    The kernel notices a machine that is gone, and the server a query that is too long; only a clock of our own notices
    a server that hangs: stopped, or waiting for a disk that never comes back.
    """

    def wait(self, gen: PQGen[_Result], interval: float = 0.1, timeout: float | None = None) -> _Result:
        """As psycopg's, for at most so long."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, ANSWER_SECONDS_MAX)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()
            raise ServerSilent(f"it has not answered for {ANSWER_SECONDS_MAX:g} seconds") from None
