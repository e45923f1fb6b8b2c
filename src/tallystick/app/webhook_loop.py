"""Beside a running server: webhooks are sent as soon as they are due, and what is old of their log is forgotten.

Any number of these may run, in one process or in many: each delivery is claimed by one of them.
"""

from __future__ import annotations

import logging
import threading
import time

from tallystick.app.jobs import Recorder, sentence_of
from tallystick.app.runtime import Runtime
from tallystick.app.webhook_courier import Courier
from tallystick.app.webhook_log import forget_old
from tallystick.core.errors import TallyError

FORGET_SECONDS = 3600
"""How often it looks for what is old."""
_STOP_SECONDS = 3
_log = logging.getLogger("tallystick.webhooks")


class WebhookLoop:
    """A thread that has webhooks sent, from `start()` to `stop()`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._seconds = runtime.settings.webhook_seconds
        self._courier = Courier(runtime)
        self._stopping = threading.Event()
        self._recorder = Recorder(runtime, "webhooks")
        self._forget_due = 0.0  # by the clock that only goes forward
        self._thread = threading.Thread(target=self._run, name="tally-webhooks", daemon=True)

    def __enter__(self) -> WebhookLoop:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin, unless it is switched off."""
        if self._seconds:
            self._thread.start()

    def stop(self) -> None:
        """End. What is under way is waited for, and not for long: what does not end is sent again by another."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
            self._courier.finish(_STOP_SECONDS)

    def _run(self) -> None:
        error: str | None = None
        while not self._wait():
            started_at = self._runtime.clock()
            before = self._courier.delivered + self._courier.failed
            try:
                self._look()
                error = None
            except TallyError as failed:  # the database is away, or the key is; it is told elsewhere, and here once
                if error != failed.code:
                    _log.warning("webhooks could not be sent: %s", failed.detail)
                error = failed.code
                self._recorder.note(started_at, 0, "", sentence_of(failed))
            except Exception as failed:
                _log.exception("sending webhooks failed")
                self._recorder.note(started_at, 0, "", sentence_of(failed))
            else:
                done = self._courier.delivered + self._courier.failed - before
                self._recorder.note(started_at, done, f"{done:,} deliveries were attempted")

    def _wait(self) -> bool:
        """Until it is time to look: after the period, or while deliveries are under way, as soon as there is room."""
        if self._courier.pause(self._seconds):
            return self._stopping.is_set()
        return self._stopping.wait(self._seconds)

    def _look(self) -> None:
        # What is due is begun as there is room for it; those that end make room.
        while not self._stopping.is_set() and self._courier.look():
            self._courier.pause(self._seconds)
        if time.monotonic() >= self._forget_due:
            forgotten = forget_old(self._runtime)
            self._forget_due = time.monotonic() + FORGET_SECONDS
            if forgotten:
                _log.info("%s old events and their deliveries were forgotten", forgotten)
