"""A database that is restarted, killed and cut off under load: every acknowledged event is there, once, in its place.

`PYTHONPATH=tests python -m faults [SECONDS_PER_FAULT] [SEED] [FAULT …]` runs them for longer than the suite does. Every
choice comes from one seed, which is printed.

Two runtimes, each with a writer of its own, bring events from several threads to one server, through a proxy. While a
fault goes on, whatever is refused is sent again; so are some that were acknowledged.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from crash.checks import wrongs
from crash.traffic import Ledger, event
from fault_tools import Proxy, cut_at_bytes, cut_at_commit
from tallystick.app.ingest import ingest_events
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import Unavailable
from tallystick.journal.server import EmbeddedServer
from tallystick.journal.server_process import postmaster_pid

SENDERS = 3
"""Threads of each of the two runtimes."""
REFUSALS = ("database_unreachable", "journal_busy", "storage_full")
"""How calls may be refused while a fault goes on."""
_RECOVERY_SECONDS_MAX = 60


@dataclass
class Arena:
    """What a fault strikes: the server, a way to it that can be cut, and the dice."""

    server: EmbeddedServer
    url: str
    proxy: Proxy
    dice: random.Random
    struck: int = 0

    def signal_postmaster(self, number: int) -> None:
        """Send the postmaster a signal: SIGINT stops it fast, SIGQUIT at once and without order."""
        pid = postmaster_pid(self.server.cluster)
        if pid is not None:
            self.struck += 1
            os.kill(pid, number)

    def backends(self) -> list[int]:
        """The process ids of who serves clients; none while the server is away."""
        asked = "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        with suppress(psycopg.Error), psycopg.connect(self.url) as connection:
            return [pid for (pid,) in connection.execute(asked)]
        return []


def _restart_fast(arena: Arena) -> None:
    arena.signal_postmaster(signal.SIGINT)


def _restart_immediate(arena: Arena) -> None:
    arena.signal_postmaster(signal.SIGQUIT)


def _kill_postmaster(arena: Arena) -> None:
    arena.signal_postmaster(signal.SIGKILL)


def _terminate_backends(arena: Arena) -> None:
    for pid in arena.backends():
        if arena.dice.random() < 0.5:
            with suppress(psycopg.Error), psycopg.connect(arena.url) as connection:
                connection.execute("select pg_terminate_backend(%s)", [pid])
                arena.struck += 1


def _kill_backend(arena: Arena) -> None:
    for pid in arena.backends()[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # the server takes it for a crash, and recovers
            arena.struck += 1


def _cut_at_commits(arena: Arena) -> None:
    arena.proxy.cut = cut_at_commit(arena.dice)


def _cut_at_bytes(arena: Arena) -> None:
    arena.proxy.cut = cut_at_bytes(arena.dice, mean_bytes=60_000)


@dataclass(frozen=True)
class Fault:
    """What is done, again and again, with pauses of about so many seconds."""

    strike: Callable[[Arena], None]
    pause_seconds: float


FAULTS = {
    "restarted": Fault(_restart_fast, 0.9),
    "stopped_at_once": Fault(_restart_immediate, 0.9),
    "postmaster_killed": Fault(_kill_postmaster, 0.9),
    "backends_terminated": Fault(_terminate_backends, 0.15),
    "backend_killed": Fault(_kill_backend, 0.9),
    "cut_at_commit": Fault(_cut_at_commits, 0.3),
    "cut_anywhere": Fault(_cut_at_bytes, 0.3),
}


@dataclass(frozen=True)
class Report:
    """What came of it."""

    fault: str
    seed: int
    struck: int
    promised: int
    resent: int
    refused: int
    wrongs: list[str]

    def __str__(self) -> str:
        said = f"{self.fault}, seed {self.seed}: struck {self.struck} times, {self.promised} events promised, "
        said += f"{self.resent} resent, {self.refused} calls refused, {len(self.wrongs)} promises broken"
        return said + "".join(f"\n  {wrong}" for wrong in self.wrongs[:20])


class _Senders:
    """Threads that bring events until they are told to stop."""

    def __init__(self, ledger: Ledger, runtimes: list[Runtime]) -> None:
        self.refused = 0
        self._ledger = ledger
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(runtime,)) for runtime in runtimes for _ in range(SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self, runtime: Runtime) -> None:
        while not self._over.is_set():
            if not bring(runtime, self._ledger, self._ledger.take()):
                self.refused += 1
                time.sleep(0.01)


def bring(runtime: Runtime, ledger: Ledger, numbers: list[int]) -> bool:
    """Send events and take down the answer; whether there was one."""
    try:
        results = ingest_events(runtime, [event(number) for number in numbers])
    except Unavailable as error:
        if error.code not in REFUSALS:
            ledger.broken.append(f"refused with {error.code}: {error.detail}")
        return False
    except Exception as error:
        ledger.broken.append(f"{type(error).__name__}: {error}")
        return False
    ledger.note(numbers, [result.as_dict() for result in results])
    return True


def resend_the_rest(runtime: Runtime, ledger: Ledger) -> None:
    """Send what had no answer until it has one."""
    deadline = time.monotonic() + _RECOVERY_SECONDS_MAX
    while ledger.unanswered:
        if not bring(runtime, ledger, sorted(ledger.unanswered)[:1000]):
            if time.monotonic() > deadline:
                ledger.broken.append(f"not back after {_RECOVERY_SECONDS_MAX} seconds")
                return
            time.sleep(0.05)


def answers_again(url: str) -> bool:
    """Whether the server takes new connections, sooner or later.

    That the rest could be sent does not say so: the processes of a postmaster that was killed serve whom they have for
    a moment longer.
    """
    deadline = time.monotonic() + _RECOVERY_SECONDS_MAX
    while time.monotonic() < deadline:
        with suppress(psycopg.Error), psycopg.connect(url) as connection:
            connection.execute("select 1")
            return True
        time.sleep(0.05)
    return False


def strangers(url: str, ledger: Ledger) -> list[str]:
    """Events that are stored although nobody was promised that, once everything was sent again."""
    with psycopg.connect(url) as connection:
        stored = {request_id for (request_id,) in connection.execute("select request_id from ledger_entries")}
    return [f"stored, and not promised: {one}" for one in stored - {f"r{number}" for number in ledger.promises}]


def strike(fault: str, server: EmbeddedServer, url: str, folder: Path, *, seconds: float, seed: int) -> Report:
    """Let a fault strike for so long while events come in, then look whether every promise was kept."""
    dice = random.Random(f"{seed} {fault}")
    ledger = Ledger(random.Random(f"{seed} {fault} traffic"))
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(url))
        arena = Arena(server, url, proxy, dice)
        settings = Settings(database_url=proxy.url, data_dir=folder)
        runtimes = [stack.enter_context(open_runtime(settings)) for _ in range(2)]
        for runtime in runtimes:
            runtime.known_meters()
        senders = _Senders(ledger, runtimes)
        try:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                time.sleep(FAULTS[fault].pause_seconds * (0.3 + dice.random()))
                FAULTS[fault].strike(arena)
        finally:
            senders.stop()
        proxy.cut = lambda _direction, _data: None
        resend_the_rest(runtimes[0], ledger)
    if not answers_again(url):
        ledger.broken.append(f"the server is not back after {_RECOVERY_SECONDS_MAX} seconds")
        return Report(fault, seed, arena.struck, len(ledger.promises), ledger.resent, senders.refused, ledger.broken)
    found = wrongs(url, ledger) + strangers(url, ledger)
    struck = arena.struck + proxy.cuts
    return Report(fault, seed, struck, len(ledger.promises), ledger.resent, senders.refused, found)


def fresh_database(url: str, name: str) -> str:
    """A new database on the server of that URL: its URL."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    head, _, query = url.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{name}?{query}"


def main() -> None:
    """Run the faults that are named, or all of them, and end with 1 when a promise was broken."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    broken = False
    with tempfile.TemporaryDirectory(prefix="tally-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        server = EmbeddedServer(folder)
        with server as url:
            for number, fault in enumerate(sys.argv[3:] or FAULTS):
                own = fresh_database(url, f"fault_{number}")
                report = strike(fault, server, own, folder, seconds=seconds, seed=seed)
                print(report, flush=True)
                broken = broken or bool(report.wrongs)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
