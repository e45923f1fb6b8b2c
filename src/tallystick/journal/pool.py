"""A few connections of one role, opened when they are first needed and used again.

Not psycopg_pool: there, a caller waits out the pool's whole timeout when the server refuses connections, and then
learns that the pool had none, but not why. Here it is told at once, in the server's own words.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from tallystick.core.errors import Unavailable
from tallystick.journal.migrate import unreachable

Connection = psycopg.Connection[Any]


class Pool:
    """At most `connections_max` connections at a time; `transaction()` lends one for one transaction."""

    def __init__(
        self, connect: Callable[[], Connection], *, connections_max: int, wait_seconds_max: float = 30
    ) -> None:
        self._connect = connect
        self._wait_seconds_max = wait_seconds_max
        self._free = threading.BoundedSemaphore(connections_max)
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def transaction(self, opening: str) -> Iterator[Connection]:
        """A connection in a transaction that began with the statements `opening`; committed in the end, or rolled back.

        `opening` is sent to a connection that lay idle, too: whether it still lives shows there, where another can
        take its place. It must not depend on what the session was before.

        Raises:
            Unavailable: `database_busy`, when all connections are at work for longer than anybody should wait;
                `database_unreachable`, when the pool is closed.
            psycopg.Error: whatever connecting, `opening` or the commit meets.
        """
        if not self._free.acquire(timeout=self._wait_seconds_max):
            raise Unavailable(
                "database_busy",
                f"every connection to the database was at work for {self._wait_seconds_max:g} seconds",
                next_step="send the same again in a moment: nothing is counted twice",
            )
        try:
            connection = self._take(opening)
            try:
                yield connection
                connection.commit()
            except BaseException:
                _roll_back(connection)
                raise
            finally:
                self._give_back(connection)
        finally:
            self._free.release()

    def close(self) -> None:
        """Close what is idle, and what is at work as soon as it is given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self, opening: str) -> Connection:
        while (connection := self._pop()) is not None:
            try:
                connection.execute(opening.encode())
            except psycopg.OperationalError:  # the server went away meanwhile; perhaps it is back
                connection.close()
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        connection = self._connect()
        try:
            connection.execute(opening.encode())
        except BaseException:
            connection.close()
            raise
        return connection

    def _pop(self) -> Connection | None:
        with self._lock:
            if self._closed:
                raise unreachable(RuntimeError("it is closed"))
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: Connection) -> None:
        idle = not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE
        if idle and not connection.autocommit:
            with self._lock:
                if not self._closed:
                    self._idle.append(connection)
                    return
        connection.close()


def _roll_back(connection: Connection) -> None:
    try:
        connection.rollback()
    except psycopg.Error:  # what went wrong first is what the caller is told
        connection.close()
