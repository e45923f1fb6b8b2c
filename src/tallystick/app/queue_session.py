"""How the library of the queue of jobs connects to the database."""

from __future__ import annotations

from tallystick.app.runtime import Runtime
from tallystick.journal.jobs import queue_conninfo as conninfo


def queue_conninfo(runtime: Runtime) -> str:
    """As libpq takes it: in the role that sees the queue and nothing else."""
    return conninfo(runtime.database)
