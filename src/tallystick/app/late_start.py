"""Starting while the database is away: events are checked and spooled meanwhile, and the start is completed later.

Until the database has been looked over (schema, roles, walls between tenants, rate cards) nothing is read from it or
written to it: it is withheld. What events are checked against meanwhile are the meters that were known last, and the
card files that are at hand; neither decides what is recorded, for that is done when the spool is drained.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tallystick.core.errors import TallyError
from tallystick.usage.meters import METERS

_PAUSE_SECONDS = 1.0

_log = logging.getLogger("tallystick.start")


class LateStart:
    """A thread that tries to complete a start until it succeeds, or `stop()`.

    Attributes:
        error: why it is not complete yet; None once it is.
    """

    def __init__(self, complete: Callable[[], None], error: TallyError) -> None:
        self.error: TallyError | None = error
        self._complete = complete
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tally-late-start", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Try no more."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        _log.warning("started without the database, which is away; events are spooled")
        while not self._stopping.wait(_PAUSE_SECONDS):
            try:
                self._complete()
            except TallyError as error:
                if self.error is None or error.code != self.error.code:
                    _log.error("the database cannot be used: %s; %s", error.detail, error.next_step)
                self.error = error
            except Exception:
                _log.exception("the database cannot be looked over")
            else:
                self.error = None
                _log.warning("the database is back, and has been looked over")
                return


def remember_meters(data_dir: Path, meters: frozenset[str]) -> None:
    """Keep the known meters for a start without the database; where the disk does not take them, do without."""
    file = _file_of(data_dir)
    if recall_meters(data_dir) == meters:
        return
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        half_done = file.with_name(f"{file.name}.new")
        half_done.write_text(json.dumps(sorted(meters)))
        half_done.rename(file)


def recall_meters(data_dir: Path) -> frozenset[str]:
    """The meters that were known last, or the built-in ones."""
    with suppress(OSError, ValueError):
        return frozenset(METERS) | frozenset(json.loads(_file_of(data_dir).read_text()))
    return frozenset(METERS)


def _file_of(data_dir: Path) -> Path:
    return data_dir / "spool" / "meters.json"
