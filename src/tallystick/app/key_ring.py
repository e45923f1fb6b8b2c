"""The keys that this process knows: found in memory, told of every change by the database as it is committed.

    find ─► in memory, while the database's word is heard ─────────────► the key
         └► asked of the database, and remembered ─────────────────────► the key

A thread listens (LISTEN) on a connection of its own, and asks the server twice a second whether it is still heard.
While it is not, what is remembered is not trusted: every lookup asks the database. That nobody can be listened to does
not mean that the database is away: other connections to it may do, and only when they do not either, a process that
serves all the same goes by what it knew last. Whatever happens to any key empties
the memory, so that a key which was revoked is refused by the next request, in every process.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

import psycopg
import structlog

from tallystick.core.errors import Unavailable
from tallystick.journal.database import Connection, Database
from tallystick.journal.keys import key_of_token, listen
from tallystick.journal.roles import OPERATOR
from tallystick.ledger.api_key import TOKEN_CHARS, Key, is_token, key_unknown

HEARD_SECONDS_MAX = 2.5
"""How long after the server's last sign of life what is remembered is still trusted."""
_LOOK_SECONDS = 0.5
_PAUSE_SECONDS = 0.5
TRUSTED_SECONDS = 30.0
"""How long a key is remembered at most, should word of a change ever be lost."""
UNKNOWN_MAX = 4096
"""How many tokens without a key are remembered as such, until anything happens to any key."""

_log = structlog.get_logger("tallystick.keys")


class Heard(NamedTuple):
    """How a ring hears of changes.

    Attributes:
        listens: it was started, and has had the time to begin.
        is_heard: what is remembered is trusted.
        is_away: the database cannot be reached over other connections either.
        error: what ended the listening last, or keeps it from beginning; None while it goes on.
        known: how many keys are remembered.
        changes: how often something may have happened to a key.
    """

    listens: bool
    is_heard: bool
    is_away: bool
    error: str | None
    known: int
    changes: int


