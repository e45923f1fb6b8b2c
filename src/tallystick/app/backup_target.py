"""The file that a backup is written into: named only when all of it is on the disk, and its owner's alone."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tallystick.app.restore_mark import flush_folder
from tallystick.core.errors import BadInput, Conflict, Unavailable

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What file systems say that know no second name of a file: network shares and removable drives often are of those."""


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path` that gets that name when the block ends well, and is removed when it does not.

    One that a killed backup has left is written over by the next one of the same name.

    Raises:
        Conflict: `backup_exists`, `backup_running`.
        BadInput: `cannot_write`.
        Unavailable: `storage_full`, whatever in the block meets a full disk.
    """
    if path.exists():
        raise _exists(path)
    partial = path.with_name(path.name + ".partial")
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _cannot_write(path, error) from None
    with _full_disk_named(path), open(descriptor, "wb") as file:
        _lock(descriptor, partial, path)
        try:
            with suppress(PermissionError):  # some drives know no modes: `is_for_its_owner_alone` tells
                os.fchmod(descriptor, 0o600)
            file.truncate(0)
            yield file
            _name(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        with suppress(OSError):  # not every file system flushes folders
            flush_folder(path.parent)


def is_for_its_owner_alone(path: Path) -> bool:
    """Whether nobody else may read the file, as far as its file system says."""
    return not path.stat().st_mode & 0o077


def _lock(descriptor: int, partial: Path, path: Path) -> None:
    """Have the file for ourselves; who had it until a moment ago may have given it its name meanwhile."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = os.path.samestat(os.fstat(descriptor), os.stat(partial))
    except (BlockingIOError, FileNotFoundError):
        is_ours = False
    if not is_ours:
        raise Conflict(
            "backup_running",
            f"another backup is writing {path}, or has just done so",
            next_step="wait for it, or name another file",
            where=str(path),
        )


def _name(partial: Path, path: Path) -> None:
    try:
        os.link(partial, path)  # fails where there is one of that name
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise _exists(path) from None
        partial.rename(path)


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise Unavailable(
            "storage_full",
            f"{path} could not be written to its end: its disk is full; nothing of it was kept",
            next_step="make room on that disk, or write the backup to another one",
            where=str(path),
        ) from error


def _exists(path: Path) -> Conflict:
    return Conflict(
        "backup_exists",
        f"{path} is there already, and no backup is written over another",
        next_step="name a file that is not there",
        where=str(path),
    )


def _cannot_write(path: Path, error: OSError) -> BadInput:
    return BadInput(
        "cannot_write",
        f"{path} cannot be written: {(error.strerror or str(error)).lower()}",
        next_step="name a file in a folder that exists and that you may write to",
        where=str(path),
    )
