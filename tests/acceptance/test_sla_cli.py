"""Service credits end to end on the command line: record what was down, look, bill, correct the record, look again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from billing import SELLER
from tally_processes import run_tally
from tallystick.journal.server import EmbeddedServer

PROMISE = '\nsla: {availability: [{below: "99.9", credit: "0.10"}, {below: "99", credit: "0.25"}]}\n'
WHEN = ["--from", "2026-08-10T10:00:00Z", "--to", "2026-08-10T11:00:00Z"]


def tally(place: Path, *arguments: str, code: int = 0) -> str:
    done = run_tally(*arguments, env={"TALLY_DATA_DIR": str(place), "PATH": "/usr/bin:/bin"})
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def asked(place: Path, *arguments: str) -> Any:
    return json.loads(tally(place, *arguments, "--json"))


@pytest.fixture
def place(begun_dir: Path) -> Iterator[Path]:
    (begun_dir / "acme.yaml").write_text(SELLER + PROMISE)
    with EmbeddedServer(begun_dir):  # as under `tally serve`: no command has to start it
        yield begun_dir


def test_what_was_down_is_recorded_billed_and_corrected(place: Path) -> None:
    tally(place, "contract", "apply", str(place / "acme.yaml"))
    tally(place, "orgs", "set", "globex", "--contract", "acme", "--plan", "pro", "--from", "2026-08-01")
    whom = ["--all", "--reason", "a switch failed", "--author", "ann"]
    first = asked(place, "incidents", "record", *WHEN, *whom, "--request-id", "i1")
    assert (first["incident_id"], first["orgs"], first["is_new"]) == ("inc1", None, True)
    assert asked(place, "incidents", "record", *WHEN, *whom, "--request-id", "i1")["is_new"] is False
    assert "[invalid_range]" in tally(place, "incidents", "record", *WHEN[2:], *WHEN[:1], WHEN[3], *whom, code=2)

    shown = tally(place, "sla", "show", "globex", "2026-08")
    assert "available for 99.865591 % of the time." in shown
    assert "10 % of the month's charges, 10.00 USD, is 1.00 USD." in shown
    assert shown.splitlines()[-1] == "2026-08 of globex: 1.00 USD in all, 0.00 given, 1.00 to give"
    assert asked(place, "invoice", "finalize", "2026-08")["due_usd"] == "9.00"

    longer = ["--from", "2026-08-10T10:00:00Z", "--to", "2026-08-10T20:00:00Z", "--replaces", "inc1"]
    tally(place, "incidents", "record", *longer, *whom)
    assert "inc1" in tally(place, "incidents", "withdraw", "inc1", "--reason", "twice", "--author", "ann", code=2)
    done = tally(place, "jobs", "run", "close")
    assert "1 months were credited for incidents that were recorded later" in done
    said = asked(place, "sla", "show", "globex", "2026-08")
    assert (said["given_usd"], said["to_give_usd"]) == ("2.50", "0.00")
    assert [one["request_id"] for one in said["given"]] == ["sla:2026-08", "sla:2026-08:2"]
    listed = [json.loads(line) for line in tally(place, "incidents", "list", "--json").splitlines()]
    assert [(one["incident_id"], one["taken_back_by"]) for one in listed] == [("inc1", "inc2"), ("inc2", None)]
    tally(place, "verify")
