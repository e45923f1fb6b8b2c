"""`tally ingest`, `orgs`, `reprice` and `events-from-csv`, as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from journal_helpers import raw_event
from tally_processes import run_tally
from tallystick.app.contract_files import reference_text

TALLY = [sys.executable, "-c", "from tallystick.cli.main import main; main()"]


class Tally:
    """Runs `tally` on a database of its own."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "DATABASE_URL": database_url, "TALLY_DATA_DIR": str(folder)}

    def __call__(self, *arguments: str, code: int = 0, stdin: bytes = b"") -> tuple[str, str]:
        """Standard output and error of one run, whose exit code is as expected."""
        done = run_tally(*arguments, stdin=stdin, env=self.environment, cwd=self.folder)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr


@pytest.fixture
def tally(database_url: str, tmp_path: Path) -> Tally:
    return Tally(database_url, tmp_path)


def lines(*events: object) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def test_a_file_is_taken_in_once_however_often_it_is_sent(tally: Tally) -> None:
    (tally.folder / "events.jsonl").write_bytes(lines(raw_event("a"), raw_event("b"), raw_event("a")))
    out, errors = tally("ingest", "events.jsonl", "--json")
    assert json.loads(out) == {
        "events": 3, "accepted": 2, "duplicate": 1, "conflict": 0, "rejected": 0, "problems": [],
    }  # fmt: skip
    assert errors == ""
    out, _ = tally("ingest", "events.jsonl", "--json")
    assert (json.loads(out)["accepted"], json.loads(out)["duplicate"]) == (0, 3)


def test_bad_lines_are_named_with_field_and_reason_and_the_good_ones_are_stored(tally: Tally) -> None:
    missing = raw_event("b")
    del missing["feature"]
    conflict = raw_event("a", meters={"tokens_in": 9})
    content = lines(raw_event("a"), missing, conflict) + b'{"cut\n{"org_id": "\xff"}\n' + lines(raw_event("c"))
    out, errors = tally("ingest", "-", "--json", "--receipts", "receipts.jsonl", stdin=content, code=1)
    summary = json.loads(out)
    assert {name: summary[name] for name in ("accepted", "conflict", "rejected")} == {
        "accepted": 2, "conflict": 1, "rejected": 3,
    }  # fmt: skip
    assert [(one["line"], one["code"]) for one in summary["problems"]] == [
        (2, "missing_field"), (3, "request_id_conflict"), (4, "malformed_json"), (5, "invalid_utf8"),
    ]  # fmt: skip
    assert "line 2 (request b): rejected: feature: the field is mandatory" in errors
    receipts = [json.loads(line) for line in (tally.folder / "receipts.jsonl").read_text().splitlines()]
    assert [one["line"] for one in receipts] == [1, 2, 3, 4, 5, 6]
    assert receipts[0]["cost_usd"] == "0.0026"
    assert receipts[2]["stored_fingerprint"] == receipts[0]["fingerprint"]


def test_cloudevents_and_arrays_are_taken_too(tally: Tally) -> None:
    event = {"specversion": "1.0", "id": "ce", "source": "/g", "type": "usage", "data": raw_event("inner")}
    out, _ = tally("ingest", "-", "--json", stdin=json.dumps([event, raw_event("b")], indent=1).encode())
    assert json.loads(out)["accepted"] == 2
    out, _ = tally("ingest", "-", "--json", stdin=json.dumps(event, indent=1).encode())
    assert json.loads(out)["duplicate"] == 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "said"),
    [
        (["ingest", "missing.jsonl"], b"", 2, "there is no file missing.jsonl"),
        (["ingest", "."], b"", 2, "cannot be read"),
        (["ingest", "-"], b"", 2, "there is nothing in the file"),
        (["ingest", "-"], b"[1, 2", 2, "not JSON"),
        (["ingest", "-"], b"x" * 3_000_000, 1, "line 1: rejected: the line is longer"),
        (["events-from-csv", "-", "--org", "a", "--map", "time"], b"", 2, "is not TARGET="),
        (["events-from-csv", "missing.csv", "--org", "a"], b"", 2, "there is no file"),
        (["orgs", "show", "nobody"], b"", 2, "there is no org 'nobody'"),
        (["orgs", "set", "a", "--contract", "c", "--plan", "p", "--from", "soon"], b"", 2, "is not an instant"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(
    tally: Tally, arguments: list[str], stdin: bytes, code: int, said: str
) -> None:
    _, errors = tally(*arguments, stdin=stdin, code=code)
    assert said in errors


def test_receipts_never_overwrite_the_events(tally: Tally) -> None:
    events = lines(raw_event("a"))
    (tally.folder / "events.jsonl").write_bytes(events)
    (tally.folder / "same.jsonl").symlink_to("events.jsonl")
    _, errors = tally("ingest", "events.jsonl", "--receipts", "same.jsonl", code=2)
    assert "[unwritable_file]" in errors
    assert (tally.folder / "events.jsonl").read_bytes() == events


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["ingest", "-"], 2, "[empty_file]"),
        (["events-from-csv", "-", "--org", "a"], 2, "[empty_file]"),
        (["cost", "-"], 2, "error: "),
        (["contract", "check", "-"], 2, "error: "),
    ],
)
def test_a_closed_standard_input_is_an_empty_one(tally: Tally, command: list[str], code: int, said: str) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *TALLY, *command], check=False, capture_output=True, env=tally.environment
    )
    errors = done.stderr.decode()
    assert (done.returncode, said in errors, "Traceback" in errors) == (code, True, False), errors


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here that opens and cannot be read")
def test_a_file_that_fails_while_it_is_read_is_said_without_a_traceback(tally: Tally) -> None:
    _, errors = tally("ingest", "/proc/self/mem", code=3)
    assert "[io_failed]" in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_full_disk_is_said_without_a_traceback(tally: Tally) -> None:
    _, errors = tally("ingest", "-", "--receipts", "/dev/full", stdin=lines(raw_event("a")), code=3)
    assert "No space left" in errors


