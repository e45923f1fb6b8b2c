"""`tally serve` as a person runs it: a process of its own, real HTTP, signals and kills."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from data_folders import copy_folder
from journal_helpers import raw_event
from tally_processes import TallyProcess

NO_TLS = False
"""What would be checked is read from files for each call anew, which takes longer than the call."""

START_SECONDS = 60


class Served:
    """A running `tally serve`; what it writes is kept. Begun by an interpreter `from_nothing`, forked otherwise."""

    def __init__(self, data_dir: Path, *arguments: str, from_nothing: bool = False) -> None:
        asked = ["serve", "--port", "0", "--data-dir", str(data_dir), *arguments]
        self.stdout = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as it runs
        reading, writing = os.pipe()
        streams = {"stdout": self.stdout.fileno(), "stderr": writing}
        program = [sys.executable, "-c", "from tallystick.cli.main import main; main()", *asked]
        self.process = subprocess.Popen(program, **streams) if from_nothing else TallyProcess(asked, **streams)
        os.close(writing)
        self._said = os.fdopen(reading)
        self.lines: list[str] = []
        self._listening = threading.Event()
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._said:
            self.lines.append(line)
            if found := re.match(r"listening on (http://\S+)", line):
                self.url = found[1]
                self._listening.set()
        self._listening.set()

    def wait(self) -> Served:
        self._listening.wait(START_SECONDS)
        assert self.url, "".join(self.lines)
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        self._reader.join(10)
        self._said.close()
        return code

    def log(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines if line.startswith("{")]


@pytest.fixture
def serve(begun_dir: Path) -> Iterator:
    started: list[Served] = []

    def start(*arguments: str, data_dir: Path = begun_dir, from_nothing: bool = False) -> Served:
        started.append(Served(data_dir, *arguments, from_nothing=from_nothing))
        return started[-1]

    yield start
    for served in started:
        served.stop()


@pytest.fixture(scope="module")
def running(begun: Path) -> Iterator[Served]:
    """One for all the tests that only ask it things."""
    folder = copy_folder(begun)
    served = Served(folder).wait()
    yield served
    served.stop()
    shutil.rmtree(folder, ignore_errors=True)


def event(request_id: str, **more: object) -> dict[str, object]:
    differs = {"time": "2026-10-01T12:00:00Z", "model": "gpt-4o-mini", "meters": {"tokens_in": 1000, "tokens_out": 200}}
    return raw_event(request_id, **{**differs, **more})


def statuses(answer: httpx2.Response) -> list[str]:
    return [result["status"] for result in answer.json()["results"]]


def test_what_was_accepted_survives_a_kill_and_a_resend_counts_nothing_twice(serve, short_dir: Path):
    served = serve(data_dir=short_dir, from_nothing=True).wait()
    first = httpx2.post(served.url + "/v1/events", json=event("r-1"), verify=NO_TLS)
    batch = httpx2.post(served.url + "/v1/events", json=[event("r-1"), event("r-2")], verify=NO_TLS)
    served.process.kill()
    served.process.wait(30)
    assert (first.status_code, statuses(first)) == (201, ["accepted"])
    assert (batch.status_code, statuses(batch)) == (200, ["duplicate", "accepted"])

    again = serve(data_dir=short_dir).wait()
    resent = httpx2.post(again.url + "/v1/events", json=[event("r-1"), event("r-2"), event("r-3")], verify=NO_TLS)
    assert statuses(resent) == ["duplicate", "duplicate", "accepted"]
    receipts = resent.json()["results"]
    original = first.json()["results"][0]
    assert {name: receipts[0][name] for name in ("seq", "cost_usd", "rate_version", "recorded_at")} == {
        name: original[name] for name in ("seq", "cost_usd", "rate_version", "recorded_at")
    }
    assert [receipt["seq"] for receipt in receipts] == [1, 2, 3]
    stored = httpx2.get(again.url + "/v1/orgs/acme/events", verify=NO_TLS).json()["events"]
    assert [one["request_id"] for one in stored] == ["r-1", "r-2", "r-3"]


def test_it_stops_cleanly_on_a_signal_and_its_log_lines_carry_the_request_id(serve):
    served = serve().wait()
    answer = httpx2.get(served.url + "/readyz", headers={"Request-Id": "look-1"}, verify=NO_TLS)
    assert answer.json()["ready"], answer.text
    assert answer.headers["Request-Id"] == "look-1"
    assert served.stop(signal.SIGTERM) == 0
    assert served.lines[-1] == "stopped\n"
    lines = [line for line in served.log() if line.get("event") == "request"]
    assert [(line["method"], line["path"], line["status"], line["request_id"]) for line in lines] == [
        ("GET", "/readyz", 200, "look-1")
    ]
    assert os.fstat(served.stdout.fileno()).st_size == 0  # messages are no data


@pytest.mark.parametrize(("path", "status"), [("/v1/events", 413), ("/nowhere", 404)])
def test_a_caller_who_sends_a_huge_body_and_will_close_gets_the_refusal_and_not_a_reset(
    running: Served, path: str, status: int
):
    request = urllib.request.Request(  # it sends Connection: close, and reads no answer before all is sent
        running.url + path, data=b" " * (100 << 20), headers={"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    problem = json.loads(refused.value.read())
    assert (refused.value.code, problem["status"]) == (status, status)
    assert problem["request_id"] == refused.value.headers["Request-Id"]


def test_a_caller_who_asks_before_sending_is_refused_without_being_told_to_go_on(running: Served):
    answer = exchange(
        running.url,
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        b"Content-Length: 104857600\r\nExpect: 100-continue\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"this is not HTTP\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
def test_what_is_not_http_is_refused_with_a_problem_document_whose_id_is_in_the_log(running: Served, sent: bytes):
    head, _, body = exchange(running.url, sent).partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"request-id: " + problem["request_id"].encode() in head.lower()
    assert (problem["code"], problem["status"]) == ("malformed_http", 400)
    assert problem["detail"]
    assert problem["next_step"]
    deadline = time.monotonic() + 10
    while problem["request_id"] not in {line.get("request_id") for line in running.log()}:
        assert time.monotonic() < deadline, "it is not in the log"
        time.sleep(0.02)


def exchange(url: str, sent: bytes) -> bytes:
    """What the server answers to these bytes, until it closes the connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_taken_port_is_a_clear_error_before_anything_is_started(short_dir: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        served = Served(short_dir, "--port", str(port))
        assert served.process.wait(30) == 3
        served.stop()
    text = "".join(served.lines)
    assert f"cannot listen on 127.0.0.1 port {port}" in text
    assert "[address_unavailable]" in text
    assert "Traceback" not in text
    assert list(short_dir.iterdir()) == []


def test_a_hundred_megabytes_are_refused_without_being_kept(serve):
    served = serve().wait()
    before = peak_memory_kb(served.process.pid)

    def zeros() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1_000_000

    announced = httpx2.post(
        served.url + "/v1/events",
        content=b" " * 100_000_000,
        headers={"Content-Type": "application/json"},
        timeout=60,
        verify=NO_TLS,
    )
    assert (announced.status_code, announced.json()["code"]) == (413, "body_too_large")
    assert peak_memory_kb(served.process.pid) - before < 20_000
    counted = httpx2.post(
        served.url + "/v1/events",
        content=zeros(),
        headers={"Content-Type": "application/json"},
        timeout=60,
        verify=NO_TLS,
    )
    assert (counted.status_code, counted.json()["code"]) == (413, "body_too_large")
    assert peak_memory_kb(served.process.pid) - before < 100_000  # at most the 64 MiB that the limit allows
    assert statuses(httpx2.post(served.url + "/v1/events", json=event("r-9"), verify=NO_TLS)) == ["accepted"]


def peak_memory_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
