"""Watching over the embedded server: when its postmaster is gone, it is started again, sooner or later."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from tallystick.core.errors import Unavailable

LOOK_SECONDS = 0.25
"""How often we look whether it runs: one small file is read, and one process asked for."""
PAUSE_SECONDS_MAX = 5.0
"""How long we wait at most between attempts to start what does not start, a full disk for instance."""

_log = logging.getLogger("tallystick.server")


class Watch:
    """A thread that looks after a server until `stop()`.

    Attributes:
        restarts: how often this process has started it again.
        error: why the last attempt failed; None when it runs, or no attempt was needed.
    """

    def __init__(self, is_running: Callable[[], bool], revive: Callable[[], bool]) -> None:
        self.restarts = 0
        self.error: Unavailable | None = None
        self._is_running = is_running
        self._revive = revive
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="tally-server-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more; when it is being started right now, that is waited for."""
        self._stopping.set()
        self._thread.join()

    def _look_after(self) -> None:
        pause = LOOK_SECONDS
        while not self._stopping.wait(pause):
            if self._is_running():
                self.error, pause = None, LOOK_SECONDS
                continue
            try:
                if self._revive():
                    self.restarts += 1
                    _log.warning("the embedded server was gone, and has been started again")
                self.error, pause = None, LOOK_SECONDS
            except Unavailable as error:
                if self.error is None or self.error.code != error.code:
                    _log.error("the embedded server is gone and cannot be started: %s", error.detail)
                self.error, pause = error, min(pause * 2, PAUSE_SECONDS_MAX)
