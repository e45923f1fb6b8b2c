"""A reserve of disk: who is refused while some room is left, is refused without harm.

PostgreSQL survives a full disk, but it falls over and recovers first. So events are refused a little before that.
"""

from __future__ import annotations

import time
from pathlib import Path

from tallystick.journal.server_folder import free_bytes, storage_full

RESERVE_BYTES = 48 << 20
"""Three segments of PostgreSQL's log: room for what is under way, and for a shutdown in good order."""
_LOOK_SECONDS = 0.2


class DiskGuard:
    """Looks at the disk that the ledger is on, a few times a second at most."""

    def __init__(self, folder: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._looked_at = -_LOOK_SECONDS
        self._is_full = False

    def check(self) -> None:
        """Pass while there is room.

        Raises:
            Unavailable: `storage_full`.
        """
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._is_full = free_bytes(self._folder) < self._reserve_bytes
        if self._is_full:
            raise storage_full(self._folder)