def test_a_database_that_is_not_there_exits_with_3(tally: Tally) -> None:
    tally.environment["DATABASE_URL"] = "postgresql://127.0.0.1:1/none?connect_timeout=2"
    _, errors = tally("orgs", "list", code=3)
    assert "cannot be reached" in errors


def test_orgs_are_put_on_plans_and_shown(tally: Tally) -> None:
    (tally.folder / "contract.yaml").write_text(reference_text())
    tally("contract", "apply", "contract.yaml")
    out, _ = tally("contract", "show", "contract.yaml", "--json")
    name = json.loads(out)["contract"]
    _, errors = tally("orgs", "set", "acme", "--contract", name, "--plan", "platinum", "--from", "2026-10-01", code=2)
    assert "name one of" in errors
    tally(
        "orgs",
        "set",
        "acme",
        "--contract",
        name,
        "--plan",
        "pro",
        "--time-zone",
        "Europe/Paris",
        "--from",
        "2026-10-01",
    )
    out, _ = tally("orgs", "show", "acme", "--json")
    assert json.loads(out)["subscription"]["time_zone"] == "Europe/Paris"
    out, _ = tally("orgs", "list")
    assert "acme" in out


def test_csv_rows_become_events_that_can_be_taken_in(tally: Tally) -> None:
    (tally.folder / "trace.csv").write_text("TIMESTAMP,In,Out\n2026-10-16 18:17:03.9799600,4808,10\n2026-10-17,x,1\n")
    recipe = ["--map", "time=TIMESTAMP", "--map", "tokens_in=In", "--map", "tokens_out=Out"]
    for pair in ("provider=openai", "model=gpt-4o", "feature=f", "environment=production"):
        recipe += ["--set", pair]
    recipe += ["--set", "user_id=u{row%50}", "--set", "session_id=s{row}"]
    out, errors = tally("events-from-csv", "trace.csv", "--org", "acme", *recipe, code=1)
    assert "line 3: meters.tokens_in" in errors
    piped, _ = tally(
        "events-from-csv", "-", "--org", "acme", *recipe, code=1, stdin=(tally.folder / "trace.csv").read_bytes()
    )
    assert piped == out
    summary, _ = tally("ingest", "-", "--json", stdin=out.encode())
    assert json.loads(summary)["accepted"] == 1


def test_reprice_lists_what_still_has_no_price(tally: Tally) -> None:
    tally("ingest", "-", stdin=lines(raw_event("a", model="never-heard-of")))
    out, _ = tally("reprice", "--json")
    answer = json.loads(out)
    assert answer["corrected"] == 0
    assert answer["still_unpriced"][0]["model"] == "never-heard-of"
    assert "still unpriced: 1 of openai never-heard-of" in tally("reprice")[0]


def test_the_embedded_server_is_started_where_no_database_is_named(tally: Tally, short_dir: Path) -> None:
    del tally.environment["DATABASE_URL"]
    tally.environment["TALLY_DATA_DIR"] = str(short_dir / "data")
    assert "accepted             1" in tally("ingest", "-", stdin=lines(raw_event()))[0]
    assert "1 entries" in tally("orgs", "list")[0]
