"""The system user that the embedded server runs as when the process is root: PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tallystick.core.errors import Unavailable

NAME = "tallystick"


@dataclass(frozen=True, slots=True)
class OsUser:
    """A user of this machine, by number."""

    name: str
    uid: int
    gid: int

    def may_reach(self, path: Path) -> bool:
        """Whether the user may read `path` (and enter it, a folder), passing through each of its parents."""
        resolved = path.resolve()
        if self.closed_parent(resolved) is not None:
            return False
        needed = 5 if resolved.is_dir() else 4
        return self._bits(resolved) & needed == needed

    def closed_parent(self, path: Path) -> Path | None:
        """The outermost parent of `path` that the user may not pass through, or None."""
        closed = [parent for parent in path.resolve().parents if parent.exists() and not self._bits(parent) & 1]
        return closed[-1] if closed else None

    def may_enter(self, folder: Path) -> bool:
        """Whether the user may pass through `folder` itself."""
        return bool(self._bits(folder) & 1)

    def _bits(self, path: Path) -> int:
        found = path.stat()
        mode = stat.S_IMODE(found.st_mode)
        if found.st_uid == self.uid:
            return mode >> 6 & 7
        return (mode >> 3 if found.st_gid == self.gid else mode) & 7


def server_user() -> OsUser | None:
    """The user to run the server as: None (ourselves) unless we are root; created as a system user when missing.

    Raises:
        Unavailable: `server_user_missing` when it has to be created and cannot be.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        entry = _create()
    return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", NAME]
    try:
        subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - nothing of it comes from outside
        return pwd.getpwnam(NAME)  # also when another process was faster
    except (KeyError, OSError):
        raise Unavailable(
            "server_user_missing",
            f"PostgreSQL does not run as root, and a system user {NAME!r} could not be created",
            next_step=f"create it (useradd --system {NAME}), run as another user, or set DATABASE_URL",
        ) from None
