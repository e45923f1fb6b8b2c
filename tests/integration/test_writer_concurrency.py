"""Writers that race, and writers that are killed: each event is still stored exactly once."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from journal_helpers import count, query, raw_event
from tally_processes import TallyProcess, run_tally
from tallystick.app.ingest import ingest_events
from tallystick.app.runtime import Runtime

ORGS = 5


def assert_whole(runtime: Runtime, events: int) -> None:
    """Every event is there once with its entry, and every org's sequence is dense up to its head."""
    assert count(runtime, "ledger_entries") == events
    sequences = query(
        runtime,
        "select min(seq), max(seq) - count(*), max(seq) - max(last_seq)"
        " from ledger_entries join org_heads using (org_id) group by org_id",
    )
    assert set(sequences) == {(1, 0, 0)}


def test_eight_threads_that_send_the_same_events_store_each_once(runtime: Runtime) -> None:
    raws = [raw_event(f"r{number}", org_id=f"org-{number % ORGS}") for number in range(200)]

    def send(thread: int) -> Counter[str]:
        # Each begins elsewhere and goes the other way round, so that locks are wanted in every order.
        shifted = [*raws[thread * 25 :], *raws[: thread * 25]]
        mine = shifted[::-1] if thread % 2 else shifted
        return Counter(result.status for result in ingest_events(runtime, mine, batch_events=7 + thread))

    with ThreadPoolExecutor(8) as threads:
        statuses = sum(threads.map(send, range(8)), Counter())
    assert statuses == {"accepted": 200, "duplicate": 1400}
    assert_whole(runtime, 200)


def test_of_two_contents_under_one_id_sent_at_once_one_is_stored_and_the_other_conflicts(runtime: Runtime) -> None:
    def send(number: int) -> list[str]:
        raws = [raw_event(f"r{index}", meters={"tokens_in": number}) for index in range(50)]
        return [result.status for result in ingest_events(runtime, raws, batch_events=5)]

    with ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(send, range(4)))
    for index in range(50):
        assert sorted(sent[index] for sent in statuses) == ["accepted", "conflict", "conflict", "conflict"]
    assert_whole(runtime, 50)


def test_a_killed_ingest_leaves_whole_batches_and_a_resend_completes_them(
    runtime: Runtime, database_url: str, tmp_path: Path
) -> None:
    events = 12_000
    file = tmp_path / "events.jsonl"
    with file.open("w") as lines:
        for number in range(events):
            lines.write(json.dumps(raw_event(f"r{number}", org_id=f"org-{number % ORGS}")) + "\n")
    environment = {**os.environ, "DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path)}
    with (tmp_path / "said").open("wb") as said:
        streams = {"stdout": said.fileno(), "stderr": said.fileno()}
        process = TallyProcess(["ingest", file, "--batch-size", 100], env=environment, **streams)
    deadline = time.monotonic() + 60
    while count(runtime, "ledger_entries") < 500:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    stored = count(runtime, "ledger_entries")
    assert 500 <= stored < events
    assert_whole(runtime, stored)
    done = run_tally("ingest", file, "--json", env=environment)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    still_stored_by_the_killed = summary["duplicate"]
    assert still_stored_by_the_killed >= stored  # a batch that was being committed may have arrived after all
    assert summary["accepted"] == events - still_stored_by_the_killed
    assert_whole(runtime, events)
