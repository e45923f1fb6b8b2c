"""The embedded PostgreSQL: one server for each data directory, shared by every process that uses it.

Three files in the data directory keep the processes in step, all released by the kernel when a process
dies, however it dies:

    postgres/            the cluster; 0700, its own user's when we are root; the socket is inside when it fits
    postgres.start.lock  held while starting or stopping
    postgres.users.lock  held shared by every process that uses the server; the last one out stops it

Folders that are not ours are never opened to others: where the server's user cannot pass, we refuse and say so.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from tallystick.core.errors import Unavailable
from tallystick.journal.binaries import NEWEST, find_postgres
from tallystick.journal.os_user import OsUser, server_user

DATABASE = "tallystick"
_SUPERUSER = "postgres"
_SOCKET_NAME = "/.s.PGSQL.5432"
_SOCKET_PATH_BYTES_MAX = 107  # sun_path of a Unix socket, less its final NUL
_START_SECONDS_MAX = 120  # a crash recovery may have a lot to read

# What differs from PostgreSQL's defaults, and why.
_SETTINGS = {
    "listen_addresses": "",  # reachable through its socket only
    "jit": "off",  # compiling a batch probe costs more than running it
    "synchronous_commit": "on",  # a fact is on disk before anybody is told so
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",  # fewer full checkpoints while a large file is taken in
    "checkpoint_timeout": "15min",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
}


class EmbeddedServer:
    """A handle on the server of one data directory; `open()` starts it when no process has done so."""

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = Path(os.path.abspath(data_dir.expanduser()))
        self.cluster = self.data_dir / "postgres"
        self._settings = {**_SETTINGS, **(settings or {})}
        self._users_lock: int | None = None
        self._user: OsUser | None = None

    def open(self) -> str:
        """Start the server or join it, and give the URL of its database.

        Raises:
            Unavailable: `data_dir_closed`, `data_dir_unusable`, `server_user_missing`, `postgres_missing` or
                `server_start_failed`, each with what to do about it.
        """
        self._user = server_user()
        self._prepare_folder()
        with self._start_lock():
            if not (self.cluster / "PG_VERSION").exists():
                self._make_cluster()
            if self._running_pid() is None:
                self._start()
            users = os.open(self.data_dir / "postgres.users.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(users, fcntl.LOCK_SH)
            self._users_lock = users
            try:
                return self._ensure_database()
            except BaseException:
                self._leave()
                raise

    def close(self) -> None:
        """Leave the server; the last process to leave stops it. Leaving twice does nothing more."""
        if self._users_lock is not None:
            with self._start_lock():
                self._leave()

    def __enter__(self) -> str:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ── folders ─────────────────────────────────────────────────────────────────────────────────

    def _prepare_folder(self) -> None:
        try:
            missing = [path for path in (self.data_dir, *self.data_dir.parents) if not path.exists()]
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o755 if self._user else 0o700)  # whatever the umask: we have just made it
        except OSError as error:
            raise self._unusable(f"the data directory {self.data_dir} cannot be made: {error.strerror}") from None
        if not self.data_dir.is_dir() or not os.access(self.data_dir, os.W_OK | os.X_OK):
            raise self._unusable(f"{self.data_dir} is not a folder that this user may write to")
        if self._user is not None:
            self._check_passage(self._user)

    def _check_passage(self, user: OsUser) -> None:
        closed = user.closed_parent(self.data_dir)
        if closed is None and not user.may_enter(self.data_dir):
            # The folder was named to be ours. Empty, or holding what we put there, it may be passed through
            # (not listed) by the server's user; any other folder stays as it is.
            names = {path.name for path in self.data_dir.iterdir()}
            if not names or "postgres.start.lock" in names:
                self.data_dir.chmod(self.data_dir.stat().st_mode | 0o011)
            else:
                closed = self.data_dir
        if closed is not None:
            raise Unavailable(
                "data_dir_closed",
                f"the embedded server runs as user {user.name!r}, which may not pass through {closed}",
                next_step="set TALLY_DATA_DIR to a folder that other users may pass through, such as "
                "/var/lib/tallystick, or set DATABASE_URL",
            )

    def _socket_dir(self) -> Path:
        if len(os.fsencode(self.cluster)) + len(_SOCKET_NAME) <= _SOCKET_PATH_BYTES_MAX:
            return self.cluster
        digest = hashlib.sha256(os.fsencode(self.cluster)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"tally-{digest}"
        owner = self._user.uid if self._user else os.geteuid()
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            os.chown(folder, owner, -1)
        found = folder.lstat()
        too_long = len(os.fsencode(folder)) + len(_SOCKET_NAME) > _SOCKET_PATH_BYTES_MAX
        if too_long or folder.is_symlink() or found.st_uid != owner or found.st_mode & 0o077:
            raise Unavailable(
                "socket_dir_unusable",
                f"the path of {self.cluster} is too long for a socket, and {folder} cannot be used instead",
                next_step="set TALLY_DATA_DIR to a shorter path",
            )
        return folder

    # ── the server ──────────────────────────────────────────────────────────────────────────────

    def _make_cluster(self) -> None:
        half_done = self.data_dir / "postgres.new"
        shutil.rmtree(half_done, ignore_errors=True)
        half_done.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(half_done, self._user.uid, self._user.gid)
        # No locale: text sorts by code point here, on every machine alike.
        arguments = ("--auth=trust", "--encoding=UTF8", "--no-locale", "-U", _SUPERUSER, "-D", str(half_done))
        self._run("initdb", *arguments, major=NEWEST)
        half_done.rename(self.cluster)

    def _start(self) -> None:
        socket_dir = self._socket_dir()
        # It does not run: this was left behind, and PostgreSQL might take its process id for a running server's.
        for leftover in (self.cluster / "postmaster.pid", *socket_dir.glob(".s.PGSQL.5432*")):
            leftover.unlink(missing_ok=True)
        settings = {**self._settings, "unix_socket_directories": str(socket_dir)}
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        log = str(self.cluster / "server.log")
        self._run(
            "pg_ctl", "-w", "-t", str(_START_SECONDS_MAX), "-D", str(self.cluster), "-l", log, "-o", options, "start"
        )

    def _running_pid(self) -> int | None:
        """The postmaster's process id, None when it is not running (its pid file may outlive it)."""
        try:
            pid = int((self.cluster / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:  # it is there, and another user's
            pass
        command = Path(f"/proc/{pid}/cmdline")
        # After a restart of the machine the number may belong to somebody else.
        if command.exists() and os.fsencode(self.cluster) not in command.read_bytes():
            return None
        return pid

    def _leave(self) -> None:
        """Give up our share; stop the server when nobody else holds one. The start lock is held."""
        users, self._users_lock = self._users_lock, None
        if users is None:
            return
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        else:
            self._run("pg_ctl", "-w", "-t", str(_START_SECONDS_MAX), "-D", str(self.cluster), "-m", "fast", "stop")
        finally:
            os.close(users)

    def _ensure_database(self) -> str:
        import psycopg

        socket_dir = (self.cluster / "postmaster.pid").read_text().splitlines()[4]
        address = f"postgresql://{_SUPERUSER}@/{{}}?host={quote(socket_dir, safe='')}"
        try:
            with psycopg.connect(address.format("postgres"), autocommit=True, connect_timeout=30) as connection:
                found = connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone()
                if found is None:
                    connection.execute(f'create database "{DATABASE}"')
        except psycopg.Error as error:
            raise self._start_failed(str(error)) from None
        return address.format(DATABASE)

    def _run(self, program: str, *arguments: str, major: str | None = None) -> None:
        major = major or (self.cluster / "PG_VERSION").read_text().strip()
        home = find_postgres(major, self._user, self.data_dir)
        # No inherited locale or PG* variables; a folder that the server's user may stand in.
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        with tempfile.TemporaryFile() as output:
            # A file, not a pipe: the server inherits it, and a pipe would stay open as long as it runs.
            done = subprocess.run(  # noqa: S603 - our own programs and settings
                [home / "bin" / program, *arguments],
                check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", env=environment,
                umask=0o077,
                user=self._user.uid if self._user else None,
                group=self._user.gid if self._user else None,
                extra_groups=[] if self._user else None,
            )  # fmt: skip
            if done.returncode:
                output.seek(0)
                raise self._start_failed(f"{program}: " + output.read().decode(errors="replace") + self._log_tail())

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join((self.cluster / "server.log").read_text(errors="replace").splitlines()[-5:])
        return ""

    @contextlib.contextmanager
    def _start_lock(self) -> Iterator[None]:
        try:
            lock = os.open(self.data_dir / "postgres.start.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(f"{self.data_dir} cannot be written to: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _unusable(self, detail: str) -> Unavailable:
        return Unavailable(
            "data_dir_unusable",
            detail,
            next_step="set TALLY_DATA_DIR to a folder that this user may write to, or set DATABASE_URL",
        )

    def _start_failed(self, detail: str) -> Unavailable:
        return Unavailable(
            "server_start_failed",
            f"the embedded PostgreSQL in {self.cluster} did not start: {' '.join(detail.split())}",
            next_step=f"read {self.cluster / 'server.log'}; or set DATABASE_URL to a PostgreSQL 15+ server",
        )
