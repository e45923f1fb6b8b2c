"""Rounds of killing: a server under load dies at a chosen step or moment, and once started again must keep its word.

Every choice comes from one seed. What dies, in turn:

    append    `tally serve`, at a named step of writing
    moment    `tally serve`, at a random moment
    database  the database's postmaster, at a random moment, and `tally serve` after it
    seal      `tally seal`, at a named step, while `tally serve` is under load
    erase     `tally erase-person`, at a named step, and is then run again
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from crash import traffic
from crash.checks import wrongs
from crash.traffic import Ledger, send_until_it_dies
from tally_processes import TallyProcess, run_tally
from tallystick.journal.server import EmbeddedServer

ROOT = Path(__file__).resolve().parents[2]
_REACHED = re.compile(r'\breached\("([a-z_.]+)"\)')
_LISTENING = re.compile(r"listening on \S+:(\d+)")
_START_SECONDS_MAX = 90


def named_steps(prefix: str) -> list[str]:
    """Every step that the code names, read from the code: none can be forgotten here."""
    return sorted(name for name in _steps() if name.startswith(prefix))


@cache
def _steps() -> set[str]:
    texts = (path.read_text() for path in (ROOT / "src" / "tallystick").rglob("*.py"))
    return {name for text in texts if "reached(" in text for name in _REACHED.findall(text)}


@dataclass
class Report:
    """What the rounds came to."""

    seed: int
    rounds: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    promised: int = 0
    resent: int = 0
    wrongs: list[str] = field(default_factory=list)

    def count(self, what: str) -> None:
        self.kills[what] = self.kills.get(what, 0) + 1

    def __str__(self) -> str:
        kills = sum(self.kills.values())
        said = f"seed {self.seed}: {self.rounds} rounds, {kills} kills, {self.promised} events promised"
        said += f", {self.resent} resent, {len(self.wrongs)} promises broken"
        return said + "".join(f"\n  {wrong}" for wrong in self.wrongs[:20])


class Rounds:
    """The rounds in one data directory, whose database lives through all of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.ledger = Ledger(random.Random(seed + 1))
        self.report = Report(seed)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TALLY_")},
            "TALLY_DATA_DIR": str(folder),
            "TALLY_SEAL_SECONDS": "0",
            "PYTHONPATH": str(ROOT / "tests"),
        }
        self.environment.pop("DATABASE_URL", None)

    def play(self, rounds: int, progress: Callable[[str], object] = lambda _: None) -> Report:
        """Play so many rounds, each named step at least once when there are enough, and check after each."""
        play = {
            "append": self._append,
            "moment": self._moment,
            "database": self._database,
            "seal": self._seal,
            "erase": self._erase,
        }
        with EmbeddedServer(self.folder):  # held open, so that rounds need not wait for it to stop and start
            for kind, step in self._plan(rounds):
                self.report.rounds += 1
                play[kind](step)
                self._check()
                progress(f"{kind} {step}".strip())
                if self.report.wrongs:
                    break
            self._verify()
        return self.report

    def _plan(self, rounds: int) -> list[tuple[str, str]]:
        steps = [(kind, step) for kind in ("append", "seal", "erase") for step in named_steps(f"{kind}.")]
        kinds = [*steps, ("moment", ""), ("database", "")]
        plan = (kinds * (rounds // len(kinds) + 1))[:rounds]
        self.random.shuffle(plan)
        return plan

    # ── what dies ───────────────────────────────────────────────────────────────────────────────

    def _append(self, step: str) -> None:
        with self._server(step, self.random.randint(1, 25)) as (process, port):
            self._send(port, requests_max=200)
            self._must_be_dead(process, step)

    def _moment(self, _: str) -> None:
        with self._server() as (process, port):
            self._send_and(port, lambda: process.send_signal(signal.SIGKILL))
            self._must_be_dead(process, "a moment")

    def _database(self, _: str) -> None:
        with self._server() as (process, port):
            self._send_and(port, self._kill_postmaster, requests_max=30)
            process.send_signal(signal.SIGKILL)
            self._must_be_dead(process, "postmaster")

    def _seal(self, step: str) -> None:
        with self._server() as (process, port):
            self._send(port, requests_max=10)
            sealing = self._start([step, "1", "seal", "--all"])
            self._send(port, requests_max=10)
            self._must_be_dead(sealing, step)
            self._run("seal", "--all")
            process.send_signal(signal.SIGTERM)
            process.wait(_START_SECONDS_MAX)

    def _erase(self, step: str) -> None:
        with self._server() as (_, port):
            self._send(port, requests_max=10)
        self._run("seal", "--all")
        event = traffic.event(self.random.choice(list(self.ledger.promises)))
        person = ("erase-person", event["org_id"], event["user_id"])
        self._must_be_dead(self._start([step, "1", *person]), step)
        self._run(*person)

    def _must_be_dead(self, process: TallyProcess, what: str) -> None:
        try:
            status = process.wait(_START_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            status = None
            process.kill()
        if status == -signal.SIGKILL:
            self.report.count(what)
        else:
            self.report.wrongs.append(f"{what} was never reached: it ended with {status}; {self._log()}")

    def _kill_postmaster(self) -> None:
        pid = int((self.folder / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, signal.SIGKILL)

    # ── servers and senders ─────────────────────────────────────────────────────────────────────

    @contextmanager
    def _server(self, step: str = "never", times: int = 1) -> Iterator[tuple[TallyProcess, int]]:
        process = self._start([step, str(times), "serve", "--port", "0"])
        try:
            yield process, self._port(process)
        finally:
            process.kill()
            process.wait()

    def _start(self, arguments: list[str]) -> TallyProcess:
        with (self.folder / "log").open("wb") as log:
            said = log.fileno()
            return TallyProcess(arguments, env=self.environment, stdout=said, stderr=said, main="crash.victim")

    def _port(self, process: TallyProcess) -> int:
        deadline = time.monotonic() + _START_SECONDS_MAX
        while not (found := _LISTENING.search((self.folder / "log").read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start (seed {self.report.seed}): {self._log()}")
            time.sleep(0.02)
        return int(found[1])

    def _log(self) -> str:
        return (self.folder / "log").read_text()[-3000:]

    def _run(self, *arguments: str) -> None:
        done = run_tally(*arguments, env=self.environment)
        if done.returncode:
            said = (done.stdout + done.stderr)[-3000:]
            self.report.wrongs.append(f"tally {' '.join(arguments)} ended with {done.returncode}: {said}")

    def _send(self, port: int, *, requests_max: int) -> None:
        send_until_it_dies(port, self.ledger, senders=4, requests_max=requests_max)

    def _send_and(self, port: int, kill: Callable[[], object], *, requests_max: int = 1000) -> None:
        from threading import Timer

        timer = Timer(self.random.uniform(0.02, 0.8), kill)
        timer.start()
        self._send(port, requests_max=requests_max)
        timer.join()

    # ── what must hold ──────────────────────────────────────────────────────────────────────────

    def _check(self) -> None:
        with EmbeddedServer(self.folder) as url:
            self.report.wrongs += wrongs(url, self.ledger)
        self.report.promised = len(self.ledger.promises)
        self.report.resent = self.ledger.resent

    def _verify(self) -> None:
        self._run("seal", "--all")
        self._run("verify", "--json")


def main() -> None:
    """`python -m crash.rounds [ROUNDS] [SEED]`."""
    import shutil
    import tempfile

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="tally-"))
    folder.chmod(0o711)
    played = Rounds(folder, seed)

    def progress(what: str) -> None:
        print(f"round {played.report.rounds} of {rounds}: {what}", file=sys.stderr, flush=True)

    report = played.play(rounds, progress)
    print(report)
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if report.wrongs else 0)


if __name__ == "__main__":
    main()
