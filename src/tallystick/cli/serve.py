"""`tally serve`: the database and the API, in one process or in several behind one address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings, is_loopback
from tallystick.cli.http_server import BACKLOG, run_server, signals_to_exit
from tallystick.cli.output import say
from tallystick.core.errors import BadInput, Unavailable

_JOBS_WAIT_SECONDS = 5.0
"""Jobs begin once the server has had time to start: they are in no hurry, and their library takes a while to load."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [default: 127.0.0.1].")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one [default: 8080].")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of everything that is stored.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that serve requests [default: 1].")
    ] = None,
) -> None:
    """Start the database and the API; stop on Ctrl-C or SIGTERM once what is under way is answered."""
    given: dict[str, Any] = {"host": host, "port": port, "data_dir": data_dir, "workers": workers}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    code = 0
    with signals_to_exit(), _listening_socket(settings.host, settings.port) as listener:
        # What the address really is, workers are told, too.
        settings.require_keys = (
            not is_loopback(listener.getsockname()[0]) if settings.require_keys is None else settings.require_keys
        )
        from tallystick.api.logs import configure_logging
        from tallystick.app.account_loop import AccountLoop
        from tallystick.app.gateway_terms import check_gateway
        from tallystick.app.runtime import open_runtime
        from tallystick.app.seal_loop import SealLoop
        from tallystick.app.webhook_loop import WebhookLoop
        from tallystick.jobs.worker import JobsWorker

        def on_listening() -> None:
            say(f"listening on {_address_of(listener, settings.host)}")
            if settings.require_keys:
                say("callers must show keys: `tally keys create` makes them")
            elif not is_loopback(listener.getsockname()[0]):
                say("callers need no keys: let only a proxy that asks for them reach this address")

        configure_logging()
        check_gateway(settings)
        say("starting the database …")
        with open_runtime(settings, may_start_late=True) as runtime, ExitStack() as beside:
            if settings.jobs:
                beside.enter_context(SealLoop(runtime))
                beside.enter_context(AccountLoop(runtime))
                beside.enter_context(WebhookLoop(runtime))
                beside.enter_context(JobsWorker(runtime, wait_seconds=_JOBS_WAIT_SECONDS))
            if settings.workers == 1:
                from tallystick.api.app import create_app

                run_server(create_app(runtime), listener, on_listening=on_listening)
            else:
                from tallystick.cli.workers import Workers

                listener.listen(BACKLOG)  # callers wait, rather than being refused, while no worker is there
                code = Workers(settings, listener, on_listening=on_listening).run()
    say("stopped")
    raise typer.Exit(code)


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
