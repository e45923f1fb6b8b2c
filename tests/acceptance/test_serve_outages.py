"""`tally serve` through outages, as an operator meets them: real processes, real kills, a database that goes away."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from fault_tools import Proxy
from journal_helpers import raw_event
from tally_processes import TallyProcess, run_program, run_tally
from tallystick.journal.server_process import postmaster_pid

NO_TLS = False
"""What would be checked is read from files for each call anew, which takes longer than the call."""

_START_SECONDS = 60


class Served:
    """A running `tally serve`."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        reading, writing = os.pipe()
        self.process = TallyProcess(
            ["serve", "--port", "0", "--data-dir", folder, *arguments],
            env={**os.environ, "TALLY_SEAL_SECONDS": "0", **environment},
            stdout=writing,
            stderr=writing,
        )
        os.close(writing)
        self._said = os.fdopen(reading)
        self.lines: list[str] = []
        self.url = ""
        self._listening = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        self._listening.wait(_START_SECONDS)
        assert self.url, "".join(self.lines)

    def _read(self) -> None:
        for line in self._said:
            self.lines.append(line)
            if found := re.match(r"listening on (http://\S+)", line):
                self.url = found[1]
                self._listening.set()
        self._listening.set()

    def post(self, *events: dict[str, Any]) -> httpx2.Response:
        return httpx2.post(self.url + "/v1/events", json=list(events), timeout=30, verify=NO_TLS)

    def readiness(self) -> dict[str, Any]:
        document: dict[str, Any] = httpx2.get(self.url + "/readyz", timeout=30, verify=NO_TLS).json()
        return document

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def serve(begun_dir: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(*arguments: str, **environment: str) -> Served:
        started.append(Served(begun_dir, *arguments, **environment))
        return started[-1]

    yield start
    for served in started:
        served.stop(signal.SIGTERM)


def statuses(answer: httpx2.Response) -> list[str]:
    return [result["status"] for result in answer.json()["results"]]


def eventually(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def is_killed(data_dir: Path, pid: int) -> bool:
    return postmaster_pid(data_dir / "postgres") in (None, pid)


def test_a_killed_database_is_back_within_seconds_and_nothing_is_lost(serve, begun_dir: Path) -> None:
    served = serve()
    assert statuses(served.post(raw_event("r1"))) == ["accepted"]
    pid = postmaster_pid(begun_dir / "postgres")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    # What was connected to it may be answered for a moment more: it is back once there is another one.
    while (answer := served.post(raw_event("r2"))).status_code != 200 or is_killed(begun_dir, pid):
        if answer.status_code != 200:
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unreachable")
            assert "Retry-After" in answer.headers
        assert time.monotonic() - begun < 20
        time.sleep(0.05)
    assert statuses(served.post(raw_event("r1"), raw_event("r2"), raw_event("r3"))) == [
        "duplicate",
        "duplicate",
        "accepted",
    ]
    eventually(lambda: not served.readiness()["degraded"])  # what looks after the server may see it a moment later
    document = served.readiness()
    assert (document["mode"], document["degraded"]) == ("normal", False), document
    (server,) = (one for one in document["checks"] if one["name"] == "embedded_server")
    assert server["figures"]["restarts"] == 1
    assert any("started again" in line for line in served.lines)
    assert served.stop() == 0


def test_what_was_spooled_survives_a_kill_of_everything_and_is_written_once(serve, database_url: str) -> None:
    with Proxy(database_url) as proxy:
        environment = {"DATABASE_URL": proxy.url, "TALLY_WHEN_DATABASE_AWAY": "spool"}
        served = serve("--workers", "2", **environment)
        assert statuses(served.post(raw_event("r0"))) == ["accepted"]
        proxy.stop()
        sent = [raw_event(f"r{number}") for number in range(60)]
        for start in range(0, 60, 5):  # each over a connection of its own: either worker takes some
            answer = served.post(*sent[start : start + 5])
            assert (answer.status_code, statuses(answer)) == (202, ["spooled"] * 5), answer.text
        other = served.post(raw_event("r7", user_id="somebody else"))
        assert statuses(other) == ["conflict"]
        assert served.readiness()["mode"] == "spooling"
        served.stop(signal.SIGKILL)
        time.sleep(0.5)
        again = serve("--workers", "2", **environment)  # the database is still away
        assert statuses(again.post(raw_event("r7"), raw_event("r60"))) == ["spooled", "spooled"]
        assert again.readiness()["mode"] == "spooling"
        proxy.start()

        def drained() -> bool:
            (spool,) = (one for one in again.readiness()["checks"] if one["name"] == "spool")
            return spool["figures"]["waiting"] == 0

        eventually(drained)
        # Until each of the workers has noticed that the database is back, it may spool them once more.
        eventually(lambda: statuses(again.post(*sent)) == ["duplicate"] * 60)
        assert again.stop() == 0
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select request_id, seq from ledger_entries order by seq").fetchall()
    assert sorted(name for name, _ in rows) == sorted(f"r{number}" for number in range(61))
    assert [seq for _, seq in rows] == list(range(1, 62))


_DRAINS_AND_DIES = """
import json, os, signal, sys
from contextlib import closing
from pathlib import Path
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.app.spool_view import drain_all
from tallystick.journal import steps
def die(step):
    if step == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
steps.install(die)
with open_runtime(Settings(database_url=sys.argv[1], data_dir=Path(sys.argv[2]))) as runtime:
    drain_all(runtime)
"""


def test_killed_at_each_step_of_draining_it_is_exact_in_the_end(serve, database_url: str, begun_dir: Path) -> None:
    ids = [f"r{number}" for number in range(20)]
    with Proxy(database_url) as proxy:
        served = serve(DATABASE_URL=proxy.url, TALLY_WHEN_DATABASE_AWAY="spool")
        proxy.stop()
        assert set(statuses(served.post(*(raw_event(one) for one in ids)))) == {"spooled"}
        served.stop(signal.SIGKILL)
    for step in ("drain.read", "append.copied", "append.committed", "drain.written", "drain.settled"):
        done = run_program(_DRAINS_AND_DIES, database_url, begun_dir, step)
        # Once everything is settled there is nothing left to drain, and nothing to die of.
        assert done.returncode in (-signal.SIGKILL, 0), done.stderr
        if step == "drain.read":
            assert done.returncode == -signal.SIGKILL
    shown = run_tally("spool", "--json", env={**os.environ, "TALLY_DATA_DIR": str(begun_dir)})
    assert json.loads(shown.stdout) == {"waiting": 0, "oldest": None, "refused": []}
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select request_id, seq from ledger_entries order by seq").fetchall()
    assert rows == [(one, number) for number, one in enumerate(ids, 1)]
