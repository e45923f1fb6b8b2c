"""`tally invoice`, run as a person runs it, from a closed month to its replay."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from invoicing import CONTRACT, apply, event, record, subscribe
from journal_helpers import tamper
from tally_processes import run_tally
from tallystick.app.runtime import Runtime
from tallystick.invoice.digest import invoice_digest

MONTH = "2025-03"
Tally = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path)}


@pytest.fixture
def tally(environment: dict[str, str]) -> Tally:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        ran = run_tally("invoice", *arguments, env=environment)
        assert "Traceback" not in ran.stderr, ran.stderr
        return ran

    return run


@pytest.fixture
def month(runtime: Runtime) -> Runtime:
    """Two customers with a month of usage, and one that nobody put on a plan."""
    apply(runtime, CONTRACT.replace("2026-01-01", "2025-01-01"))
    began = datetime(2025, 1, 1, tzinfo=UTC)
    subscribe(runtime, "globex", effective_from=began)
    subscribe(runtime, "initech", "enterprise", effective_from=began)
    time = datetime(2025, 3, 15, 12, tzinfo=UTC)
    record(runtime, [event(f"r{number}", time=time) for number in range(4)])
    record(runtime, [event("=cmd()", time=time), event("r9", time=time, outcome="failure")])
    record(runtime, [event("r1", "initech", time=time, meters={"tokens_in": 1_234_567})])
    return runtime


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from tallystick.cli.main import main; main()", "invoice", *map(str, arguments)]


def test_a_month_goes_from_preview_to_replay(month: Runtime, tally: Tally, tmp_path: Path) -> None:
    ahead = tally("preview", "globex", MONTH, "--json")
    assert ahead.returncode == 0, ahead.stderr
    assert tally("list").stdout == ""

    closed = tally("close", MONTH, "--json")
    assert closed.returncode == 0, closed.stderr
    globex, initech = map(json.loads, closed.stdout.splitlines())
    assert (globex["org_id"], globex["status"], globex["total_usd"]) == ("globex", "closed", "10.00")
    assert (initech["org_id"], initech["status"], initech["total_usd"]) == ("initech", "closed", "100.00")
    assert globex["digest"] == json.loads(ahead.stdout)["digest"]
    assert "already closed" in tally("close", MONTH).stdout

    rows = [json.loads(line) for line in tally("list", "--org", "initech", "--json").stdout.splitlines()]
    assert [(row["invoice_id"], row["month"], row["total_usd"]) for row in rows] == [
        (initech["invoice_id"], MONTH, "100.00")
    ]
    assert globex["invoice_id"] in tally("list", "--month", MONTH).stdout

    page = tally("show", "globex/2025-03").stdout
    assert "Total due" in page
    assert "arrived after the close" not in page
    record(month, [event("late", time=datetime(2025, 3, 31, 23, 59, tzinfo=UTC))])
    assert (
        "1 request of this month arrived after the close and is not billed yet: it will be on the next invoice."
        in tally("show", globex["invoice_id"]).stdout
    )
    shown = json.loads(tally("show", globex["invoice_id"], "--json").stdout)
    assert (shown["late_events"], shown["late"][0]["request_id"]) == (1, "late")

    replayed = tally("replay", "globex/2025-03")
    assert (replayed.returncode, replayed.stdout.split(":")[0]) == (0, "identical")
    assert globex["digest"] in replayed.stdout
    report = json.loads(tally("replay", "initech/2025-03", "--json").stdout)
    assert (report["identical"], report["events"], report["differences"]) == (True, 1, [])


def test_what_came_late_goes_from_the_preview_to_the_next_months_replay(month: Runtime, tally: Tally) -> None:
    assert tally("close", MONTH).returncode == 0
    record(month, [event("late", time=datetime(2025, 3, 31, 23, 59, tzinfo=UTC), meters={"tokens_in": 2_000_000})])
    page = tally("preview", "globex", "2025-04").stdout
    assert "Adjustment of 2025-03, invoice inv_" in page
    assert "2,005,000 instead of 5,000" in page
    assert tally("close", "2025-04").returncode == 0
    shown = json.loads(tally("show", "globex/2025-03", "--json").stdout)
    april = json.loads(tally("show", "globex/2025-04", "--json").stdout)["invoice"]
    assert (shown["unbilled_events"], shown["late"][0]["billed_on"]) == (0, april["invoice_id"])
    told = tally("explain", "globex/2025-04", "--line", 2).stdout
    assert "Line 2: tokens_in, adjustment of 2025-03, 0.20 USD" in told
    assert "late" in told.splitlines()[-2]
    explained = json.loads(tally("explain", "globex/2025-04", "--json").stdout)
    assert [(line["month"], line["amount_usd"]) for line in explained["lines"]] == [
        ("2025-04", "10.00"),
        ("2025-03", "0.20"),
    ]
    rows = csv.DictReader(io.StringIO(tally("export", "globex/2025-04").stdout, newline=""))
    assert [(row["month"], row["request_id"], row["charged"]) for row in rows] == [("2025-03", "late", "yes")]
    assert tally("replay", "globex/2025-04").stdout.startswith("identical: ")


def test_an_explanation_names_the_arithmetic_and_the_requests(month: Runtime, tally: Tally) -> None:
    tally("close", MONTH)
    told = tally("explain", "initech/2025-03").stdout
    assert "Line 1: tokens_in, 13.64 USD" in told
    assert "234,567 × 7.00 per 1,000,000 + 2.00 flat = 3.641969 USD." in told
    assert [row.split()[1] for row in told.splitlines() if row.split()[1:2] == ["r1"]] == ["r1"]
    assert "r1" not in tally("explain", "initech/2025-03", "--no-requests").stdout.split()
    line = tally("explain", "globex/2025-03", "--line", 2, "--limit", 3).stdout
    assert [row.split()[1] for row in line.splitlines()[-5:-2]] == ["r0", "r1", "r2"]
    assert "The first 3; --limit lists more" in line
    answer = json.loads(tally("explain", "globex/2025-03", "--line", 2, "--json").stdout)
    requests = answer["lines"][0]["requests"]
    assert [one["request_id"] for one in requests] == ["r0", "r1", "r2", "r3", "=cmd()"]
    assert sum(one["quantities"]["tokens_in"] for one in requests) == 5000
    for refused in (("--line", 9), ("--line", 0), ("--requests", "--limit", 0)):
        done = tally("explain", "globex/2025-03", *refused)
        assert (done.returncode, done.stdout) == (2, "")


def test_exports_are_files_that_add_up(month: Runtime, tally: Tally, tmp_path: Path) -> None:
    tally("close", MONTH)
    document = json.loads(tally("export", "globex/2025-03", "--format", "json").stdout)
    assert invoice_digest(document) == document["digest"]
    theirs = json.loads(tally("export", "globex/2025-03", "--format", "json", "--for-customer").stdout)
    assert "internal" not in theirs
    assert invoice_digest(theirs) == theirs["digest"]

    file = tmp_path / "requests.csv"
    done = tally("export", "globex/2025-03", "--output", file)
    assert (done.returncode, done.stdout) == (0, "")
    rows = list(csv.DictReader(io.StringIO(file.read_bytes().decode(), newline="")))
    assert [row["request_id"] for row in rows] == ["r0", "r1", "r2", "r3", "'=cmd()", "r9"]
    charged = [int(row["tokens_in_quantity"]) for row in rows if row["charged"] == "yes"]
    assert str(sum(charged)) == document["lines"][1]["quantity"]
    customer = tally("export", "globex/2025-03", "--for-customer").stdout
    assert "cost" not in customer.splitlines()[0]

    lines = list(csv.DictReader(io.StringIO(tally("export", "globex/2025-03", "--format", "lines-csv").stdout)))
    assert [row["amount_usd"] for row in lines] == [line["amount_usd"] for line in document["lines"]]
    assert "Total due" in tally("export", "globex/2025-03", "--format", "text").stdout

    unknown = tally("export", "globex/2025-03", "--format", "docx")
    assert (unknown.returncode, "csv, lines-csv, json, text" in unknown.stderr) == (2, True)
    nowhere = tally("export", "globex/2025-03", "--output", tmp_path / "none" / "x.csv")
    assert (nowhere.returncode, "cannot_write" in nowhere.stderr) == (2, True)


def test_a_reader_of_the_export_may_leave_early(month: Runtime, tally: Tally, environment: dict[str, str]) -> None:
    record(month, [event(f"more-{number}", time=datetime(2025, 3, 2, tzinfo=UTC)) for number in range(3000)])
    tally("close", MONTH)
    process = subprocess.Popen(
        command("export", "globex/2025-03"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b"month,seq,request_id,")
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(60) == 0, said
    assert b"Traceback" not in said


def test_an_org_that_cannot_be_closed_is_named_and_the_others_are_closed(month: Runtime, tally: Tally) -> None:
    record(month, [event("r1", "stranger", time=datetime(2025, 3, 3, tzinfo=UTC))])
    done = tally("close", MONTH, "--json")
    assert done.returncode == 1
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["closed", "closed", "failed"]
    assert "[no_subscription]" in done.stderr
    assert "tally orgs set stranger" in done.stderr


def test_a_tampered_ledger_is_told_request_by_request(month: Runtime, tally: Tally, database_url: str) -> None:
    tally("close", MONTH)
    tamper(
        database_url,
        "update ledger_entries set meter_quantities = '{2000, 100}' where org_id = 'globex' and request_id = 'r2'",
    )
    done = tally("replay", "globex/2025-03")
    assert done.returncode == 1
    assert "identical:" not in done.stdout
    assert "request r2, entry 3: cost line 1 (tokens_in), quantity: stored 1000, recomputed 2000" in done.stdout
    assert "the invoice: lines[1].quantity: stored 5000, recomputed 6000" in done.stdout
    report = json.loads(tally("replay", "globex/2025-03", "--json").stdout)
    assert report["identical"] is False
    assert report["difference_count"] == len(report["differences"]) == len(done.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("close", "2025-13"), "invalid_month"),
        (("preview", "globex", "March"), "invalid_month"),
        (("preview", "nobody", MONTH), "unknown_org"),
        (("finalize", "--due", "--org", "globex", "--org", "nobody"), "unknown_org"),
        (("list", "--month", "soon"), "invalid_month"),
        (("show", "inv_0"), "unknown_invoice"),
        (("replay", "globex/2025-03"), "unknown_invoice"),
        (("explain", "globex/2025-02"), "unknown_invoice"),
        (("export", ""), "unknown_invoice"),
        (("show", os.fsdecode(b"glob\xffex/2025-03")), "invalid_text"),
        (("show", os.fsdecode(b"inv_\xff")), "invalid_utf8"),
        (("close", MONTH, "--org", os.fsdecode(b"\xff")), "invalid_text"),
    ],
)
def test_bad_input_is_a_message_and_exit_code_2(
    month: Runtime, tally: Tally, arguments: tuple[str, ...], code: str
) -> None:
    done = tally(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"[{code}]" in done.stderr
    assert "next: " in done.stderr


def test_a_month_that_is_still_running_is_refused_and_previewed(month: Runtime, tally: Tally) -> None:
    label = f"{datetime.now(UTC).year + 1}-01"
    done = tally("close", label, "--org", "globex")
    assert done.returncode == 1
    assert "[month_not_over]" in done.stderr
    assert tally("preview", "globex", label).returncode == 0
