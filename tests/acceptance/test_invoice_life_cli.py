"""From the command line: a customer is billed, pays, is credited; a test org goes through its months in one command."""

from __future__ import annotations

import csv
import io
import json
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
    "meters": {"tokens_in": 1000, "tokens_out": 100},
}  # fmt: skip


@pytest.fixture
def place(begun_dir: Path) -> Iterator[Path]:
    (begun_dir / "acme.yaml").write_text(SELLER)
    (begun_dir / "events.jsonl").write_text(json.dumps(EVENT) + "\n")
    with EmbeddedServer(begun_dir):  # as under `tally serve`: no command has to start it
        yield begun_dir


def tally(place: Path, *arguments: str, code: int = 0) -> str:
    done = run_tally(*arguments, env={"TALLY_DATA_DIR": str(place), "PATH": "/usr/bin:/bin"})
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def asked(place: Path, *arguments: str) -> Any:
    return json.loads(tally(place, *arguments, "--json"))


def test_a_customer_is_billed_pays_and_is_credited(place: Path) -> None:
    tally(place, "contract", "apply", str(place / "acme.yaml"))
    plan = ["--contract", "acme", "--plan", "pro"]
    tally(place, "orgs", "set", "globex", *plan, "--from", "2026-08-01")
    tally(place, "ingest", str(place / "events.jsonl"))
    profile = asked(place, "orgs", "profile", "globex", "--name", "=Globex", "--address", "1 Main Street")
    assert (profile["version"], profile["profile"]["address"]) == (1, ["1 Main Street"])
    assert "1 Main Street" in tally(place, "orgs", "profile", "globex")
    issued = asked(place, "invoice", "finalize", "2026-08")
    assert (issued["status"], issued["state"], issued["total_usd"]) == ("issued", "open", "10.00")
    number = issued["number"]
    assert number.startswith("ACME-")
    assert number.endswith("-000001")
    assert asked(place, "invoice", "finalize", "2026-08")["status"] == "already_issued"

    paid = asked(place, "invoice", "pay", number, "--amount", "4", "--request-id", "bank-1")
    assert (paid["is_new"], paid["invoice"]["state"]) == (True, "partly_paid")
    assert not asked(place, "invoice", "pay", number, "--amount", "4", "--request-id", "bank-1")["is_new"]
    refused = tally(
        place, "invoice", "credit-note", number, "--amount", "11", "--reason", "r", "--request-id", "n", code=2
    )
    assert "[credit_exceeds_invoice]" in refused
    (due,) = csv.DictReader(io.StringIO(tally(place, "export", "due")))
    assert (due["number"], due["due_usd"], due["bill_to"]) == (number, "6.00", "'=Globex")
    noted = asked(place, "invoice", "credit-note", number, "--amount", "6", "--reason", "r", "--request-id", "n")
    assert noted["invoice"]["state"] == "paid"
    assert asked(place, "invoice", "list", "--state", "paid")["number"] == number
    life = asked(place, "invoice", "life", "globex/2026-08")
    assert [one["kind"] for one in life["history"]] == ["invoice", "payment", "credit_note"]
    assert "[invoice_paid]" in tally(place, "invoice", "void", number, "--by", "ann", "--reason", "r", code=2)
    assert json.loads(tally(place, "export", "due", "--format", "json")) == {"due": []}
    tally(place, "verify")


def test_a_test_org_goes_through_its_months_in_one_command(place: Path) -> None:
    tally(place, "contract", "apply", str(place / "acme.yaml"))
    plan = ["--contract", "acme", "--plan", "pro"]
    tally(place, "orgs", "set", "sandbox", *plan, "--test-clock", "2026-03-01T00:00:00Z")
    done = asked(place, "clock", "advance", "sandbox", "--by", "6mo")
    assert done["at"] == "2026-09-01T00:00:00Z"
    assert [(one["month"], one["number"]) for one in done["invoiced"]] == [
        (f"2026-{month:02}", f"TEST-ACME-2026-{place:06}") for place, month in enumerate(range(3, 8), start=1)
    ]
    assert asked(place, "clock", "show", "sandbox")["at"] == done["at"]
    assert "[clock_goes_forward]" in tally(place, "clock", "advance", "sandbox", "--to", "2026-08-01", code=2)
    assert "[unknown_org]" in tally(place, "clock", "show", "globex", code=2)  # nobody of that name is there
    assert tally(place, "export", "due").count("\n") == 1
    tally(place, "verify")
