"""`tally seal`, `tally blocks`, `tally erase-person` and `tally retention`, run as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from journal_helpers import query, raw_event, tamper
from tally_processes import run_tally
from tallystick.app.ingest import check_items
from tallystick.app.runtime import Runtime

Tally = Callable[..., subprocess.CompletedProcess[str]]
NOW = datetime.now(UTC)


@pytest.fixture
def tally(database_url: str, tmp_path: Path) -> Tally:
    environment = {**os.environ, "DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path)}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        ran = run_tally(*arguments, env=environment | more)
        assert "Traceback" not in ran.stderr, ran.stderr
        return ran

    return run


def append(runtime: Runtime, count: int, moment: datetime) -> None:
    then = replace(runtime, clock=lambda: moment)
    raws = [raw_event(f"{moment}-{n}", time=moment.isoformat(), user_id=f"person-{n % 2}") for n in range(count)]
    then.append(check_items(then, raws))


def test_entries_are_sealed_listed_erased_and_let_go(runtime: Runtime, tally: Tally, tmp_path: Path) -> None:
    append(runtime, 6, NOW - timedelta(days=60))
    assert tally("blocks").stdout == ""

    sealed = tally("seal", "--json")  # they have waited for longer than 15 minutes
    (block,) = json.loads(sealed.stdout)["blocks"]
    assert (sealed.returncode, block["entries"], block["block"]) == (0, 6, 1)
    assert sha256((tmp_path / "blocks" / block["path"]).read_bytes()).hexdigest() == block["file_sha256"]
    assert json.loads(tally("blocks", "--json").stdout) == {"blocks": [block]}

    append(runtime, 3, datetime.now(UTC))
    waiting = tally("seal")
    assert (waiting.returncode, waiting.stdout) == (0, "")
    assert "3 entries wait" in waiting.stderr
    assert "block-000000000002.parquet\t3 entries" in tally("seal", "--all").stdout

    erased = tally("erase-person", "acme", "person-1", "--json")
    assert json.loads(erased.stdout) == {"org_id": "acme", "rows": 4, "archived_rows": 4, "files": 2, "keys": 0}
    assert query(runtime, "select distinct user_id from ledger_entries order by 1") == [("person-0",), (None,)]

    off = tally("retention", "run")
    assert (off.returncode, "[retention_not_set]" in off.stderr) == (2, True)
    gone = tally("retention", "run", "--json", TALLY_RETENTION_DAYS="45")
    assert (gone.returncode, json.loads(gone.stdout)["entries"]) == (0, 6)
    assert query(runtime, "select min(seq), max(seq) from ledger_entries") == [(7, 9)]


def test_a_tampered_entry_is_named_with_exit_code_1(runtime: Runtime, tally: Tally) -> None:
    append(runtime, 4, NOW)
    tamper(runtime.database.url, "update ledger_entries set model = 'cheaper' where seq = 3")

    ran = tally("seal", "--all")

    assert ran.returncode == 1
    assert "entry 3 of acme is not the one that was written [entry_tampered]" in ran.stderr
    assert "2 entries" in ran.stdout
