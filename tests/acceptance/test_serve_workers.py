"""`tally serve --workers 2`: one address, one database, each event once; who dies is replaced, and nobody is left."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx2

from journal_helpers import raw_event
from tally_processes import TallyProcess, run_tally
from tallystick.app.contracts import apply_contract
from tallystick.app.grants import grant
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings

NO_TLS = False
"""What would be checked is read from files for each connection anew, which takes longer than the call."""
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Workers:
    """A running `tally serve` of two workers; what they all write to stderr is kept."""

    def __init__(self, data_dir: Path, tmp_dir: Path | None = None) -> None:
        self.data_dir = data_dir
        reading, writing = os.pipe()
        with open(os.devnull, "wb") as nothing:
            self.process = TallyProcess(
                ["serve", "--port", 0, "--workers", 2, "--data-dir", data_dir],
                env=os.environ | ({} if tmp_dir is None else {"TMPDIR": str(tmp_dir)}),
                stdout=nothing.fileno(),
                stderr=writing,
            )
        os.close(writing)
        self._said = os.fdopen(reading)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_until(lambda: self._find(r"listening on (http://\S+)"), 90)
        self.url = self._find(r"listening on (http://\S+)") or ""

    def _read(self) -> None:
        self.lines.extend(iter(self._said.readline, ""))

    def _find(self, pattern: str) -> str | None:
        found = re.search(pattern, "".join(self.lines))
        return found[1] if found else None

    def wait_until(self, is_so, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, "".join(self.lines)
            time.sleep(0.05)

    def log(self, event: str) -> list[dict]:
        return [line for line in map(json.loads, filter(_is_json, self.lines)) if line["event"] == event]

    def pids(self) -> list[int]:
        """Of the workers that run now, as the system knows them."""
        return [pid for pid in (line["pid"] for line in self.log("worker_started")) if _runs(pid)]

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(60)
        self._reader.join(10)
        return code


def _is_json(line: str) -> bool:
    return line.startswith("{")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def event(request_id: str) -> dict[str, object]:
    return raw_event(request_id, time="2026-10-01T12:00:00Z")


def send(url: str, events: object) -> list[dict]:
    """On a connection of its own, again and again until it is answered."""
    while True:
        try:
            answer = httpx2.post(url + "/v1/events", json=events, timeout=30, verify=NO_TLS)
        except httpx2.TransportError:
            continue
        if answer.status_code != 503:
            return answer.json()["results"]


CONTRACT = """\
contract: shared
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  brief: {title: Write a brief, price: {credits: 5}, charge_on: [success], shows: 5 credits a brief.}
plans:
  wallet: {title: Wallet, kind: credits, base: "0", top_up: true}
