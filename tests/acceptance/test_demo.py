"""`tally demo` goes from the first event to a replayed invoice, and the same seed tells the same story."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from tally_processes import run_tally


def _demo(data_dir: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TALLY_DATA_DIR": str(data_dir)}
    return run_tally("demo", "--events", 2000, "--output", output, *options, env=environment)


def _demo_from_nothing(data_dir: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """As who has just installed it starts it: by an interpreter that has imported nothing."""
    return subprocess.run(
        [sys.executable, "-m", "tallystick", "demo", "--events", "2000", "--output", str(output)],
        env={**os.environ, "TALLY_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_month_is_simulated_billed_written_and_replayed_the_same_each_time(short_dir: Path, tmp_path: Path) -> None:
    first = _report(_demo(short_dir, tmp_path / "first", "--json"))
    assert first["results"]["accepted"] == 2_000
    assert first["results"]["duplicate"] > 0
    assert first["unpriced"] > 0
    assert first["replay"]["identical"]
    assert {invoice["plan"] for invoice in first["invoices"]} == {"free", "pro", "enterprise", "enterprise-initech"}

    for invoice in first["invoices"]:
        name = f"{invoice['org_id']}-2026-10"
        document = json.loads((tmp_path / "first" / f"{name}.json").read_text())
        assert document["digest"] == invoice["digest"]
        assert invoice["digest"] in (tmp_path / "first" / f"{name}.txt").read_text()
        with (tmp_path / "first" / f"{name}.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert sum(Decimal(line["amount_usd"]) for line in lines) == Decimal(invoice["total_usd"])
        with (tmp_path / "first" / f"{name}.requests.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == document["ledger"]["events"]

    again = _report(_demo(short_dir, tmp_path / "again", "--json"))
    assert [one["digest"] for one in again["invoices"]] == [one["digest"] for one in first["invoices"]]
    other = _report(_demo(short_dir, tmp_path / "other", "--json", "--seed", "8"))
    assert [one["digest"] for one in other["invoices"]] != [one["digest"] for one in first["invoices"]]


def test_a_person_reads_a_table_and_what_to_do_next(short_dir: Path, tmp_path: Path) -> None:
    done = _demo_from_nothing(short_dir, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "identical" in done.stdout
    assert "invoice explain initech/2026-10" in done.stdout
    assert "taking in events" in done.stderr
    environment = {**os.environ, "TALLY_DATA_DIR": str(short_dir / "demo")}
    verified = run_tally("verify", env=environment)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    before = run_tally("invoice", "close", "2026-09", "--json", env=environment)
    assert (before.returncode, before.stdout) == (0, "")  # nothing is left to be billed of the month before


def test_what_cannot_be_simulated_is_refused_before_anything_starts(short_dir: Path, tmp_path: Path) -> None:
    for options in (["--month", "2026-13"], ["--events", "0"]):
        done = _demo(short_dir, tmp_path, *options)
        assert done.returncode == 2
        assert "next:" in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(short_dir.iterdir())
