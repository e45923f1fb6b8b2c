"""A bank under fire: 64 clients of several processes spend from 10 wallets, while processes and database are killed.

`python -m crash.bank [SECONDS] [SEED]`. In the end: every answer that anybody was given stands in the ledger, no wallet
was overdrawn, no hold resolved twice, balances are the sums of transfers, the tables of state are what the ledger folds
to, and `tally verify` finds everything as it was written.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from account_operations import CHECKS, subscribe
from crash.bank_teller import CONTRACT, ORGS
from crash.rounds import named_steps
from tally_processes import TallyProcess, run_tally
from tallystick.app.hold_expiry import expire_due
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.journal.server import EmbeddedServer

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 2
CLIENTS = 32
"""In each process."""
_KILL_EVERY_SECONDS = (0.8, 2.6)
_LAST_SECONDS = 2
_END_SECONDS_MAX = 180
_DATABASE_EVERY = 4
_DATABASE_SECONDS = 8
"""One kill of so many is the database's, and it has so long to come back and to be of use."""
_OPERATIONS = "select org_id, seq, kind, encode(leaf, 'hex') from ledger_entries where body is not null"


@dataclass
class Report:
    """What it came to."""

    seed: int
    seconds: float
    kills: Counter[str] = field(default_factory=Counter)
    promises: int = 0
    entries: Counter[str] = field(default_factory=Counter)
    wrongs: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        said = f"seed {self.seed}: {self.seconds:g} s, kills {dict(self.kills)}, {self.promises} promises, "
        said += f"entries {dict(self.entries)}, {len(self.wrongs)} wrongs"
        return said + "".join(f"\n  {wrong}" for wrong in self.wrongs[:20])


def run(
    folder: Path,
    *,
    seconds: float,
    seed: int,
    progress: Callable[[str], object] = lambda _: None,
    is_enough: Callable[[Counter[str], int], bool] = lambda *_: False,
) -> Report:
    """Let them spend for so long, killing as the seed says, and check what is left.

    Args:
        is_enough: whether so many kills and answers will do: then the bank closes before its time.
    """
    report, draw = Report(seed, seconds), random.Random(seed)
    promises = folder / "promises"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
    environment |= {"TALLY_DATA_DIR": str(folder), "PYTHONPATH": str(ROOT / "tests")}
    environment.pop("DATABASE_URL", None)
    with EmbeddedServer(folder):
        with open_runtime(Settings(data_dir=folder)) as runtime:
            subscribe(runtime, *ORGS, plan="wallet", contract=CONTRACT)
        bank = _Bank(folder, seed, draw, time.monotonic() + seconds, environment, report)
        try:
            bank.keep_open(progress, is_enough)
        finally:
            bank.close()
        progress("the time is up: looking at what is left")
        _check(folder, promises, environment, report)
    return report


