"""What a process does that is forked to be a `tally` command. It imports nothing that the command would not."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from multiprocessing.reduction import DupFd
from typing import Any


class TallyCommand:
    """Be the command. Pickled with its streams, which it has as its own then."""

    def __init__(
        self, arguments: list[str], env: dict[str, str], cwd: str, streams: tuple[int, ...], main: str
    ) -> None:
        self._given = (arguments, env, cwd, main)
        self._streams = streams

    def __getstate__(self) -> dict[str, Any]:
        return {"_given": self._given, "_streams": [DupFd(stream) for stream in self._streams]}

    def __call__(self) -> None:
        arguments, env, cwd, main = self._given
        for number, stream in enumerate(self._streams):
            held = stream.detach()  # type: ignore[attr-defined] # it came as DupFd
            os.dup2(held, number)
            os.close(held)
        sys.stdin, sys.stdout = os.fdopen(0, encoding="utf-8"), os.fdopen(1, "w", encoding="utf-8")
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)
        sys.argv = arguments
        import_module(main).main()
