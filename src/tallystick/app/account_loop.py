"""Beside a running server: what accounts need without anybody asking is done every few seconds.

Holds and credits whose life is over end (`app.hold_expiry`), and each month's included credits come in
(`app.included_credits`). Nothing depends on it being prompt: whoever is asked for is kept up before the decision. One
for all the processes that serve is enough, and several do no harm.
"""

from __future__ import annotations

import logging
import threading
import time

from tallystick.app.hold_expiry import expire_due
from tallystick.app.included_credits import give_included
from tallystick.app.jobs import Recorder, sentence_of
from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError

INCLUDED_SECONDS = 300
"""How often it looks for orgs that lack the month's included credits: it takes a look at each."""
_STOP_SECONDS = 5
_log = logging.getLogger("tallystick.accounts")


class AccountLoop:
    """A thread that keeps accounts up, from `start()` to `stop()`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._seconds = runtime.settings.account_seconds
        self._stopping = threading.Event()
        self._recorder = Recorder(runtime, "accounts")
        self._included_due = 0.0  # by the clock that only goes forward
        self._thread = threading.Thread(target=self._run, name="tally-accounts", daemon=True)

    def __enter__(self) -> AccountLoop:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin, unless it is switched off."""
        if self._seconds:
            self._thread.start()

    def stop(self) -> None:
        """End; what is under way is finished."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        is_away = False
        while not self._stopping.wait(self._seconds):
            started_at = self._runtime.clock()
            try:
                done = self._look()
                is_away = False
                self._recorder.note(started_at, done, f"{done:,} entries for what was over or is included")
            except TallyError as error:  # the database is away or busy; it is told elsewhere, and here once
                if not is_away:
                    _log.warning("accounts could not be kept up: %s", error.detail)
                is_away = True
                self._recorder.note(started_at, 0, "", sentence_of(error))
            except Exception as error:
                _log.exception("keeping accounts up failed")
                self._recorder.note(started_at, 0, "", sentence_of(error))

    def _look(self) -> int:
        ended = expire_due(self._runtime)
        given = 0
        if time.monotonic() >= self._included_due:
            given = give_included(self._runtime)
            self._included_due = time.monotonic() + INCLUDED_SECONDS
        if ended or given:
            _log.info("%s entries for what was over, %s for what plans include", ended, given)
        return ended + given
