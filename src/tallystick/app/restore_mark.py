"""The mark of a data directory that a restore has begun to fill and has not finished: nothing works with one.

A database that is being filled has a mark of its own, which every start looks for: see `journal.migrate`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tallystick.journal.migrate import restore_unfinished

_NAME = "restore-unfinished.json"


def refuse_unfinished(data_dir: Path) -> None:
    """Pass unless a restore into the directory was begun and has not ended.

    Raises:
        Unavailable: `restore_unfinished`.
    """
    if (data_dir / _NAME).exists():
        raise restore_unfinished(str(data_dir))


def mark_unfinished(data_dir: Path, backup: Path, begun_at: str) -> None:
    """Mark the directory before anything else is put into it; the mark is on the disk when this returns.

    Raises:
        Unavailable: `restore_unfinished`: it is marked already.
    """
    try:
        descriptor = os.open(data_dir / _NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:  # another restore was a moment faster
        raise restore_unfinished(str(data_dir)) from None
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump({"backup": str(backup.absolute()), "begun_at": begun_at}, file)
        file.flush()
        os.fsync(file.fileno())
    flush_folder(data_dir)


def unmark(data_dir: Path) -> None:
    """Take the mark away: everything is there, and on the disk."""
    (data_dir / _NAME).unlink()
    flush_folder(data_dir)


def flush_folder(folder: Path) -> None:
    """A folder's new entries survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
