"""`tally keys`, and a server that others can reach: no key, no answer; no token but where it was shown."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from journal_helpers import raw_event
from tally_processes import TallyProcess, run_tally

NO_TLS = False
"""What would be checked is read from files for each call anew, which takes longer than the call."""

START_SECONDS = 60
SOON_SECONDS = 10


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path)}


def keys(environment: dict[str, str], *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = run_tally("keys", *arguments, env={**os.environ, **environment})
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def written(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_a_key_is_made_listed_rotated_and_revoked(environment: dict[str, str]) -> None:
    made = keys(environment, "create", "--org", "acme", "--scopes", "gateway, read", "--user", "u1", "--expires", "90d")
    assert re.fullmatch(r"tk_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}\n", made.stdout)
    assert "cannot be shown again" in made.stderr
    secret = made.stdout.strip().split("_")[2]
    assert secret not in made.stderr
    whole = keys(environment, "create", "--operator", "--scopes", "admin", "--author", "ann", "--json")
    document = json.loads(whole.stdout)
    assert document["key"]["scopes"] == ["admin"]
    assert document["token"].startswith(document["key"]["prefix"] + "_")

    listed = [json.loads(line) for line in keys(environment, "list", "--json").stdout.splitlines()]
    assert [(one["org_id"], one["status"], one["author"] == "ann") for one in listed] == [
        ("acme", "active", False),
        (None, "active", True),
    ]
    assert listed[0]["defaults"] == {"user_id": "u1"}
    assert all(set(one) == set(document["key"]) for one in listed)
    key_id = listed[0]["key_id"]
    rotated = keys(environment, "rotate", key_id, "--overlap", "24h", "--json")
    assert json.loads(rotated.stdout)["key"]["replaces"] == key_id
    assert f"{key_id} is taken for another 24h" in rotated.stderr
    assert "ends at" in keys(environment, "list", "--org", "acme").stdout
    revoked = json.loads(keys(environment, "revoke", key_id, "--reason", "leaked", "--json").stdout)["key"]
    assert revoked["status"] == "ended"
    assert len(keys(environment, "list", "--active").stdout.splitlines()) == 2
    assert "there is no key of globex" in keys(environment, "list", "--org", "globex").stderr
    assert secret not in "".join(written(keys(environment, "list", *more)) for more in ([], ["--json"]))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["create", "--scopes", "read"], "invalid_option"),
        (["create", "--scopes", "read", "--org", "acme", "--operator"], "invalid_option"),
        (["create", "--scopes", ",", "--org", "acme"], "missing_field"),
        (["create", "--scopes", "raed", "--org", "acme"], "unknown_scope"),
        (["create", "--scopes", "admin", "--org", "acme"], "scope_needs_operator"),
        (["create", "--scopes", "gateway", "--operator"], "scope_needs_org"),
        (["create", "--scopes", "read", "--org", "acme", "--expires", "soon"], "invalid_time"),
        (["create", "--scopes", "read", "--org", "acme", "--expires", "2020-01-01"], "expired_already"),
        (["create", "--scopes", "read", "--org", "acme", "--expires", "1x0d"], "invalid_duration"),
        (["rotate", "key_nobodys", "--overlap", "1h"], "unknown_key_id"),
        (["rotate", "key_nobodys", "--overlap", "tomorrow"], "invalid_duration"),
        (["revoke", "key_nobodys", "--reason", "x"], "unknown_key_id"),
    ],
)
def test_what_makes_no_sense_is_refused_and_makes_no_key(
    environment: dict[str, str], arguments: list[str], code: str
) -> None:
    done = keys(environment, *arguments, code=2)
    assert f"[{code}]" in done.stderr
    assert done.stdout == ""
    assert keys(environment, "list", "--json").stdout == ""


def test_a_token_given_for_an_id_is_not_repeated_and_its_key_is_named(environment: dict[str, str]) -> None:
    token = keys(environment, "create", "--operator", "--scopes", "admin").stdout.strip()
    for command in (["revoke", token, "--reason", "leaked"], ["rotate", token, "--overlap", "1h"]):
        done = keys(environment, *command, code=2)
        assert "[unknown_key_id]" in done.stderr
        assert f"give key_{token[3:11]}" in done.stderr
        assert token[12:20] not in written(done)


def test_what_is_said_of_hostile_text_does_not_steer_the_terminal(environment: dict[str, str]) -> None:
    said = keys(environment, "list", "--org", "a\x1b[2J\x9b1m\u202eb").stderr
    assert said == "there is no key of a\\x1b[2J\\x9b1m\\u202eb\n"
    said = keys(environment, "create", "--operator", "--scopes", "\x1b[2Jread", code=2).stderr
    assert "\x1b" not in said


# ── a server that others can reach ──────────────────────────────────────────────────────────────────────────────────


class Served:
    """A `tally serve` with two workers, whose output is kept."""

    def __init__(self, data_dir: Path) -> None:
        reading, writing = os.pipe()
        command = ["serve", "--host", "0.0.0.0", "--port", 0, "--workers", 2, "--data-dir", data_dir]
        self.process = TallyProcess(command, stdout=writing, stderr=writing)
        os.close(writing)
        self._said = os.fdopen(reading)
        self.output: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._listening.wait(START_SECONDS), "".join(self.output)
        (self.port,) = {found[1] for line in self.output if (found := re.match(r"listening on \S+:(\d+)", line))}

    def _read(self) -> None:
        for line in self._said:
            self.output.append(line)
            if "keys" in line and not line.startswith("{"):
                self._listening.set()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        self._reader.join(10)


@pytest.fixture
def served(begun_dir: Path) -> Iterator[Served]:
    started = Served(begun_dir)
    yield started
    started.stop()


def test_a_server_that_others_can_reach_asks_for_keys_and_keeps_no_token_anywhere(
    served: Served, begun_dir: Path
) -> None:
    environment = {"TALLY_DATA_DIR": str(begun_dir)}
    assert "callers must show keys: `tally keys create` makes them\n" in served.output
    url = f"http://127.0.0.1:{served.port}"
    guessed = "tk_Planted1_" + "GuessedSecret" * 3 + "abcd"
    token = keys(environment, "create", "--org", "acme", "--scopes", "events,read").stdout.strip()

    def send(number: int, shown: str | None) -> httpx2.Response:
        headers = {} if shown is None else {"Authorization": f"Bearer {shown}"}
        with httpx2.Client(verify=NO_TLS) as client:  # a connection of its own: any worker may take it
            return client.post(f"{url}/v1/events", json=raw_event(f"r{number}"), headers=headers)

    assert httpx2.get(f"{url}/healthz", verify=NO_TLS).status_code == 200
    for number in range(8):
        assert send(number, None).json()["code"] == "key_missing"
        assert send(number, guessed).json()["code"] == "key_unknown"
        assert send(number, token).status_code == 201
    assert (
        httpx2.get(f"{url}/v1/orgs/acme", headers={"Authorization": f"Bearer {token}"}, verify=NO_TLS).json()["entries"]
        == 8
    )

    listed = keys(environment, "list", "--json").stdout.splitlines()
    key_id = json.loads(listed[0])["key_id"]
    keys(environment, "revoke", key_id, "--reason", "leaked")
    deadline = time.monotonic() + SOON_SECONDS
    refused = 0
    while refused < 10:  # by both workers
        answer = send(100, token)
        refused = refused + 1 if answer.json().get("code") == "key_revoked" else 0
        assert time.monotonic() < deadline, answer.text
    checked = run_tally("verify", env={**os.environ, **environment})
    assert checked.returncode == 0, checked.stderr

    served.stop()
    output = "".join(served.output)
    assert key_id in output
    for secret in (token.split("_")[2], guessed.split("_")[2]):
        assert secret not in output
        holding = [path for path in begun_dir.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        assert holding == []
