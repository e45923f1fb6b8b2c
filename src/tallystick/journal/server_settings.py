"""How the embedded PostgreSQL is set up: what differs from its defaults, and why, by the size of the machine."""

from __future__ import annotations

import os
from pathlib import Path

_MIB = 1 << 20
_BUFFERS_MIB = (128, 4096)
_WAL_MIB = (64, 4096)
_WAL_MIB_LEAST = 32  # two segments; PostgreSQL takes no less
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def server_settings(folder: Path) -> dict[str, str]:
    """The settings of a server whose cluster is in `folder`."""
    memory_mib = memory_bytes() // _MIB
    wal_mib = _clamp(_disk_bytes(folder) // 16 // _MIB, _WAL_MIB)
    return {
        "listen_addresses": "",  # reachable through its socket only
        "jit": "off",  # compiling a batch probe costs more than running it
        "synchronous_commit": "on",  # a fact is on disk before anybody is told so
        "max_connections": "200",
        # The index over request ids is written at random places: what of it is in memory is what makes writing quick.
        "shared_buffers": f"{_clamp(memory_mib // 4, _BUFFERS_MIB)}MB",
        "effective_cache_size": f"{max(memory_mib // 2, 256)}MB",
        "huge_pages": "off",  # asking for them fails where none are set aside
        # Fewer checkpoints mean fewer whole pages in the log. More than 4 GB would make a restart after a crash, which
        # reads the log since the last checkpoint, take longer than people wait; on a small disk it must leave room.
        "max_wal_size": f"{wal_mib}MB",
        "min_wal_size": f"{max(wal_mib // 4, _WAL_MIB_LEAST)}MB",  # segments are used again, not made anew
        "checkpoint_timeout": "15min",
        "checkpoint_completion_target": "0.9",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_min_messages": "warning",
    }


def memory_bytes() -> int:
    """The memory that this machine, or the container that we are in, has."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        try:
            found = min(found, int(Path(path).read_text()))
        except (OSError, ValueError):  # there is no such file, or it says "max"
            continue
    return found


def _disk_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    disk = os.statvfs(folder)
    return disk.f_blocks * disk.f_frsize


def _clamp(value: int, bounds: tuple[int, int]) -> int:
    return max(bounds[0], min(bounds[1], value))
