"""What a benchmark says: a figure, what it is measured against, and whether the aim is met."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure. `aim` is what it should reach, in words; `met` whether it did (None: no aim)."""

    name: str
    figure: str
    baseline: str = ""
    aim: str = ""
    met: bool | None = None


def machine() -> str:
    """The machine in a line, since figures mean nothing without it."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"


def peak_bytes(pid: int) -> int:
    """The most memory that a process has held since its program began.

    It is VmHWM: ru_maxrss would also count what the process that forked it held.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024


def show(rows: list[Row]) -> None:
    table = Table(title=machine())
    for title in ("what", "measured", "baseline in this run", "aim", "met"):
        table.add_column(title)
    for row in rows:
        table.add_row(row.name, row.figure, row.baseline, row.aim, {True: "yes", False: "NO", None: ""}[row.met])
    Console(width=140).print(table)
