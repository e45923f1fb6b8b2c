"""`tally worker`: runs jobs, beside servers that leave them to it, or beside nothing."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)


def worker() -> None:
    """Run jobs (see `tally jobs`) until Ctrl-C or SIGTERM. Several workers share them: each period's job runs once."""
    stopping = threading.Event()
    with ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.signal(number, lambda *_: stopping.set())
            stack.callback(signal.signal, number, before)
        from tallystick.api.logs import configure_logging
        from tallystick.app.account_loop import AccountLoop
        from tallystick.app.runtime import open_runtime
        from tallystick.app.seal_loop import SealLoop
        from tallystick.app.webhook_loop import WebhookLoop
        from tallystick.jobs.worker import JobsWorker

        configure_logging()
        say("starting the database …")
        runtime = stack.enter_context(open_runtime(Settings()))
        stack.enter_context(SealLoop(runtime))
        stack.enter_context(AccountLoop(runtime))
        stack.enter_context(WebhookLoop(runtime))
        stack.enter_context(JobsWorker(runtime))
        say("jobs run when they are due")
        stopping.wait()
        say("stopping …")
    say("stopped")
