"""`tally` in processes of their own, quick to start: each is forked from one that has imported the program already.

Importing it takes a second of work, and many tests run a dozen commands. A forked command is a process as any other: it
has its own arguments, environment, folder, standard streams, signals and exit code. That the program also starts from
nothing is for tests that begin with an interpreter: the demonstration, the recipe and others.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import get_context
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import IO

import pytest

from tally_command import TallyCommand

_PROGRAM = "tallystick.cli.main"
_context = get_context("forkserver")
_context.set_forkserver_preload(["tally_preloaded"])


@cache
def _start_server() -> None:
    """Start what commands are forked from; it finds its module only where the interpreter looks by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        ensure_running()


class TallyProcess:
    """A command that runs: what `subprocess.Popen` has of it, as far as tests ask."""

    def __init__(
        self,
        arguments: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: int | None = None,
        stdout: int,
        stderr: int,
        main: str = _PROGRAM,
    ) -> None:
        """Start it; its streams are descriptors, which are the caller's to close. `main` is the module that runs it."""
        _start_server()
        with open(os.devnull, "rb") as nothing:
            streams = (nothing.fileno() if stdin is None else stdin, stdout, stderr)
            self.args = ["tally", *map(str, arguments)]
            given = dict(os.environ if env is None else env)
            self._process = _context.Process(
                target=TallyCommand(self.args, given, str(cwd or Path.cwd()), streams, main), daemon=False
            )
            self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_tally(
    *arguments: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes = b"",
    timeout: float = 120,
    main: str = _PROGRAM,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end: its exit code and what it wrote."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained, tempfile.TemporaryFile() as asked:
        asked.write(stdin)
        asked.seek(0)
        streams = {"stdin": asked.fileno(), "stdout": said.fileno(), "stderr": complained.fileno()}
        process = TallyProcess(arguments, env=env, cwd=cwd, main=main, **streams)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, code, _read(said), _read(complained))


def run_program(
    text: str, *arguments: object, env: Mapping[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """As `python -c text arguments…`, but forked from what has imported Tallystick already."""
    return run_tally(text, *arguments, env=env, timeout=timeout, main="forked_program")


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()