class _Bank:
    """Its tellers: processes that are opened, killed, and opened again."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        draw: random.Random,
        until: float,
        environment: dict[str, str],
        report: Report,
    ) -> None:
        self._folder = folder
        self._seed = seed
        self._draw = draw
        self._until = until
        self._environment = environment
        self._report = report
        self._steps = named_steps("operations.")
        self._opened = 0
        self._database_due = time.monotonic() + _DATABASE_SECONDS / 2
        self._answers, self._read_bytes = 0, 0
        self._tellers = [self._open() for _ in range(PROCESSES)]

    def keep_open(self, progress: Callable[[str], object], is_enough: Callable[[Counter[str], int], bool]) -> None:
        """Until the time is up, or it is enough; the last tellers finish what they are at."""
        kill_at = time.monotonic() + _KILL_EVERY_SECONDS[1]
        while (now := time.monotonic()) < self._until - _LAST_SECONDS:
            time.sleep(0.05)
            for place, (teller, step) in enumerate(self._tellers):
                if teller.poll() == -signal.SIGKILL:
                    self._report.kills[step] += 1
                    self._tellers[place] = self._open()
            if now < kill_at:
                continue
            kill_at = now + self._draw.uniform(*_KILL_EVERY_SECONDS)
            if now >= self._database_due and self._is_databases_turn():
                self._kill_database()
                self._database_due = now + _DATABASE_SECONDS
            else:
                place = self._draw.randrange(PROCESSES)
                teller, _ = self._tellers[place]
                teller.kill()
                teller.wait()
                self._report.kills["a moment"] += 1
                self._tellers[place] = self._open()
            left, answers = self._until - time.monotonic(), self._count_answers()
            progress(f"{left:3.0f} s to go: {answers} answers, kills {dict(self._report.kills)}")
            if is_enough(self._report.kills, answers):
                break
        for teller, _ in self._tellers:
            teller.send_signal(signal.SIGTERM)
        for teller, step in self._tellers:
            try:
                code = teller.wait(_END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self._report.wrongs.append(f"a teller has not ended after {_END_SECONDS_MAX} seconds: {self._log()}")
                continue
            if code == -signal.SIGKILL:
                self._report.kills[step] += 1
            elif code not in (0, -signal.SIGTERM):  # which one that has not opened yet dies of
                self._report.wrongs.append(f"a teller ended with {code}: {self._log()}")

    def close(self) -> None:
        """Leave none of them behind."""
        for teller, _ in self._tellers:
            teller.kill()
            teller.wait(_END_SECONDS_MAX)

    def _count_answers(self) -> int:
        """How many were written down so far; what was counted before is not read again."""
        with suppress(FileNotFoundError), (self._folder / "promises").open("rb") as file:
            file.seek(self._read_bytes)
            fresh = file.read()
            self._read_bytes += len(fresh)
            self._answers += fresh.count(b"\n")
        return self._answers

    def _log(self) -> str:
        return (self._folder / "log").read_text()[-2000:]

    def _open(self) -> tuple[TallyProcess, str]:
        name, seconds = f"t{self._opened}", max(1.0, self._until - time.monotonic())
        # Each step is died at sooner or later; the count lets some work be done before.
        step = self._steps[self._opened % len(self._steps)]
        times = self._draw.randint(5, 150)
        self._opened += 1
        given = (self._folder, name, self._seed, seconds, CLIENTS, self._folder / "promises", step, times)
        with (self._folder / "log").open("ab") as log:
            said = log.fileno()
            main = "crash.bank_teller"
            return TallyProcess(given, env=self._environment, stdout=said, stderr=said, main=main), step

    def _is_databases_turn(self) -> bool:
        """Once for certain, however short the time; then by chance."""
        return not self._report.kills["database"] or self._draw.randrange(_DATABASE_EVERY) == 0

    def _kill_database(self) -> None:
        try:
            pid = int((self._folder / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):  # it is being started
            return
        os.kill(pid, signal.SIGKILL)
        self._report.kills["database"] += 1


def _check(folder: Path, promises: Path, environment: dict[str, str], report: Report) -> None:
    """What must hold, whatever died."""
    with open_runtime(Settings(data_dir=folder)) as runtime:
        time.sleep(2.1)  # the life of a hold
        expire_due(runtime)
        url = runtime.database.url
        with psycopg.connect(url) as connection:
            for name, query in CHECKS.items():
                report.wrongs += [f"{name}: {row}" for row in connection.execute(query.encode())]
            for kind, count in connection.execute("select kind, count(*) from ledger_entries group by kind"):
                report.entries[kind] = count
            open_holds = connection.execute("select count(*) from open_holds").fetchall()
            if open_holds != [(0,)]:
                report.wrongs.append(f"holds outlive their life: {open_holds}")
            rows = connection.execute(_OPERATIONS)
            stored = {(org, seq): (kind, leaf) for org, seq, kind, leaf in rows}
    for line in promises.read_text().splitlines():
        said = json.loads(line)
        if "wrong" in said:
            report.wrongs.append(said["wrong"])
        elif "seq" in said:
            report.promises += 1
            kept = stored.get((said["org"], said["seq"]))
            if kept != (said["kind"], said["leaf"]):
                report.wrongs.append(f"a promise is broken: {said} is {kept}")
    for command in (["verify", "--json"], ["seal", "--all"], ["verify", "--json"]):
        done = run_tally(*command, env=environment, timeout=600)
        if done.returncode:
            said = (done.stdout + done.stderr)[-3000:]
            report.wrongs.append(f"{command} ended with {done.returncode}: {said}")


def main() -> None:
    """The long run."""
    import shutil
    import tempfile

    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="tally-"))
    folder.chmod(0o711)
    report = run(folder, seconds=seconds, seed=seed, progress=lambda said: print(said, file=sys.stderr, flush=True))
    print(report)
    if report.wrongs:
        print(f"what is left is in {folder}", file=sys.stderr)
        sys.exit(1)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
