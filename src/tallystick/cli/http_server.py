"""Running the API in this process: the HTTP server over a listening socket, and a process made ready for it."""

from __future__ import annotations

import gc
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

GRACE_SECONDS = 30
"""How long requests that are being served may go on after the signal to stop."""
BACKLOG = 2048
"""Connections that may wait to be taken."""
_SWITCH_SECONDS = 0.001
_GARBAGE_THRESHOLDS = (50_000, 20, 50)


@contextmanager
def signals_to_exit() -> Iterator[None]:
    """Until the server handles signals itself, one of them unwinds what was started; afterwards they are as before."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_server(app: Any, listener: socket.socket, *, on_listening: Callable[[], None]) -> None:
    """Serve until a signal to stop comes and what is under way is answered; `on_listening` is called in between."""
    import uvicorn

    from tallystick.api.http_protocol import TallyHttpProtocol

    class Server(uvicorn.Server):
        """Says when it listens, and ends by returning: what was opened around it is to be closed."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            tune_process()
            on_listening()

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=TallyHttpProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    Server(config).run(sockets=[listener])


def tune_process() -> None:
    """Connections may be as many as the system lets them: each call of the gateway has two.

    What is loaded now stays: the garbage collector need not look at it again, nor run for every few requests.

    The journal's thread and the event loop share the interpreter; at its usual 5 ms one would wait too long for the
    other.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_SECONDS)
