"""`tally serve`: the database and the API in one process."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import say
from tallystick.core.errors import BadInput, Unavailable

GRACE_SECONDS = 30
"""How long requests that are being served may go on after the signal to stop."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [default: 127.0.0.1].")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one [default: 8080].")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of everything that is stored.")] = None,
) -> None:
    """Start the database and the API; stop on Ctrl-C or SIGTERM once what is under way is answered."""
    given: dict[str, Any] = {"host": host, "port": port, "data_dir": data_dir}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    with _signals_to_exit(), _listening_socket(settings.host, settings.port) as listener:
        from tallystick.api.app import create_app
        from tallystick.api.logs import configure_logging
        from tallystick.app.runtime import open_runtime

        configure_logging()
        say("starting the database …")
        with open_runtime(settings) as runtime:
            _run(create_app(runtime), listener, _address_of(listener, settings.host))
    say("stopped")


@contextmanager
def _listening_socket(host: str, port: int) -> Iterator[socket.socket]:
    """The address, taken before anything else is started, so that a taken port costs nothing.

    Raises:
        BadInput: `invalid_host`.
        Unavailable: `address_unavailable`.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise BadInput(
            "invalid_host",
            f"{host!r} is not an address of this machine",
            next_step="use 127.0.0.1, or an address that this machine has",
            where="--host",
        ) from None
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise Unavailable(
                "address_unavailable",
                f"cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}",
                next_step="stop what listens there, or choose another port with --port (0 picks a free one)",
                where="--port",
            ) from None
        yield listener


def _address_of(listener: socket.socket, host: str) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _signals_to_exit() -> Iterator[None]:
    """Until the server handles signals itself, one of them unwinds what was started; afterwards they are as before."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise typer.Exit(0)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(app: Any, listener: socket.socket, address: str) -> None:
    import uvicorn

    from tallystick.api.http_protocol import ProblemHttpProtocol

    class Server(uvicorn.Server):
        """Says where it listens once it does, and ends by returning: what was opened around it is to be closed."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            say(f"listening on {address}")
            if not _is_loopback(listener):
                say("callers are not authenticated: let only a proxy that does so reach this address")

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
        http=ProblemHttpProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    Server(config).run(sockets=[listener])


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback
