"""`tally replay`, run as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from journal_helpers import query, raw_event
from tally_processes import run_tally
from tallystick.app.ingest import check_items
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once


def test_history_replays_and_a_changed_block_does_not(runtime: Runtime, database_url: str, tmp_path: Path) -> None:
    environment = {**os.environ, "DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path)}

    def tally(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_tally(*arguments, env=environment)

    runtime.append(check_items(runtime, [raw_event(f"r{number}") for number in range(5)]))
    october = ("replay", "--from", "2026-10-01", "--to", "2026-11-01")
    nothing = tally(*october)
    assert (nothing.returncode, "no block has entries" in nothing.stderr) == (0, True)

    seal_once(runtime, everything=True)
    sound = tally(*october)
    assert sound.returncode == 0, sound.stderr
    assert "5 entries of 1 blocks" in sound.stdout
    assert sound.stdout.strip().endswith("identical")
    assert json.loads(tally(*october, "--org", "acme", "--json").stdout)["entries"] == 5

    ((path,),) = query(runtime, "select path from blocks")
    main = tmp_path / "blocks" / str(path)
    main.write_bytes(main.read_bytes()[:-1] + b"?")
    changed = tally(*october, "--json")
    report = json.loads(changed.stdout)
    assert (changed.returncode, report["identical"], report["entries"]) == (1, False, 0)
    assert [one["path"] for one in report["refused"]] == [str(main)]

    wrong = tally("replay", "--from", "2026-11-01", "--to", "2026-10-01")
    assert (wrong.returncode, "[invalid_period]" in wrong.stderr) == (2, True)
