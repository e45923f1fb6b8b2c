"""Several processes behind one address: the parent holds the listening socket and the database, workers serve.

A worker is this module run as a program. Its standard input tells it what the operator has set (one line of JSON)
and stays open as long as the parent lives: when it ends, the worker does too, so that a parent that is killed
leaves nobody behind. Through a pipe of its own it says when it serves; the pipe's end says that it is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from tallystick.app.peers import Place, socket_path
from tallystick.app.settings import Settings
from tallystick.cli.http_server import GRACE_SECONDS, run_server, signals_to_exit
from tallystick.cli.output import errors_to_exit_codes

_READY = b"ready\n"
_QUICK_SECONDS = 5.0
"""A worker that lived for less is not started again at once: whatever ends it would only end it again."""
_PAUSES_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
_LAST_SECONDS = 10
"""How long a worker may take to close what it has open once its requests are answered, or were given up."""

_log = structlog.get_logger("tallystick.serve")


class _Worker:
    """A worker process as its parent sees it."""

    def __init__(self, number: int, settings: Settings, listener: socket.socket, place: Place | None) -> None:
        self.number = number
        self.started = time.monotonic()
        self.is_ready = False
        self.said, says = os.pipe()
        command = [sys.executable, "-P", "-m", "tallystick.cli.workers", str(listener.fileno()), str(says)]
        passed = [listener.fileno(), says]
        if place is not None:
            passed.append(place.listener.fileno())
            command += [str(place.listener.fileno()), str(place.number), str(place.workers), str(place.folder)]
        try:
            self.process = subprocess.Popen(  # noqa: S603 - this program again
                command,
                stdin=subprocess.PIPE,
                pass_fds=passed,
                start_new_session=True,  # Ctrl-C is for the parent, who tells its workers to finish
            )
        finally:
            os.close(says)
        assert self.process.stdin is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(BrokenPipeError):  # it is gone already, which its pipe will tell
            self.process.stdin.write(json.dumps(settings.model_dump(mode="json")).encode() + b"\n")
            self.process.stdin.flush()
        _log.info("worker_started", worker=number, pid=self.process.pid)

    def reap(self) -> int:
        """Its exit code once its pipe has ended; minus the signal's number when one ended it."""
        os.close(self.said)
        assert self.process.stdin is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.process.wait()


