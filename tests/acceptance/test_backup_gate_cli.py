"""`tally backup`, `tally restore`, `tally erasures`, `tally doctor` and `tally gate`, as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from journal_helpers import raw_event
from tally_processes import run_tally
from tallystick.journal.server import EmbeddedServer


def tally(folder: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    ran = run_tally(*arguments, env={**os.environ, "TALLY_DATA_DIR": str(folder)})
    assert "Traceback" not in ran.stderr, ran.stderr
    assert ran.returncode == code, (ran.stdout, ran.stderr)
    return ran


def test_a_place_is_backed_up_lost_and_made_again(begun_dir: Path, short_dir: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    events = [
        raw_event(f"{environment}-{n}", time=(now - timedelta(hours=1)).isoformat(), environment=environment)
        for environment in ("production", "staging")
        for n in range(3)
    ]
    (short_dir / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
    file, list_file, new = short_dir / "all.tar", short_dir / "erased.jsonl", short_dir / "new"
    with EmbeddedServer(begun_dir):  # as under `tally serve`
        tally(begun_dir, "ingest", short_dir / "events.jsonl")
        tally(begun_dir, "seal", "--all")
        made = json.loads(tally(begun_dir, "backup", file, "--json").stdout)
        assert (made["entries"], made["blocks"], made["unsound"]) == (6, 1, [])
        assert "backup_exists" in tally(begun_dir, "backup", file, code=2).stderr
        notes = tally(begun_dir, "checkpoint", "show").stdout
        tally(begun_dir, "erase-person", "acme", "u1")
        tally(begun_dir, "erasures", list_file)

    whole = json.loads(tally(begun_dir, "restore", file, "--check", "--json").stdout)
    assert whole["sha256"] == made["sha256"]
    options = ["--data-dir", new, "--sha256", made["sha256"], "--erasures", list_file, "--json"]
    said = json.loads(tally(begun_dir, "restore", file, *options).stdout)
    assert said["erased_again"]["persons"] == 1
    assert "restore_not_empty" in tally(begun_dir, "restore", file, "--data-dir", new, code=2).stderr
    with EmbeddedServer(new):
        tally(new, "verify")
        assert tally(new, "checkpoint", "show").stdout == notes
        assert "restored at" in tally(new, "doctor").stdout
        _gate(new, short_dir)
        (new / "restore-unfinished.json").write_text("{}")
        assert "restore_unfinished" in tally(new, "verify", code=3).stderr
        assert "restore_unfinished" in tally(new, "doctor", "--quiet", code=1).stdout


def _gate(new: Path, short_dir: Path) -> None:
    asked = ["gate", "--against", "7d", "--max-increase", "10%", "--environment", "staging"]
    told = json.loads(tally(new, *asked, "--min-sample", 3, "--json").stdout)
    assert (told["passed"], told["groups"][0]["increase"]) == (True, "0.00%")
    few = tally(new, *asked, "--markdown", short_dir / "summary.md", code=1)
    assert "sample_too_small" in few.stderr
    assert "| chat | 3 | 3 |" in (short_dir / "summary.md").read_text()
    assert "invalid_increase" in tally(new, *asked[:3], "--max-increase", "ten", code=2).stderr
