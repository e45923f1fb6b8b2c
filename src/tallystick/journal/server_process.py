"""The processes of an embedded PostgreSQL: is its postmaster there, and is anything left of one that was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_ORPHAN_GRACE_SECONDS = 2.0
"""A backend notices within moments that its postmaster is gone, unless it computes; then it is ended."""
_ORPHAN_SECONDS_MAX = 30.0
"""What does not die at once waits for a disk or a network that does not answer."""
_ORPHAN_LOOK_SECONDS = 0.02


def postmaster_pid(cluster: Path) -> int | None:
    """The postmaster's process id, None when it does not run (its pid file may outlive it)."""
    pid = _noted_pid(cluster)
    if pid is None or not _exists(pid):
        return None
    command = _PROC / str(pid) / "cmdline"
    # After a restart of the machine the number may belong to somebody else; of a zombie nothing is left but the number.
    with contextlib.suppress(OSError):
        if _PROC.exists() and os.fsencode(cluster) not in command.read_bytes():
            return None
    return pid


def clear_the_way(cluster: Path, socket_dir: Path) -> None:
    """Make sure that a postmaster may start where one was killed, whatever it left behind. None is running.

    Its backends may outlive it for a moment; were a second postmaster to start beside them, both would write the same
    files. They are waited for, then ended: what they had not committed is lost either way. The pid file is left to
    PostgreSQL, which looks for such backends itself, unless its number now belongs to somebody else, or it is torn.
    """
    begun = time.monotonic()
    while orphans := list(_orphans(cluster)):
        waited = time.monotonic() - begun
        if waited > _ORPHAN_SECONDS_MAX:  # PostgreSQL finds them, too, and does not start
            return
        if waited > _ORPHAN_GRACE_SECONDS:
            for orphan in orphans:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan, signal.SIGKILL)
        time.sleep(_ORPHAN_LOOK_SECONDS)
    pid = _noted_pid(cluster)
    if pid is None or _exists(pid):
        (cluster / "postmaster.pid").unlink(missing_ok=True)
    for leftover in socket_dir.glob(".s.PGSQL.5432*"):
        leftover.unlink(missing_ok=True)


def _noted_pid(cluster: Path) -> int | None:
    try:
        return int((cluster / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):  # there is none, or it was torn by a full disk
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is there, and another user's
        return True
    return True


def _orphans(cluster: Path) -> Iterator[int]:
    """Processes of PostgreSQL that work in the cluster's folder; where there is no /proc, none can be seen."""
    folder = os.path.realpath(cluster)
    for entry in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just gone, or is not ours to look at
            program = os.readlink(entry / "exe")
            if os.path.basename(program).startswith("postgres") and os.readlink(entry / "cwd") == folder:
                yield int(entry.name)
