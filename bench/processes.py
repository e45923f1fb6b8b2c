"""What the processes of a run take: the time of the CPU, and memory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from bench.report import peak_bytes

_TICKS = os.sysconf("SC_CLK_TCK")
WORKER = "tallystick.cli.workers"


class Cpu(NamedTuple):
    """Seconds of CPU so far: of our server's workers, of its database, of the fake provider."""

    workers: float
    database: float
    provider: float

    def since(self, before: Cpu) -> Cpu:
        """What was taken since then."""
        return Cpu(*(now - then for now, then in zip(self, before, strict=True)))


def cpu_now(data_dir: Path) -> Cpu:
    """What the processes below this one have taken; the database's are found by its folder, 0 where it has none."""
    ours = below(os.getpid())
    workers = sum(_seconds(pid) for pid, command in ours.items() if WORKER in command)
    provider = sum(_seconds(pid) for pid, command in ours.items() if "bench.gateway_upstream" in command)
    return Cpu(workers, _database_seconds(data_dir), provider)


def workers_peak_bytes() -> int:
    """The most memory that the workers of our server have held, all together."""
    return sum(peak_bytes(pid) for pid, command in below(os.getpid()).items() if WORKER in command)


def below(parent: int) -> dict[int, str]:
    """The processes that a process has started, and theirs, with their commands."""
    told = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in told.splitlines()[1:]]
    found = {parent}
    while more := {int(pid) for pid, above, _ in rows if int(above) in found} - found:
        found |= more
    return {int(pid): command for pid, _, command in rows if int(pid) in found and int(pid) != parent}


def _database_seconds(data_dir: Path) -> float:
    """Of a server that has been there all the time, its sessions' that have ended among it."""
    file = data_dir / "postgres" / "postmaster.pid"
    if not file.is_file():
        return 0.0
    main = int(file.read_text().split()[0])
    return _seconds(main, with_ended=True) + sum(_seconds(pid) for pid in below(main))


def _seconds(pid: int, *, with_ended: bool = False) -> float:
    try:
        said = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # it has ended meanwhile
        return 0.0
    ticks = said[said.rindex(")") + 2 :].split()[11 : 15 if with_ended else 13]
    return sum(map(int, ticks)) / _TICKS
