"""What `record` gives back, and the counts of what became of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from tallystick_sdk.errors import TallyError


class Recording:
    """What was recorded: `wait()` or `await` it to know that it is on disk; nobody has to.

    Attributes:
        request_id: the event's id.
        refused: why it will not be sent, where that is known at once.
    """

    def __init__(self, request_id: str, refused: TallyError | None = None) -> None:
        self.request_id = request_id
        self.refused = refused
        self._stored = threading.Event()
        self.is_kept = False

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it is on disk; whether it is."""
        self._stored.wait(timeout_seconds)
        return self.is_kept

    def __await__(self) -> Generator[Any, None, bool]:
        return asyncio.to_thread(self.wait).__await__()

    def settle(self, *, is_kept: bool) -> None:
        """It is on disk, or it is known that it will not be."""
        self.is_kept = is_kept
        self._stored.set()

    def __repr__(self) -> str:
        return f"Recording({self.request_id!r}{', refused' if self.refused else ''})"


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What became of what was recorded by this process since it began.

    Attributes:
        recorded: given to the sender.
        sent: the server has it.
        refused: the server will never take it; it is kept, see `Tally.refused`.
        dropped: lost, because memory or the spool was full. Anything but 0 is usage that nobody will bill.
        waiting: in memory and in the spool, of all processes that share it.
        last_error: what keeps it from being sent at present.
    """

    recorded: int
    sent: int
    refused: int
    dropped: int
    waiting: int
    last_error: TallyError | None
