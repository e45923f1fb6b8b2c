"""What a process holds from which `tally` commands are forked: the program, and whatever each command makes first."""

from __future__ import annotations

import atexit
import gc
from importlib import import_module

from tallystick.app.cards import load_card_history
from tallystick.cli.main import command

_LAZY = (
    "tallystick.api.app",
    "tallystick.cli.http_server",
    "tallystick.cli.workers",
    "tallystick.app.demo",
    "tallystick.app.export",
    "tallystick.app.ingest",
    "tallystick.app.proof_files",
    "tallystick.app.replay_history",
    "tallystick.app.runtime",
    "tallystick.app.seal",
    "tallystick.app.spool_view",
    "tallystick.app.verify",
    "tallystick.archive.replay",
)
"""What commands import when they need it."""

for _name in _LAZY:
    import_module(_name)
command()
load_card_history()
# What is never looked at again by the collector stays shared with every command.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)
