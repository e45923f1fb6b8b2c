"""A server as it runs in production, in a thread of the test, and callers that send it bytes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from tallystick.api import http_protocol
from tallystick.api.app import create_app
from tallystick.app.runtime import Runtime

HEAD = "POST {path}{query} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


class Caller:
    """One connection, and the answers that come over it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.held = b""

    def send(self, body: bytes, *, path: str = "/v1/events", query: str = "", headers: str = "") -> None:
        head = HEAD.format(path=path, query=query) + headers + f"Content-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        while (end := self.held.find(b"\r\n\r\n")) < 0:
            self._more()
        lines = self.held[:end].decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        whole = end + 4 + int(headers["content-length"])
        while len(self.held) < whole:
            self._more()
        body, self.held = self.held[end + 4 : whole], self.held[whole:]
        return int(lines[0].split()[1]), headers, body

    def _more(self) -> None:
        part = self.socket.recv(65536)
        assert part, "the connection was closed"
        self.held += part

    def is_closed(self) -> bool:
        """Wait until the server has closed the connection; whether it said nothing before."""
        try:
            return b"".join(iter(lambda: self.socket.recv(65536), b"")) == b""
        except ConnectionResetError:
            return True


@contextmanager
def serving(runtime: Runtime) -> Iterator[int]:
    """Serve until the block ends; the port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            create_app(runtime), http=http_protocol.TallyHttpProtocol, loop="uvloop", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)


@contextmanager
def callers(port: int) -> Iterator[Callable[[], Caller]]:
    """What opens connections; they are closed when the block ends."""
    opened: list[Caller] = []

    def connect() -> Caller:
        opened.append(Caller(port))
        return opened[-1]

    yield connect
    for caller in opened:
        caller.socket.close()