class KeyRing:
    """See the module. `known` and `find` may be called from any thread.

    Attributes:
        changes: rises whenever something may have happened to a key.
    """

    def __init__(
        self,
        database: Database,
        *,
        serves_while_away: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is connected before the first lookup, or `start`.

        Args:
            database: where the keys are.
            serves_while_away: take keys as they were known last while the database cannot be reached: nobody can
                revoke one then. Otherwise lookups fail.
            monotonic: seconds that only rise.
        """
        self._database = database
        self._serves_while_away = serves_while_away
        self._monotonic = monotonic
        self._known: dict[bytes, tuple[Key, float]] = {}  # until when it is trusted
        self._unknown: dict[bytes, float] = {}
        self.changes = 0
        self._heard_at = float("-inf")
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_away = False
        self._error: str | None = None
        self._started_at = float("inf")
        self._stops: socket.socket
        self._stop: socket.socket

    # ── lookups ─────────────────────────────────────────────────────────────────────────────────

    @property
    def is_heard(self) -> bool:
        """Whether what is remembered can be trusted: the database would have told of any change."""
        return self._monotonic() - self._heard_at < HEARD_SECONDS_MAX

    def heard(self) -> Heard:
        """How it hears of changes; it waits for nothing."""
        listens = self._monotonic() - self._started_at >= HEARD_SECONDS_MAX
        return Heard(listens, self.is_heard, self._is_away, self._error, len(self._known), self.changes)

    def known(self, token: str, now: datetime) -> Key | None:
        """The key of a token, if that is in memory, trusted, and taken at that instant; it waits for nothing."""
        key = self._remembered(sha256(token.encode("utf-8", "replace")).digest())
        return key if key is not None and key.is_taken(now) else None

    def _remembered(self, digest: bytes) -> Key | None:
        found = self._known.get(digest)
        if found is None:
            return None
        key, trusted_until = found
        at = self._monotonic()
        return key if at - self._heard_at < HEARD_SECONDS_MAX and at < trusted_until else None

    def find(self, token: str, now: datetime) -> Key:
        """The key of a token; it may wait for the database.

        Args:
            token: what the caller has shown.
            now: the present instant.

        Raises:
            Unauthorized: `key_unknown`, `key_revoked`, `key_expired`.
            Unavailable: `database_unreachable`, `database_busy`.
        """
        if len(token) != TOKEN_CHARS or not is_token(token):
            raise key_unknown()
        digest = sha256(token.encode()).digest()
        key = self._remembered(digest)
        if key is None:
            if self.is_heard and self._monotonic() < self._unknown.get(digest, 0.0):
                raise key_unknown()
            key = self._ask(digest)
        if key is None:
            raise key_unknown()
        key.require_taken(now)
        return key

    def _ask(self, digest: bytes) -> Key | None:
        self.start()
        last = self._known.get(digest) if self._serves_while_away else None
        if self._is_away and last is not None:
            return last[0]  # who listens asks for the database all the time: nobody else need wait for it
        changes, asked_at = self.changes, self._monotonic()
        try:
            with self._database.operator() as connection:
                key = key_of_token(connection, digest)
        except Unavailable as error:
            if last is not None and error.code == "database_unreachable":
                return last[0]
            raise
        with self._lock:
            if changes == self.changes:  # else what was read may be older than what was told meanwhile
                if key is not None:
                    self._known[digest] = key, asked_at + TRUSTED_SECONDS
                else:
                    if len(self._unknown) >= UNKNOWN_MAX:
                        self._unknown.clear()
                    self._unknown[digest] = asked_at + TRUSTED_SECONDS
        return key

    # ── listening ───────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Listen from now on; again changes nothing."""
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                self._stops, self._stop = socket.socketpair()  # at the close of one, who waits for the other wakes
                self._started_at = self._monotonic()
                self._thread = threading.Thread(target=self._listen, name="tally-keys", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop listening; what is remembered is not trusted any more."""
        with self._lock:
            self._stopping.set()
        if self._thread is not None:
            self._stop.close()
            self._thread.join()
            self._stops.close()
        self._heard_at = float("-inf")

    def forget(self) -> None:
        """Something happened to some key: ask the database for each when it is needed next."""
        with self._lock:
            self.changes += 1
            self._known = {}
            self._unknown = {}

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._database.connect(OPERATOR) as connection:
                    self._listen_on(connection)
            except (psycopg.Error, OSError) as error:
                self._heard_at = float("-inf")  # the next change is told to nobody
                if self._error is None:
                    _log.warning("keys_not_heard", detail=" ".join(str(error).split()))
                self._error = " ".join(str(error).split())
                self._is_away = self._serves_while_away and not self._answers()
                self._stopping.wait(_PAUSE_SECONDS)

    def _answers(self) -> bool:
        """Whether the database can be asked, although nobody can listen to it: it may only have no connection to spare
        for that, or have ended the one there was.
        """
        try:
            with self._database.operator() as connection:
                connection.execute("select 1")
        except Unavailable as error:
            return error.code != "database_unreachable"
        except psycopg.Error:
            return True
        return True

    def _listen_on(self, connection: Connection) -> None:
        connection.autocommit = True
        listen(connection)
        self.forget()  # what happened before was told to nobody
        self._is_away, self._error = False, None
        with selectors.DefaultSelector() as waiting:
            waiting.register(connection.fileno(), selectors.EVENT_READ)
            waiting.register(self._stops, selectors.EVENT_READ)
            while not self._stopping.is_set():
                asked_at = self._monotonic()
                connection.execute("select 1")  # what was told before its answer is there with it
                for _ in connection.notifies(timeout=0):
                    self.forget()
                self._heard_at = asked_at
                waiting.select(_LOOK_SECONDS)
                for _ in connection.notifies(timeout=0):
                    self.forget()
