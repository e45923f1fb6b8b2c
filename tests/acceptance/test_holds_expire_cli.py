"""`tally holds expire`: what nobody resolved in time comes to its end by hand, where no server runs."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from account_operations import account_of, authorize, do, subscribe, wrongs
from tally_processes import run_tally
from tallystick.app.runtime import Runtime


def test_holds_whose_life_is_over_end_and_it_is_said_how_many(
    runtime: Runtime, database_url: str, tmp_path: Path
) -> None:
    subscribe(runtime, "acme", "globex")
    runtime.clock = lambda: datetime.now(UTC) - timedelta(hours=1)  # the command's clock is the machine's
    for org in ("acme", "acme", "globex"):
        do(runtime, authorize(org))
    environment = {**os.environ, "DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path)}
    done = run_tally("holds", "expire", "--json", env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["entries"] >= 3
    assert account_of(runtime, "acme")["open"] == account_of(runtime, "globex")["open"] == []
    again = run_tally("holds", "expire", env=environment)
    assert again.stdout.strip() == "0 entries say what came to its end"
    assert wrongs(runtime) == []
