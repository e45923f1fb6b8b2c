"""Lookups of keys for an event loop: from memory at once, from the database in a thread, a few at a time."""

from __future__ import annotations

from typing import Final

import anyio
import anyio.to_thread

from tallystick.app.runtime import Runtime
from tallystick.ledger.api_key import Key, is_token, key_unknown

LOOKUP_THREADS: Final = 4
"""How many lookups may wait for the database at once: who guesses tokens keeps nobody else from it."""


class KeyLookup:
    """One for all that a loop serves; see the module."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._limiter: anyio.CapacityLimiter | None = None  # of the loop that asks first

    async def find(self, token: str) -> Key:
        """The key of what was shown, which is taken now.

        Raises:
            Unauthorized: `key_unknown`, `key_revoked`, `key_expired`.
            Unavailable: the key is not in memory, and the database cannot be asked.
        """
        keys, now = self._runtime.keys, self._runtime.clock()
        key = keys.known(token, now)
        if key is not None:
            return key
        if not is_token(token):
            raise key_unknown()
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(LOOKUP_THREADS)
        return await anyio.to_thread.run_sync(keys.find, token, now, limiter=self._limiter)