"""


def ask(url: str, path: str, body: dict[str, object]) -> dict:
    """On a connection of its own, again and again until it is answered."""
    while True:
        try:
            answer = httpx2.post(url + path, json=body, timeout=30, verify=NO_TLS)
        except httpx2.TransportError:
            continue
        if answer.status_code != 503:
            assert answer.status_code == 200, answer.text
            return answer.json()


def store_each_event_once_though_one_dies(workers: Workers, dies: int) -> None:
    answers: list[dict] = []

    def send_batches(number: int) -> None:
        for turn in range(12):
            start = (number * 7 + turn) % 40
            answers.extend(send(workers.url, [event(f"r-{one}") for one in range(start, start + 10)]))

    with ThreadPoolExecutor(6) as pool:
        sending = [pool.submit(send_batches, number) for number in range(6)]
        time.sleep(0.3)
        os.kill(dies, signal.SIGKILL)
        for one in sending:
            one.result()
    workers.wait_until(lambda: dies not in workers.pids() and len(workers.pids()) == 2)

    assert {answer["status"] for answer in answers} <= {"accepted", "duplicate"}
    places = {(answer["request_id"], answer["seq"]) for answer in answers}
    stored = httpx2.get(workers.url + "/v1/orgs/acme/events", params={"limit": 1000}, verify=NO_TLS).json()["events"]
    assert sorted((one["request_id"], one["seq"]) for one in stored) == sorted(places)
    assert [one["seq"] for one in stored] == list(range(1, len(places) + 1))


def decide_once_though_one_dies(workers: Workers, orgs: list[str], dies: int) -> None:
    def pair(number: int) -> None:
        org, name = orgs[number % len(orgs)], f"a-{number}"
        asked = {"user_id": "u", "session_id": "s", "feature": "f", "environment": "production", "action": "brief"}
        for _ in range(2):  # whoever has lost an answer asks again, and any worker may have to answer
            hold = ask(workers.url, "/v1/authorize", {"org_id": org, "request_id": name, **asked})["hold"]["hold_id"]
        for _ in range(2):
            settled = ask(workers.url, "/v1/settle", {"org_id": org, "hold_id": hold, "outcome": "success"})
            assert settled["charged_credits"] == "5"

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(pair, number) for number in range(120)]
        time.sleep(0.4)
        os.kill(dies, signal.SIGKILL)
        for one in asking:
            one.result()
    for org in orgs:
        wallet = httpx2.get(f"{workers.url}/v1/orgs/{org}/wallet", verify=NO_TLS).json()
        assert (wallet["available"], wallet["held"]) == (str(1000 - 20 * 5), "0"), wallet


def test_each_event_is_stored_and_each_decision_made_once_though_workers_are_killed_and_ctrl_c_lets_them_answer(
    begun_dir: Path,
):
    orgs = [f"org-{number}" for number in range(6)]
    with open_runtime(Settings(data_dir=begun_dir)) as runtime:
        apply_contract(runtime, CONTRACT, "shared.yaml")
        for org in orgs:
            set_subscription(runtime, org, contract="shared", plan="wallet", time_zone="UTC", effective_from=BEGAN)
            members = {"request_id": "g", "source": "promo", "credits": "1000", "author": "t", "reason": "test"}
            grant(runtime, org, members)
    workers = Workers(begun_dir)
    first = workers.pids()
    assert len(first) == 2
    store_each_event_once_though_one_dies(workers, first[0])
    decide_once_though_one_dies(workers, orgs, first[1])
    workers.wait_until(lambda: not set(first) & set(workers.pids()) and len(workers.pids()) == 2)
    ended = [(line["pid"], line["exit_code"]) for line in workers.log("worker_ended")]
    assert ended == [(pid, -signal.SIGKILL) for pid in first]
    served = {line["request_id"] for line in workers.log("request") if line["path"] == "/v1/events"}
    assert len(served) >= 72, "the log of every worker arrives"

    pids = workers.pids()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(send, workers.url, [event(f"late-{number}") for number in range(20_000)])
        time.sleep(0.5)
        assert workers.stop(signal.SIGINT) == 0
        assert {answer["status"] for answer in under_way.result()} == {"accepted"}
    assert workers.lines[-1] == "stopped\n"
    assert not any(map(_runs, pids))
    assert not (workers.data_dir / "postgres" / "postmaster.pid").exists()
    assert run_tally("verify", env={"TALLY_DATA_DIR": str(begun_dir)}).returncode == 0


def test_when_the_parent_is_killed_its_workers_end_and_the_next_start_finds_everything(
    begun_dir: Path, short_dir: Path, tmp_path: Path
):
    workers = Workers(begun_dir, short_dir)
    (receipt,) = send(workers.url, [event("kept")])
    pids = workers.pids()
    assert [one.name[:6] for one in short_dir.glob("tally-*")] == ["tally-"]
    workers.stop(signal.SIGKILL)
    workers.wait_until(lambda: not any(map(_runs, pids)))
    assert list(short_dir.glob("tally-*")) == []
    too_long = tmp_path / ("x" * 100)
    too_long.mkdir()
    again = Workers(workers.data_dir, too_long)
    assert len(again.log("workers_apart")) == 1
    assert send(again.url, [event("kept")]) == [{**receipt, "status": "duplicate"}]
    assert again.stop() == 0
    assert list(too_long.glob("tally-*")) == []
