"""Many writers on few orgs: each id is sent one to five times, in random order, from different processes.

`python -m crash.contention [SECONDS] [SEED]` runs 64 writers (4 processes of 16 threads) on 10 orgs.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

PROCESSES = 4
THREADS = 16
ORGS = 10
WAVE_IDS = 400
"""Ids that are sent at about the same time."""


@dataclass(frozen=True)
class Task:
    """What one process is told."""

    url: str
    data_dir: str
    process: int
    seed: int
    seconds: float


@dataclass
class Told:
    """What one process was answered: how many of each status, and for each id the (org, seq, leaf) it was told."""

    sent: Counter[str]
    statuses: Counter[str]
    places: dict[str, tuple[str, int, str]]
    contradictions: list[str]


def _event(request_id: str) -> dict[str, Any]:
    number = int(request_id[1:])
    return {
        "org_id": f"org-{number % ORGS}",
        "request_id": request_id,
        "time": f"2026-10-{1 + number // 50_000:02d}T00:{number // 60 % 60:02d}:{number % 60:02d}Z",
        "user_id": f"user-{number % 31}",
        "session_id": "s",
        "feature": "chat",
        "environment": "production",
        "provider": "openai",
        "model": "gpt-4o",
        "meters": {"tokens_in": number % 3000, "tokens_out": number % 100},
    }


def _share(seed: int, wave: int, process: int) -> list[str]:
    """What that process sends of a wave: every process draws the same lots, and takes its own."""
    lots = random.Random(f"{seed} {wave}")
    mine = [
        f"r{number}"
        for number in range(wave * WAVE_IDS, (wave + 1) * WAVE_IDS)
        for _ in range(lots.randint(1, 5))
        if lots.randrange(PROCESSES) == process
    ]
    random.Random(f"{seed} {wave} {process}").shuffle(mine)
    return mine


def write(task: Task) -> Told:
    """Send one process's share, wave by wave, until the time is up."""
    from tallystick.app.ingest import ingest_events
    from tallystick.app.runtime import open_runtime
    from tallystick.app.settings import Settings

    told = Told(Counter(), Counter(), {}, [])
    settings = Settings(database_url=task.url, data_dir=Path(task.data_dir))
    with open_runtime(settings) as runtime, ThreadPoolExecutor(THREADS) as threads:
        deadline, wave = time.monotonic() + task.seconds, 0
        while time.monotonic() < deadline:
            mine = _share(task.seed, wave, task.process)
            sizes = random.Random(f"{task.seed} {wave} {task.process} sizes")
            batches = []
            while mine:
                size = sizes.choice((1, 2, 10, 30))
                batches.append(mine[:size])
                del mine[:size]
            answers = threads.map(lambda ids: ingest_events(runtime, [_event(one) for one in ids]), batches)
            for ids, results in zip(batches, answers, strict=True):
                told.sent.update(ids)
                for one, result in zip(ids, results, strict=True):
                    told.statuses[result.status] += 1
                    receipt = result.receipt
                    if receipt is None or receipt.seq is None or receipt.leaf is None:
                        told.contradictions.append(f"{one}: {result}")
                        continue
                    place = (receipt.org_id, receipt.seq, receipt.leaf)
                    if told.places.setdefault(one, place) != place:
                        told.contradictions.append(f"{one}: {place}, and before {told.places[one]}")
            wave += 1
    return told


def run(url: str, data_dir: Path, *, seconds: float, seed: int) -> dict[str, Any]:
    """Let them all write, and compare what they were told with what is stored; `wrongs` is empty when all is exact."""
    import psycopg

    tasks = [Task(url, str(data_dir), process, seed, seconds) for process in range(PROCESSES)]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        told = list(pool.map(write, tasks))
    wrongs = [wrong for one in told for wrong in one.contradictions]
    sent: Counter[str] = sum((one.sent for one in told), Counter())
    statuses: Counter[str] = sum((one.statuses for one in told), Counter())
    with psycopg.connect(url) as connection:
        rows = connection.execute("select request_id, org_id, seq, encode(leaf, 'hex') from ledger_entries").fetchall()
        heads = dict(connection.execute("select org_id, last_seq from org_heads").fetchall())
    stored = {request_id: (org_id, seq, leaf) for request_id, org_id, seq, leaf in rows}
    if len(rows) != len(sent) or set(stored) != set(sent):
        wrongs.append(f"{len(rows)} entries stored, {len(sent)} ids sent")
    if statuses != {"accepted": len(sent), "duplicate": sent.total() - len(sent)}:
        wrongs.append(f"{dict(statuses)} of {sent.total()} sent, {len(sent)} different")
    per_org: dict[str, list[int]] = {}
    for org_id, seq, _ in stored.values():
        per_org.setdefault(org_id, []).append(seq)
    wrongs += [
        f"{org_id} is not dense"
        for org_id, seqs in per_org.items()
        if sorted(seqs) != list(range(1, heads[org_id] + 1))
    ]
    wrongs += [
        f"{one} was told {place}, stored as {stored.get(one)}"
        for process in told
        for one, place in process.places.items()
        if stored.get(one) != place
    ]
    return {"seed": seed, "ids": len(sent), "sent": sent.total(), "wrongs": wrongs}


def main() -> None:
    """The long run, on a database of its own."""
    from tallystick.journal.migrate import migrate
    from tallystick.journal.server import EmbeddedServer

    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    with tempfile.TemporaryDirectory(prefix="tally-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with EmbeddedServer(folder) as url:
            migrate(url)
            report = run(url, folder, seconds=seconds, seed=seed)
    print({**report, "wrongs": report["wrongs"][:20]})
    sys.exit(1 if report["wrongs"] else 0)


if __name__ == "__main__":
    main()