class Workers:
    """The workers of one `tally serve`; `run` starts them, keeps their number, and ends when told to stop."""

    def __init__(self, settings: Settings, listener: socket.socket, *, on_listening: Callable[[], None]) -> None:
        self._settings = settings
        self._listener = listener
        self._on_listening: Callable[[], None] | None = on_listening
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, float] = {}  # by number, when one that is gone is to be started again
        self._quick_ends = 0
        self._is_stopping = False
        self._places: list[Place] = []

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit code: 0, or that of a worker that could not even start."""
        with _signals_as_bytes() as signals, _places(self._settings.workers) as self._places:
            self._selector.register(signals, selectors.EVENT_READ)
            for number in range(self._settings.workers):
                self._start(number)
            code = 0
            while self._workers or (self._due and not self._is_stopping):
                for key, _ in self._selector.select(self._seconds_until_due()):
                    if key.fileobj is signals:
                        signals.recv(64)
                        self._stop()
                    else:
                        code = self._hear(key.data) or code
                self._start_due()
        self._selector.close()
        return code

    def _start(self, number: int) -> None:
        place = self._places[number] if self._places else None
        worker = self._workers[number] = _Worker(number, self._settings, self._listener, place)
        self._selector.register(worker.said, selectors.EVENT_READ, worker)

    def _hear(self, worker: _Worker) -> int:
        """A worker serves, or, as the end of its pipe says, is gone; 0, or the code to exit with."""
        if os.read(worker.said, 64):
            worker.is_ready = True
            if self._on_listening is not None and all(one.is_ready for one in self._workers.values()):
                self._on_listening()
                self._on_listening = None
            return 0
        self._selector.unregister(worker.said)
        del self._workers[worker.number]
        code = worker.reap()
        if self._is_stopping:
            return 0
        lived = time.monotonic() - worker.started
        _log.error(
            "worker_ended", worker=worker.number, pid=worker.process.pid, exit_code=code, seconds=round(lived, 1)
        )
        if self._on_listening is not None:  # not even the beginning went well; it has said why
            self._stop()
            return code if code > 0 else 1
        self._quick_ends = 0 if lived >= _QUICK_SECONDS and worker.is_ready else self._quick_ends + 1
        pause = _PAUSES_SECONDS[min(self._quick_ends, len(_PAUSES_SECONDS)) - 1] if self._quick_ends else 0.0
        self._due[worker.number] = time.monotonic() + pause
        return 0

    def _seconds_until_due(self) -> float | None:
        return max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None

    def _start_due(self) -> None:
        if self._is_stopping:
            return
        for number in [number for number, due in self._due.items() if due <= time.monotonic()]:
            del self._due[number]
            self._start(number)

    def _stop(self) -> None:
        """Tell the workers to finish; one that takes too long is ended."""
        if self._is_stopping:
            return
        self._is_stopping = True
        for worker in self._workers.values():
            worker.process.terminate()
        giving_up = threading.Timer(GRACE_SECONDS + _LAST_SECONDS, self._kill)
        giving_up.daemon = True
        giving_up.start()

    def _kill(self) -> None:
        for worker in list(self._workers.values()):
            worker.process.kill()


@contextmanager
def _places(count: int) -> Iterator[list[Place]]:
    """Sockets at which the workers listen for each other, in a folder that nobody else may enter; none if that fails.

    They are open here as long as the workers are kept, so that one that is started again goes on where it was.
    """
    with ExitStack() as stack:
        places = []
        try:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="tally-", ignore_cleanup_errors=True)))
            for number in range(count):
                listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(str(socket_path(folder, number)))
                listener.listen(count)
                places.append(Place(number, count, folder, listener))
        except OSError as error:  # such as a path that is too long for a socket, or no folder that can be written to
            next_step = "set TMPDIR to a folder that can be written to, with a short name"
            _log.warning("workers_apart", reason=str(error), next_step=next_step)
            places = []
        yield places


@contextmanager
def _signals_as_bytes() -> Iterator[socket.socket]:
    """A socket that can be read from once SIGINT or SIGTERM has come."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    with reader, writer:
        fd_before = signal.set_wakeup_fd(writer.fileno())
        before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield reader
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(fd_before)


def main() -> None:
    """A worker, with its settings on standard input.

    python -m tallystick.cli.workers LISTENER_FD READY_FD [PEERS_FD NUMBER COUNT FOLDER]
    """
    from tallystick.api.app import create_app
    from tallystick.api.logs import configure_logging
    from tallystick.app.runtime import open_runtime

    listener, says, place = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), None
    if len(sys.argv) > 3:
        peers, number, count = map(int, sys.argv[3:6])
        place = Place(number, count, Path(sys.argv[6]), socket.socket(fileno=peers))
    # Unbuffered: a thread will wait in a read of it when the interpreter ends.
    given = _first_line(0)
    if not given:  # the parent is gone already
        return
    settings = Settings(**json.loads(given))
    with ExitStack() as stack:
        stack.enter_context(errors_to_exit_codes())
        stack.enter_context(signals_to_exit())
        stack.enter_context(listener)
        folder = None if place is None else place.folder
        threading.Thread(target=_end_with_the_parent, args=(folder,), daemon=True).start()
        configure_logging()
        runtime = stack.enter_context(open_runtime(settings, may_start_late=True))
        run_server(create_app(runtime, place), listener, on_listening=lambda: _say(says))


def _first_line(fd: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(fd, 65536)
        if not part:
            return b""
        line += part
    return line


def _say(fd: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(fd, _READY)


def _end_with_the_parent(folder: Path | None) -> None:
    """Stop as if told to, once standard input ends; by force when that takes too long.

    Args:
        folder: the parent's, which it can no longer clear away.
    """
    while os.read(0, 64):
        pass
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS + _LAST_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
