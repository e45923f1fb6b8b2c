"""`tally spool` as an operator uses it, and `tally serve` that spools: real processes, a real outage."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from fault_tools import Proxy
from journal_helpers import raw_event
from tally_processes import run_tally
from tallystick.journal.spool import Spool
from tallystick.usage.checks import check_event
from tallystick.usage.meters import METERS

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(database_url) as opened:
        yield opened


def tally(proxy: Proxy, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATABASE_URL": proxy.url, "TALLY_DATA_DIR": str(folder)}
    return run_tally(*arguments, env=environment)


def put(folder: Path, *ids: str, **more: object) -> None:
    with closing(Spool(folder, events_max=100)) as spool:
        events = [check_event(raw_event(one, **more), now=NOW, known_meters=METERS) for one in ids]
        spool.add(events, [os.urandom(16) for _ in ids], NOW)


def test_an_operator_sees_drains_retries_and_dismisses(proxy: Proxy, database_url: str, tmp_path: Path) -> None:
    empty = tally(proxy, tmp_path, "spool", "--json")
    assert (empty.returncode, json.loads(empty.stdout)) == (0, {"waiting": 0, "oldest": None, "refused": []})
    assert list(tmp_path.iterdir()) == []

    put(tmp_path, "r1", "r2")
    proxy.stop()
    shown = tally(proxy, tmp_path, "spool")  # it asks no database
    assert shown.stdout == "2 events wait, the oldest since 2026-11-02T12:00:00Z; 0 were refused\n"
    away = tally(proxy, tmp_path, "spool", "drain")
    assert away.returncode == 3
    assert "[database_unreachable]" in away.stderr

    proxy.start()
    done = tally(proxy, tmp_path, "spool", "drain", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"waited": 2, "refused": 0}), done.stderr
    again = tally(proxy, tmp_path, "spool", "drain", "--json")
    assert (again.returncode, json.loads(again.stdout)) == (0, {"waited": 0, "refused": 0})
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select request_id, seq from ledger_entries order by seq").fetchall()
    assert rows == [("r1", 1), ("r2", 2)]

    put(tmp_path, "r1", user_id="somebody else")
    refused = tally(proxy, tmp_path, "spool", "drain")
    assert refused.returncode == 1
    listed = json.loads(tally(proxy, tmp_path, "spool", "list", "--json").stdout)
    (one,) = listed["refused"]
    assert (one["org_id"], one["request_id"], one["code"]) == ("acme", "r1", "request_id_conflict")
    assert one["event"]["user_id"] == "somebody else"

    retried = tally(proxy, tmp_path, "spool", "retry", "--json")
    assert json.loads(retried.stdout) == {"waiting_again": 1}
    assert tally(proxy, tmp_path, "spool", "drain").returncode == 1
    dismissed = tally(proxy, tmp_path, "spool", "dismiss", "acme", "r1", "--json")
    assert json.loads(dismissed.stdout) == {"dismissed": 1}
    unknown = tally(proxy, tmp_path, "spool", "dismiss", "acme", "r1")
    assert (unknown.returncode, "[not_refused]" in unknown.stderr) == (2, True)
    assert json.loads(tally(proxy, tmp_path, "spool", "--json").stdout)["refused"] == []
    act = json.loads(tally(proxy, tmp_path, "audit", "export", "--json", "--act", "spool").stdout)
    assert (act["org_id"], act["subject"], act["after"]["code"]) == ("acme", "r1", "request_id_conflict")
