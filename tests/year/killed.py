"""Every job once, in a process that dies by SIGKILL at the COUNTth named step: DATABASE_URL FOLDER INSTANT COUNT."""

from __future__ import annotations

import os
import signal
import sys
from datetime import datetime
from pathlib import Path

from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.journal import steps
from year.life import run_jobs


def main() -> None:
    """Run them until it dies; where there are fewer steps, it ends as any process does."""
    url, folder, instant, count = sys.argv[1:]
    now = datetime.fromisoformat(instant)
    with open_runtime(Settings(database_url=url, data_dir=Path(folder)), lambda: now) as runtime:
        _die_at(int(count))
        run_jobs(runtime)


def _die_at(count: int) -> None:
    left = count

    def reached(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    steps.install(reached)
