"""Folders for data directories: others may pass through, their paths are short, and in memory if there is room.

To make a cluster or a database is to make hundreds of files, which costs a disk several times what it costs memory.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

_MEMORY = Path("/dev/shm")
_MEMORY_BYTES_MIN = 4 << 30


def new_folder() -> Path:
    """A new, empty one. pytest's own are closed to others, and their paths are long for a socket."""
    place = None
    with suppress(OSError):
        if shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES_MIN:
            place = _MEMORY
    folder = Path(tempfile.mkdtemp(prefix="tally-", dir=place))
    folder.chmod(0o711)
    return folder


def copy_folder(folder: Path) -> Path:
    """A new one with the same in it, with the same owners."""
    copied = new_folder()
    subprocess.run(["cp", "-a", f"{folder}/.", str(copied)], check=True)
    return copied
