"""The embedded PostgreSQL: one server for each data directory, shared by every process that uses it.

Three files in the data directory keep the processes in step, all released by the kernel when a process
dies, however it dies:

    postgres/            the cluster; 0700, its own user's when we are root; the socket is inside when it fits
    postgres.start.lock  held while starting or stopping
    postgres.users.lock  held shared by every process that uses the server; the last one out stops it

While a process uses the server it also watches it (`server_watch`): a postmaster that is gone is started again.
Folders that are not ours are never opened to others: where the server's user cannot pass, we refuse and say so.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from tallystick.core.errors import Unavailable
from tallystick.journal.binaries import NEWEST, find_postgres
from tallystick.journal.os_user import OsUser, server_user
from tallystick.journal.roles import ALL_LOGINS
from tallystick.journal.server_folder import find_socket_dir, has_no_room, prepare_folder, storage_full, unusable_folder
from tallystick.journal.server_process import clear_the_way, postmaster_pid
from tallystick.journal.server_settings import server_settings
from tallystick.journal.server_watch import Watch

DATABASE = "tallystick"
_SUPERUSER = "postgres"
_WHO_MAY_CONNECT = f"""\
# Through the socket, whose folder only its owner and root can pass into: the owner of the tables, and the roles that
# work with them.
local all {_SUPERUSER} trust
local all {",".join(ALL_LOGINS)} trust
"""
_START_SECONDS_MAX = 120  # a crash recovery may have a lot to read
_FULL_SECONDS_MAX = 10
"""How long a server that has no room on its disk is waited for: it will not recover before somebody makes some."""
_STOP_SECONDS_MAX = 60

_LOG_TAIL_BYTES = 1 << 16
_NO_SPACE = "No space left on device"

_log = logging.getLogger("tallystick.server")


@dataclass(frozen=True, slots=True)
class ServerState:
    """How the embedded server fares, as this process sees it.

    Attributes:
        running: whether its postmaster is there.
        restarts: how often this process found it gone and started it again.
        error: why it could not be started again the last time that this was tried; None once it runs.
    """

    running: bool
    restarts: int
    error: Unavailable | None


class EmbeddedServer:
    """A handle on the server of one data directory; `open()` starts it when no process has done so.

    Until `close()`, a postmaster that is gone (killed, crashed, out of disk) is started again by whichever of the
    processes that use it sees that first.
    """

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = Path(os.path.abspath(data_dir.expanduser()))
        self.cluster = self.data_dir / "postgres"
        self._given_settings = dict(settings or {})
        self._users_lock: int | None = None
        self._user: OsUser | None = None
        self._watch: Watch | None = None

    def open(self) -> str:
        """Start the server or join it, and give the URL of its database.

        Raises:
            Unavailable: `data_dir_closed`, `data_dir_unusable`, `socket_dir_unusable`, `server_user_missing`,
                `postgres_missing`, `storage_full` or `server_start_failed`, each with what to do about it.
        """
        self._user = server_user()
        prepare_folder(self.data_dir, self._user)
        with self._locked("postgres.start.lock", fcntl.LOCK_EX):
            if not (self.cluster / "PG_VERSION").exists():
                self._make_cluster()
            if postmaster_pid(self.cluster) is None:
                self._start()
            self._users_lock = self._lock("postgres.users.lock", fcntl.LOCK_SH)
            try:
                url = self._ensure_database()
            except BaseException:
                self._leave()
                raise
        self._watch = Watch(self._is_running, self._revive)
        return url

    def close(self) -> None:
        """Leave the server; the last process to leave stops it. Leaving twice does nothing more."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        if self._users_lock is not None:
            with self._locked("postgres.start.lock", fcntl.LOCK_EX):
                self._leave()

    def state(self) -> ServerState:
        """Whether it runs, and what this process has had to do for that."""
        watch = self._watch
        return ServerState(self._is_running(), watch.restarts if watch else 0, watch.error if watch else None)

    def __enter__(self) -> str:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ── the server ──────────────────────────────────────────────────────────────────────────────

    def _make_cluster(self) -> None:
        half_done = self.data_dir / "postgres.new"
        shutil.rmtree(half_done, ignore_errors=True)
        try:
            half_done.mkdir(mode=0o700)
            if self._user is not None:
                os.chown(half_done, self._user.uid, self._user.gid)
        except OSError as error:
            raise unusable_folder(self.data_dir, error) from None
        # No locale: text sorts by code point here, on every machine alike.
        arguments = ("--auth=trust", "--encoding=UTF8", "--no-locale", "-U", _SUPERUSER, "-D", str(half_done))
        self._run("initdb", *arguments, major=NEWEST)
        try:
            (half_done / "pg_hba.conf").write_text(_WHO_MAY_CONNECT)
            half_done.rename(self.cluster)
        except OSError as error:
            raise unusable_folder(self.data_dir, error) from None

    def _start(self) -> None:
        socket_dir = find_socket_dir(self.cluster, self._user)
        clear_the_way(self.cluster, socket_dir)
        settings = {
            **server_settings(self.data_dir),
            **self._given_settings,
            "unix_socket_directories": str(socket_dir),
        }
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        log = str(self.cluster / "server.log")
        self._run(
            "pg_ctl", "-w", "-t", str(_START_SECONDS_MAX), "-D", str(self.cluster), "-l", log, "-o", options, "start"
        )

    def _is_running(self) -> bool:
        return postmaster_pid(self.cluster) is not None

    def _revive(self) -> bool:
        """Start the server unless another process has just done so; whether it was us."""
        with self._locked("postgres.start.lock", fcntl.LOCK_EX):
            if self._is_running():
                return False
            try:
                self._start()
            except OSError as error:
                raise unusable_folder(self.data_dir, error) from None
            return True

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
            self._stop()
        finally:
            os.close(users)

    def _stop(self) -> None:
        if not self._is_running():
            return
        # What is committed is safe either way: after "immediate" the next start recovers it. "fast" may hang when it
        # comes while the server is recovering.
        for mode in ("fast", "immediate"):
            try:
                self._run("pg_ctl", "-w", "-t", str(_STOP_SECONDS_MAX), "-D", str(self.cluster), "-m", mode, "stop")
            except Unavailable as error:
                _log.warning("the embedded server did not stop in good order: %s", error.detail)
            else:
                return

    def _ensure_database(self) -> str:
        import psycopg

        begun = time.monotonic()
        while True:
            try:
                address = f"postgresql://{_SUPERUSER}@/{{}}?host={quote(self._noted_socket_dir(), safe='')}"
                with psycopg.connect(address.format("postgres"), autocommit=True, connect_timeout=30) as connection:
                    found = connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone()
                    if found is None:
                        connection.execute(f'create database "{DATABASE}"')
                return address.format(DATABASE)
            except (psycopg.Error, OSError, LookupError) as error:
                # It may be starting still, for a process that was killed meanwhile: it notes its socket after its
                # number. It may be recovering: a process of it was killed, and the postmaster starts the others again.
                # What a caller is told then depends on the moment; that the postmaster lives does not.
                seconds_max = _FULL_SECONDS_MAX if has_no_room(self.data_dir) else _START_SECONDS_MAX
                if not self._is_running() or time.monotonic() - begun > seconds_max:
                    raise self._start_failed(str(error)) from None
            time.sleep(0.1)

    def _noted_socket_dir(self) -> str:
        """Where the running server listens, as it notes itself; LookupError or OSError while it has not."""
        noted = (self.cluster / "postmaster.pid").read_text().splitlines()[4]
        if not noted:
            raise LookupError("it has not said yet where it listens")
        return noted

    def _run(self, program: str, *arguments: str, major: str | None = None) -> None:
        major = major or (self.cluster / "PG_VERSION").read_text().strip()
        try:
            home = find_postgres(major, self._user, self.data_dir)
        except OSError as error:
            raise unusable_folder(self.data_dir, error) from None
        # No inherited locale or PG* variables; a folder that the server's user may stand in.
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        log_bytes = self._log_bytes()
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
                said = output.read().decode(errors="replace") + self._log_since(log_bytes)
                raise self._start_failed(f"{program}: {said}")

    def _log_bytes(self) -> int:
        with contextlib.suppress(OSError):
            return (self.cluster / "server.log").stat().st_size
        return 0

    def _log_since(self, start: int) -> str:
        """The last lines that the server has logged since its log was `start` bytes long."""
        with contextlib.suppress(OSError), (self.cluster / "server.log").open("rb") as log:
            log.seek(max(start, self._log_bytes() - _LOG_TAIL_BYTES))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-5:])
        return ""

    def _lock(self, name: str, kind: int) -> int:
        """Open the lock file of that name and lock it; closing the descriptor releases it."""
        try:
            lock = os.open(self.data_dir / name, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise unusable_folder(self.data_dir, error) from None
        fcntl.flock(lock, kind)
        return lock

    @contextlib.contextmanager
    def _locked(self, name: str, kind: int) -> Iterator[None]:
        lock = self._lock(name, kind)
        try:
            yield
        finally:
            os.close(lock)

    def _start_failed(self, detail: str) -> Unavailable:
        if _NO_SPACE in detail or has_no_room(self.data_dir):
            return storage_full(self.data_dir)
        return Unavailable(
            "server_start_failed",
            f"the embedded PostgreSQL in {self.cluster} did not start: {' '.join(detail.split())}",
            next_step=f"read {self.cluster / 'server.log'}; or set DATABASE_URL to a PostgreSQL 15+ server",
        )
