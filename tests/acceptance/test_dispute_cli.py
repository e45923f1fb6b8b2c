"""From the command line: a customer disputes charges, and checks the evidence where there is nothing else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from billing import SELLER
from tally_processes import run_tally
from tallystick.journal.server import EmbeddedServer

EVENT = {
    "time": "2026-08-15T12:00:00Z", "org_id": "globex", "request_id": "r1", "user_id": "u", "session_id": "s",
    "feature": "f", "environment": "production", "provider": "openai", "model": "gpt-4o-mini",
    "meters": {"tokens_in": 50_000_000},
}  # fmt: skip


@pytest.fixture
def place(begun_dir: Path) -> Iterator[Path]:
    (begun_dir / "acme.yaml").write_text(SELLER)
    (begun_dir / "events.jsonl").write_text(json.dumps(EVENT) + "\n")
    with EmbeddedServer(begun_dir):  # as under `tally serve`: no command has to start it
        tally(begun_dir, "contract", "apply", str(begun_dir / "acme.yaml"))
        tally(begun_dir, "orgs", "set", "globex", "--contract", "acme", "--plan", "pro", "--from", "2026-08-01")
        tally(begun_dir, "ingest", str(begun_dir / "events.jsonl"))
        tally(begun_dir, "invoice", "finalize", "2026-08")
        yield begun_dir


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_tally(*arguments, env={"TALLY_DATA_DIR": str(place), "PATH": "/usr/bin:/bin"}, cwd=place.parent)


def tally(place: Path, *arguments: str, code: int = 0) -> str:
    done = run(place, *arguments)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def asked(place: Path, *arguments: str) -> Any:
    return json.loads(tally(place, *arguments, "--json"))


def test_a_charge_is_disputed_decided_and_checked_where_there_is_no_database(place: Path, tmp_path: Path) -> None:
    reason = ["--reason", "that was not us"]
    opened = asked(place, "dispute", "open", "globex/2026-08", "--line", "2", *reason, "--request-id", "d1")
    assert (opened["state"], opened["disputed_usd"], opened["differences"]) == ("open", "5.00", 0)
    first = opened["dispute_id"]
    assert "unknown_invoice" in tally(place, "dispute", "open", "initech/2026-08", *reason, code=2)
    evidence = tally(place, "dispute", "show", first, "--evidence")
    assert "50,000,000 × 0.10 per 1,000,000 = 5 USD" in evidence.replace("5.00 USD", "5 USD")

    file = tmp_path / "evidence.zip"
    tally(place, "dispute", "bundle", first, "--seal", "-o", str(file))
    empty = tmp_path / "empty"
    checked = asked(empty, "dispute", "check", str(file))
    assert (checked["valid"], checked["proved"], checked["steps_proved"]) == (True, True, True)
    assert not empty.exists()
    assert asked(empty, "dispute", "check", str(file), "--key", checked["key"])["trusted_by"] == "key"
    file.write_bytes(file.read_bytes()[:-10])
    assert "invalid_bundle" in tally(empty, "dispute", "check", str(file), code=2)

    upheld = asked(place, "dispute", "uphold", first, "--reason", "you are right", "--amount", "2")
    assert (upheld["upheld_usd"], upheld["credit_note_number"][:8]) == ("2.00", "ACME-CN-")
    listed = tally(place, "dispute", "list")
    assert "upheld" in listed
    tally(place, "verify")
