"""The folders of the embedded server: whose they are, who may pass through them, and what is left of the disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from pathlib import Path

from tallystick.core.errors import Unavailable
from tallystick.journal.os_user import OsUser

_SOCKET_NAME = "/.s.PGSQL.5432"
_SOCKET_PATH_BYTES_MAX = 107  # sun_path of a Unix socket, less its final NUL
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
_DISK_BYTES_MIN = 1 << 20


def prepare_folder(data_dir: Path, user: OsUser | None) -> None:
    """Make the data directory when it is missing, and see to it that the server's user can pass through it.

    Raises:
        Unavailable: `data_dir_unusable`, `data_dir_closed` or `storage_full`.
    """
    try:
        missing = [path for path in (data_dir, *data_dir.parents) if not path.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755 if user else 0o700)  # whatever the umask: we have just made it
    except OSError as error:
        raise unusable_folder(data_dir, error) from None
    if not data_dir.is_dir() or not os.access(data_dir, os.W_OK | os.X_OK):
        raise _unusable(f"{data_dir} is not a folder that this user may write to")
    if user is not None:
        _check_passage(data_dir, user)


def find_socket_dir(cluster: Path, user: OsUser | None) -> Path:
    """Where the server's socket is: in its cluster, or in a folder of its own when that path is too long for one.

    Raises:
        Unavailable: `socket_dir_unusable`.
    """
    if len(os.fsencode(cluster)) + len(_SOCKET_NAME) <= _SOCKET_PATH_BYTES_MAX:
        return cluster
    digest = hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"tally-{digest}"
    owner = user.uid if user else os.geteuid()
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, -1)
    found = folder.lstat()
    too_long = len(os.fsencode(folder)) + len(_SOCKET_NAME) > _SOCKET_PATH_BYTES_MAX
    if too_long or folder.is_symlink() or found.st_uid != owner or found.st_mode & 0o077:
        raise Unavailable(
            "socket_dir_unusable",
            f"the path of {cluster} is too long for a socket, and {folder} cannot be used instead",
            next_step="set TALLY_DATA_DIR to a shorter path",
        )
    return folder


def free_bytes(folder: Path) -> int:
    """What a user without privileges may still write on the disk of `folder`, or of its nearest parent there is."""
    while not folder.exists():
        folder = folder.parent
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def has_no_room(folder: Path) -> bool:
    """Whether so little is left on the disk of `folder` that who fails on it may not even have room to say why."""
    return free_bytes(folder) < _DISK_BYTES_MIN


def storage_full(folder: Path) -> Unavailable:
    """The error for a disk that has no room left for what must be written."""
    return Unavailable(
        "storage_full",
        f"the disk of {folder} is full: {free_bytes(folder) // 1_000_000:,} MB are free; nothing was taken",
        next_step="make room on the disk, then send the same again: nothing is counted twice",
    )


def unusable_folder(folder: Path, error: OSError) -> Unavailable:
    """The error for a data directory in which a file or folder could not be made."""
    if error.errno in DISK_IS_FULL:
        return storage_full(folder)
    return _unusable(f"the data directory {folder} cannot be written to: {(error.strerror or str(error)).lower()}")


def _unusable(detail: str) -> Unavailable:
    return Unavailable(
        "data_dir_unusable",
        detail,
        next_step="set TALLY_DATA_DIR to a folder that this user may write to, or set DATABASE_URL",
    )


def _check_passage(data_dir: Path, user: OsUser) -> None:
    closed = user.closed_parent(data_dir)
    if closed is None and not user.may_enter(data_dir):
        # The folder was named to be ours. Empty, or holding what we put there, it may be passed through
        # (not listed) by the server's user; any other folder stays as it is.
        names = {path.name for path in data_dir.iterdir()}
        if not names or "postgres.start.lock" in names:
            data_dir.chmod(data_dir.stat().st_mode | 0o011)
        else:
            closed = data_dir
    if closed is not None:
        raise Unavailable(
            "data_dir_closed",
            f"the embedded server runs as user {user.name!r}, which may not pass through {closed}",
            next_step="set TALLY_DATA_DIR to a folder that other users may pass through, such as "
            "/var/lib/tallystick, or set DATABASE_URL",
        )
