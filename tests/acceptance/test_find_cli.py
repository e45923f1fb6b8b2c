"""`tally find` and `tally settlements` as an operator uses them, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway_tools import gateway
from tally_processes import run_tally
from tallystick.journal.settlement_file import SettlementFile
from tallystick.journal.steps import install


@pytest.fixture(autouse=True)
def _nothing_halts() -> Iterator[None]:
    yield
    install(None)


def tally(database_url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATABASE_URL": database_url, "TALLY_DATA_DIR": str(folder)}
    return run_tally(*arguments, env=environment)


def test_an_operator_asks_what_became_of_a_request(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(database_url, tmp_path, monkeypatch) as stand:
        stand.post(x_tally_request_id="call-1", x_tally_work_key="doc-1")
        stand.post(x_tally_request_id="call-2", x_tally_action="nonsense")
    told = tally(database_url, tmp_path, "find", "call-1")
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0] == "call-1 of acme, by its request id"
    for part in (
        "decision: allowed",
        "hold: h",
        "call: openai gpt-4o-2024-08-06: success",
        "price: 0.00045 USD",
        "wallet: ",
    ):
        assert part in told.stdout
    assert "2.5 USD per 1,000,000 = 0.00025 USD (row of " in told.stdout
    assert told.stdout.count("leaf ") == 3
    as_json = tally(database_url, tmp_path, "find", "doc-1", "--org", "acme", "--json")
    (story,) = json.loads(as_json.stdout)["stories"]
    assert story["request_ids"] == ["call-1"]
    denied = tally(database_url, tmp_path, "find", "call-2")
    assert "denied, unknown_action" in denied.stdout
    nothing = tally(database_url, tmp_path, "find", "call-3", "--from", "2026-01-01", "--to", "2027-01-01")
    assert (nothing.returncode, "[not_found]" in nothing.stderr, nothing.stdout) == (2, True, "")
    assert "request ids" in nothing.stderr
    backwards = tally(database_url, tmp_path, "find", "call-1", "--from", "2027-01-01", "--to", "2026-01-01")
    assert (backwards.returncode, "[invalid_period]" in backwards.stderr) == (2, True)


def test_an_operator_sees_retries_and_gives_up_refused_settlements(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halt(step: str) -> None:
        if step == "settlements.read":
            raise RuntimeError("not now")

    with gateway(database_url, tmp_path, monkeypatch, more="commit: async") as stand:
        install(halt)
        hold = stand.post(x_tally_request_id="later").headers["x-tally-hold"]
    install(None)  # the server has stopped: what it left on disk is for the commands

    def settlements(*arguments: str) -> subprocess.CompletedProcess[str]:
        return tally(database_url, tmp_path, "settlements", *arguments)

    def refuse() -> None:
        with closing(SettlementFile(tmp_path)) as file:
            (row,) = file.waiting_rows()
            file.take_out([], [(row, "request_id_conflict", "somebody was first")], "2026-11-02T12:00:01Z")

    assert json.loads(settlements("--json").stdout)["waiting"] == 1
    assert settlements().stdout.startswith("1 settlements wait, the oldest since 2026-11-02T12:00:00Z; 0 were refused")
    refuse()
    shown = settlements("list")
    assert f"acme {hold}, a settlement of request later: somebody was first [request_id_conflict]" in shown.stdout
    assert settlements("retry").returncode == 2
    unknown = settlements("retry", "acme", "h999")
    assert (unknown.returncode, "[not_refused]" in unknown.stderr) == (2, True)
    assert json.loads(settlements("retry", "--all", "--json").stdout) == {"waiting_again": 1}
    refuse()
    given_up = settlements("give-up", "acme", hold, "--author", "ann", "--reason", "a test", "--json")
    assert given_up.returncode == 0, given_up.stderr
    assert json.loads(given_up.stdout)["hold_is"] in ("released", "hold_expired")
    listed = json.loads(settlements("--json").stdout)
    assert (listed["waiting"], listed["refused"]) == (0, [])
    assert [(one["hold_id"], one["author"], one["why"]) for one in listed["given_up"]] == [(hold, "ann", "a test")]
    drained = settlements("drain", "--json")
    assert (drained.returncode, json.loads(drained.stdout)) == (0, {"written": 0, "refused": 0})
