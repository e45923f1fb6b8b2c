"""What a process holds from which `tally` commands are forked: the program, and whatever each command makes first."""

from __future__ import annotations

import atexit
import gc
from importlib import import_module

from tallystick.api.app import build_api
from tallystick.app.cards import read_card_files
from tallystick.app.settings import Settings
from tallystick.cli.main import command, command_for
from tallystick.cli.sections import SECTIONS
from tallystick.rates.cardfile import parse_card_file

_LAZY = (
    "tally_command",
    "multiprocessing.popen_forkserver",
    "tallystick.api.http_protocol",
    "tallystick.cli.http_server",
    "tallystick.cli.workers",
    "tallystick.app.account_loop",
    "tallystick.app.backup",
    "tallystick.app.demo",
    "tallystick.app.erase",
    "tallystick.app.event_files",
    "tallystick.app.export",
    "tallystick.app.ingest",
    "tallystick.app.proof_files",
    "tallystick.app.replay_history",
    "tallystick.app.runtime",
    "tallystick.app.seal",
    "tallystick.app.spool_view",
    "tallystick.app.verify",
    "tallystick.app.verify_job",
    "tallystick.app.webhook_loop",
    "tallystick.archive.replay",
    "tallystick.jobs.worker",
    # What columns are read and written with.
    "adbc_driver_postgresql",
    "numpy.ma",
    "pyarrow.dataset",
    # The first command in an empty database.
    "alembic.command",
    "alembic.config",
    "alembic.runtime.environment",
    "procrastinate",
    "sqlalchemy.dialects.postgresql.psycopg",
    # Servers.
    "anyio._backends._asyncio",
    "anyio.abc",
    "anyio.streams.tls",
    "configparser",
    "fastapi.telemetry._runtime",
    "encodings.idna",
    "rich._emoji_codes",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.supervisors",
    "uvloop",
    # Words of command lines.
    "typer._adapters",
    "typer._click._textwrap",
    "typer._click.decorators",
)
"""What commands import when they need it."""

for _name in _LAZY:
    import_module(_name)
command()
for _, _names in SECTIONS:
    for _name in _names:
        command_for([_name])
build_api(Settings())
for _content in read_card_files():
    parse_card_file(_content)
# What is never looked at again by the collector stays shared with every command.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)
