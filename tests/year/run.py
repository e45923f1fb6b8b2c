"""The year, lived in several ways: `python3 tasks.py year [--orgs 50] [--months 12] [--seed N]`.

    planned     one act after the other, in the order of the plan
    shuffled    what has no order in another one: arrivals of facts, customers among each other
    twice       the same, every act and every job done twice over
    killed      shuffled, every run of the jobs killed somewhere on its way, then run again

The books must be the same each time, and add up. What came of each is a line on stdout; on stderr is which is lived.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import structlog

from data_folders import new_folder
from tally_processes import TallyProcess
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.journal.server import EmbeddedServer
from year.books import Books, books_of, faults
from year.life import Clock, Life
from year.plan import plan_year

WAYS = ("planned", "shuffled", "twice", "killed")
_STEPS_MAX = 150


class Year(NamedTuple):
    """What is lived through."""

    seed: int
    orgs: int
    months: int
    each: int = 8


class Lived(NamedTuple):
    """What came of it: the books, what was refused, what does not add up, and how often a process was killed."""

    books: Books
    refused: dict[str, int]
    faults: list[str]
    killed: int


def live(year: Year, way: str, database_url: str, folder: Path, *, replayed: int) -> Lived:
    """Live the year in a fresh database in one of the `WAYS`.

    Args:
        replayed: how many invoices are replayed in the end.
    """
    clock, chance = Clock(), random.Random(f"{year.seed}:{way}")
    killed = 0

    def kill_jobs(life: Life) -> None:
        nonlocal killed
        killed += _killed_jobs(database_url, folder, clock, chance.randint(1, _STEPS_MAX))
        life.run_jobs()

    settings = Settings(database_url=database_url, data_dir=folder)
    with _unlogged(), open_runtime(settings, clock) as runtime:
        life = Life(runtime, clock)
        life.live(
            plan_year(year.seed, year.orgs, year.months, year.each),
            order=None if way == "planned" else chance,
            again=way == "twice",
            jobs=kill_jobs if way == "killed" else None,
        )
        refused = {" ".join(key[1:]): 0 for key in life.refused}
        for (_, what, code), times in life.refused.items():
            refused[f"{what} {code}"] += times
        return Lived(books_of(runtime), refused, faults(runtime, replayed=replayed), killed)


@contextmanager
def _unlogged() -> Iterator[None]:
    """What the program would log of the year, such as its alerts, is told nowhere: the books tell what came of it."""
    before = structlog.get_config() if structlog.is_configured() else None
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()], logger_factory=structlog.ReturnLoggerFactory()
    )
    try:
        yield
    finally:
        structlog.reset_defaults()
        if before is not None:
            structlog.configure(**before)


def _killed_jobs(database_url: str, folder: Path, clock: Clock, count: int) -> bool:
    with open(os.devnull, "r+b") as nothing:
        process = TallyProcess(
            [database_url, folder, clock().isoformat(), count],
            stdout=nothing.fileno(),
            stderr=nothing.fileno(),
            main="year.killed",
        )
        code = process.wait(120)
    assert code in (0, -signal.SIGKILL), f"the jobs ended with {code}"
    return code != 0


@contextmanager
def _databases() -> Iterator[Callable[[str], str]]:
    """Fresh databases by name, on a server of their own."""
    import psycopg

    folder = new_folder()
    try:
        with EmbeddedServer(folder, settings={"fsync": "off", "full_page_writes": "off"}) as url:

            def fresh(name: str) -> str:
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute(f"create database {name}")
                head, _, query = url.partition("?")
                return f"{head.rsplit('/', 1)[0]}/{name}?{query}"

            yield fresh
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Live it in every way, print what came of it, and exit with 1 when the books differ or do not add up."""
    asked = argparse.ArgumentParser(prog="tasks.py year")
    asked.add_argument("--orgs", type=int, default=50)
    asked.add_argument("--months", type=int, default=12)
    asked.add_argument("--seed", type=int, default=int(time.time()))
    given = asked.parse_args()
    year = Year(given.seed, given.orgs, given.months)
    acts = len(plan_year(*year))
    print(f"seed {year.seed}: {year.orgs} customers, {year.months} months, {acts:,} acts", file=sys.stderr, flush=True)
    first: Lived | None = None
    wrong = 0
    with _databases() as fresh:
        for way in WAYS:
            print(f"living the year: {way}", file=sys.stderr, flush=True)
            begun = time.perf_counter()
            folder = new_folder()
            lived = live(year, way, fresh(way), folder, replayed=year.orgs * year.months)
            shutil.rmtree(folder, ignore_errors=True)
            first = first or lived
            different = [name for name in lived.books if lived.books[name] != first.books[name]]
            wrong += len(lived.faults) + len(different)
            invoices = sum(map(len, lived.books["invoices"].values()))
            print(
                f"{way:9} {invoices:,} invoices, {sum(lived.refused.values()):,} refusals, {lived.killed} kills, "
                f"{len(lived.faults)} faults, {f'other {different}' if different else 'the same books'}, "
                f"{time.perf_counter() - begun:.0f} s",
                flush=True,
            )
            for fault in lived.faults[:20]:
                print(f"  {fault}", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
