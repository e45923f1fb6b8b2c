"""What breaks things for the fault tests: a small disk, a connection that is cut at a chosen moment."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

import pytest


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A folder on a disk of that size; the test is skipped where none can be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="tally-disk-"))
    try:
        if os.geteuid() != 0:
            pytest.skip("only root may mount a small disk")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=711", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        try:
            yield folder
        finally:
            # "-l": a server that a failed test has left running must not keep it.
            subprocess.run(["umount", "-l", str(folder)], check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fill(folder: Path, *, leave_bytes: int = 0) -> Path:
    """Fill the disk of `folder` with one file, which is given: removing it makes room again."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1) * (1 << 16))
    if leave_bytes:
        os.truncate(ballast, max(ballast.stat().st_size - leave_bytes, 0))
    return ballast


Cut = Callable[[str, bytes], int | None]


class Proxy:
    """A TCP proxy before a server on a Unix socket: it can be gone and come back, and cuts connections on demand.

    `cut(direction, data)` is asked about every piece that passes ("up": from the client to the server), and answers
    how many bytes of it still pass before both sides are cut, or None to let it all pass.
    """

    def __init__(self, url: str, cut: Cut = lambda _direction, _data: None) -> None:
        head, _, query = url.partition("?host=")
        self._target = unquote(query) + "/.s.PGSQL.5432"
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._port = 0
        self.cut = cut
        self.cuts = 0
        self.start()
        self.url = f"{head.replace('@/', f'@127.0.0.1:{self._port}/')}?sslmode=disable"

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Take connections."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Refuse new connections, and break those there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        for end in list(self._open):
            _break(end)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            self._open |= {client, server}
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                continue
            for direction, source, target in (("up", client, server), ("down", server, client)):
                threading.Thread(target=self._pump, args=(direction, source, target), daemon=True).start()

    def _pump(self, direction: str, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                passing = self.cut(direction, data)
                target.sendall(data if passing is None else data[:passing])
                if passing is not None:
                    self.cuts += 1
                    break
        _break(source)
        _break(target)


def _break(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def cut_at_commit(moments: random.Random, *, one_in: int = 5) -> Cut:
    """Cut at one in so many commits: before it reaches the server, or after, when only its answer is lost."""
    cut_answer = threading.Event()

    def cut(direction: str, data: bytes) -> int | None:
        if direction == "down":
            if cut_answer.is_set() and b"COMMIT" in data:
                cut_answer.clear()
                return 0
            return None
        if b"COMMIT" not in data or moments.randrange(one_in):
            return None
        if moments.random() < 0.5:
            return data.index(b"COMMIT")
        cut_answer.set()
        return None

    return cut


def cut_at_bytes(moments: random.Random, *, mean_bytes: int) -> Cut:
    """Cut at a byte of chance, in either direction."""
    left = [int(moments.expovariate(1 / mean_bytes))]
    lock = threading.Lock()

    def cut(_direction: str, data: bytes) -> int | None:
        with lock:
            left[0] -= len(data)
            if left[0] > 0:
                return None
            passing = max(left[0] + len(data), 0)
            left[0] = int(moments.expovariate(1 / mean_bytes))
            return passing

    return cut
