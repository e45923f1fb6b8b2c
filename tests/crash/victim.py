"""A `tally` command that kills itself: `python -m crash.victim STEP COUNT tally-arguments…`.

It dies by SIGKILL, without a word, when the journal reaches the named step for the COUNTth time.
"""

from __future__ import annotations

import os
import signal
import sys

from tallystick.cli.main import main as tally
from tallystick.journal import steps


def die_at(step: str, times: int) -> None:
    """Install the hook that does it."""
    left = times

    def reached(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    steps.install(reached)


def main() -> None:
    """Install the hook, then be the command."""
    die_at(sys.argv[1], int(sys.argv[2]))
    sys.argv[1:] = sys.argv[3:]
    tally()


if __name__ == "__main__":
    main()
