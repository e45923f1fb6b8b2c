"""What is recorded arrives once: without a server, after a crash, from several processes, and within bounds."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fake_upstream import FakeUpstream, Reply
from tallystick_sdk import Tally
from tallystick_sdk.spool import Spool, Waiting

USAGE = {"provider": "openai", "model": "gpt-4o-mini", "meters": {"tokens_in": 1000, "tokens_out": 200}}
TAGS = {"org_id": "acme", "user_id": "u", "session_id": "s", "feature": "f", "environment": "production"}


def spool_of(path: Path | None = None, **more: int) -> Spool:
    return Spool(path, **{"items_max": 1000, "bytes_max": 1_000_000, **more})


def item(number: int, org_id: str = "acme", **more: Any) -> Waiting:
    return Waiting("event", org_id, f"r-{number}", b"{}", **more)


def ids(org: Any) -> list[str]:
    return sorted(event["request_id"] for event in org.ledger())


def test_record_returns_before_anything_is_sent_and_can_be_waited_for(tally: Tally, org: Any) -> None:
    began = time.monotonic()
    recordings = [tally.record(USAGE, request_id=f"r-{number:03}") for number in range(300)]
    assert time.monotonic() - began < 3.0
    assert all(recording.wait(10) for recording in recordings)
    assert tally.flush()
    assert ids(org) == [f"r-{number:03}" for number in range(300)]
    stats = tally.stats()
    assert (stats.recorded, stats.sent, stats.waiting, stats.dropped, stats.refused) == (300, 300, 0, 0, 0)


def test_what_is_recorded_while_the_server_is_away_is_sent_when_it_is_back(own_server: Any) -> None:
    org = own_server.new_org()
    tally = Tally(base_url=org.url, **{**TAGS, "org_id": org.org_id})
    tally.record(USAGE, request_id="r-1")
    assert tally.flush()
    own_server.stop(signal.SIGKILL)
    for number in range(2, 20):
        tally.record(USAGE, request_id=f"r-{number}")
    assert not tally.flush(0.3)
    assert tally.stats().waiting == 18
    own_server.start()
    assert tally.flush(30)
    assert len(ids(org)) == 19
    tally.close()


def test_an_event_without_its_tags_is_refused_loudly_and_breaks_nothing(
    tally_of: Callable[..., Tally], caplog: pytest.LogCaptureFixture
) -> None:
    tally = tally_of(user_id=None)
    recording = tally.record(USAGE)
    assert recording.refused is not None
    assert recording.refused.code == "missing_tags"
    assert not recording.wait(1)
    for wrong in (
        {"no_such": 1},
        {"meters": object()},
        {"time": "never", "user_id": object()},
        {"provider_cost_usd": "x"},
    ):
        assert tally.record(USAGE, **{"user_id": "u", **wrong}).refused is not None
    assert tally.stats().refused == 5
    assert caplog.text.count("usage was not recorded") == 5


def test_what_the_server_will_never_take_is_kept_apart_and_does_not_hold_up_the_rest(
    tally_of: Callable[..., Tally], org: Any
) -> None:
    told: list[Any] = []
    tally = tally_of(on_refused=told.append)
    tally.record(USAGE, request_id="r-1")
    tally.record(USAGE, request_id="r-2", meters={"no_such_meter": 1})
    tally.record(USAGE, request_id="r-3", time="1999-01-01T00:00:00Z")
    tally.record(USAGE, request_id="r-4")
    assert tally.flush()
    tally.record(USAGE, request_id="r-4", meters={"tokens_in": 7})
    assert tally.flush()
    assert ids(org) == ["r-1", "r-4"]
    refused = {one.id: one for one in tally.refused()}
    assert set(refused) == {"r-2", "r-3", "r-4"}
    assert refused["r-4"].code == "request_id_conflict"
    assert json.loads(refused["r-2"].body)["meters"] == {"no_such_meter": 1}
    assert {one.id for one in told} == {"r-2", "r-3", "r-4"}


def test_the_spool_is_bounded_and_what_is_dropped_is_counted_and_said(
    unused_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    tally = Tally(base_url=unused_url, spool_items_max=10, **TAGS)
    recordings = [tally.record(USAGE) for _ in range(25)]
    kept = [recording.wait(10) for recording in recordings]
    stats = tally.stats()
    assert (sum(kept), stats.dropped, stats.waiting) == (10, 15, 10)
    assert "LOST" in caplog.text
    tally.close(0)


def test_a_killed_process_has_lost_nothing_that_was_on_disk_and_the_next_one_sends_it(org: Any, tmp_path: Path) -> None:
    program = """
        import os, sys
        from tallystick_sdk import Tally
        tally = Tally(base_url=sys.argv[1], spool=sys.argv[2], org_id=sys.argv[3], user_id="u", session_id="s",
                      feature="f", environment="production")
        made = [tally.record(model="gpt-4o-mini", provider="openai", meters={"tokens_in": n}, request_id=f"r-{n}")
                for n in range(1, 51)]
        assert all(one.wait(10) for one in made)
        os.kill(os.getpid(), 9)
    """
    spool = tmp_path / "one.sqlite"
    dead = _run(program, "http://127.0.0.1:9", str(spool), org.org_id)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert spool.stat().st_mode & 0o077 == 0
    tally = Tally(base_url=org.url, spool=spool)  # nothing is recorded here: it sends what it finds
    ends = time.monotonic() + 20
    while len(org.ledger()) < 50 and time.monotonic() < ends:
        time.sleep(0.05)
    assert len(ids(org)) == 50
    assert tally.stats().waiting == 0
    tally.close()


def test_a_process_that_ends_sends_what_it_recorded(org: Any, tmp_path: Path) -> None:
    program = """
        import sys
        from tallystick_sdk import Tally
        tally = Tally(base_url=sys.argv[1], spool=sys.argv[2], org_id=sys.argv[3], user_id="u", session_id="s",
                      feature="f", environment="production")
        for n in range(100):
            tally.record(model="gpt-4o-mini", provider="openai", meters={"tokens_in": n})
    """
    done = _run(program, org.url, str(tmp_path / "one.sqlite"), org.org_id)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(ids(org)) == 100


def test_several_processes_share_one_spool_and_one_of_them_sends(org: Any, tmp_path: Path) -> None:
    program = """
        import sys
        from tallystick_sdk import Tally
        tally = Tally(base_url=sys.argv[1], spool=sys.argv[2], org_id=sys.argv[3], user_id="u", session_id="s",
                      feature="f", environment="production")
        for n in range(200):
            who = f"{sys.argv[4]}-{n}"
            tally.record(model="gpt-4o-mini", provider="openai", meters={"tokens_in": n}, request_id=who)
        assert tally.flush(30)
        assert tally.stats().dropped == tally.stats().refused == 0
    """
    arguments = (org.url, str(tmp_path / "one.sqlite"), org.org_id)
    running = [_start(program, *arguments, str(number)) for number in range(4)]
    for one in running:
        _, errors = one.communicate(timeout=60)
        assert (one.returncode, errors) == (0, "")
    assert len(org.ledger()) == 500  # the first page
    connection = sqlite3.connect(tmp_path / "one.sqlite")
    assert connection.execute("select items, bytes from total").fetchone() == (0, 0)
    connection.close()


def test_a_fork_records_and_sends_by_itself(org: Any, tmp_path: Path) -> None:
    program = """
        import os, sys
        from tallystick_sdk import Tally
        tally = Tally(base_url=sys.argv[1], spool=sys.argv[2], org_id=sys.argv[3], user_id="u", session_id="s",
                      feature="f", environment="production")
        usage = {"model": "gpt-4o-mini", "provider": "openai", "meters": {"tokens_in": 5}}
        tally.record(usage, request_id="before")
        assert tally.flush()
        for number in range(3):
            if os.fork() == 0:
                tally.record(usage, request_id=f"child-{number}")
                held = tally.wallet().available
                assert tally.flush(20), tally.stats()
                os._exit(0)
        tally.record(usage, request_id="parent")
        assert tally.flush(20)
        assert [os.wait()[1] for _ in range(3)] == [0, 0, 0]
    """
    done = _run(program, org.url, str(tmp_path / "one.sqlite"), org.org_id)
    assert done.returncode == 0, done.stderr
    assert ids(org) == ["before", "child-0", "child-1", "child-2", "parent"]


def test_a_fork_while_other_threads_begin_and_end_to_send_harms_nobody(tmp_path: Path) -> None:
    program = """
        import os, sys, threading
        from pathlib import Path
        from tallystick_sdk.spool import Spool
        spool = Spool(Path(sys.argv[1]), items_max=10, bytes_max=1000)
        ends = threading.Event()
        taken = []
        def send():
            while not ends.is_set():
                with spool.sending() as is_ours:
                    taken.append(is_ours)
        threads = [threading.Thread(target=send) for _ in range(2)]
        for one in threads:
            one.start()
        for _ in range(100):
            if (child := os.fork()) == 0:
                with spool.sending():
                    os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        ends.set()
        for one in threads:
            one.join()
        assert any(taken)
    """
    done = _run(program, str(tmp_path / "one.sqlite"))
    assert (done.returncode, done.stderr) == (0, "")


def test_another_orgs_usage_stays_for_whoever_may_send_it_and_the_rest_goes_on(tmp_path: Path, caplog: Any) -> None:
    with FakeUpstream() as upstream:
        tally = Tally(base_url=upstream.url, spool=tmp_path / "one.sqlite", **TAGS)
        upstream.reply = Reply(status=403, body=b'{"code": "wrong_org", "detail": "the key is of another org"}')
        tally.record(USAGE, request_id="r-1")
        assert not tally.flush(20)  # which gives up at once, since nobody here may send it
        assert (tally.stats().waiting, tally.stats().refused) == (1, 0)
        assert "may not send usage of acme" in caplog.text
        tally.close(0)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=503, body=b'{"code": "database_unreachable", "detail": "away"}', headers={"retry-after": "1"}),
        Reply(status=401, body=b'{"code": "key_revoked", "detail": "the key is revoked"}'),
        Reply(status=502, body=b"<html>bad gateway</html>", content_type="text/html"),
        Reply(status=404, body=b"not here", content_type="text/plain"),
        Reply(status=200, body=b"<html>a login page</html>", content_type="text/html"),
        Reply(status=200, body=b'{"results": []}'),
        Reply(then="reset", sent_bytes=0),
    ],
    ids=["away", "revoked", "proxy", "elsewhere", "login", "short", "reset"],
)
def test_nothing_is_given_up_for_a_server_that_cannot_take_it_now(reply: Reply, tmp_path: Path) -> None:
    with FakeUpstream() as upstream:
        tally = Tally(base_url=upstream.url, spool=tmp_path / "one.sqlite", **TAGS)
        upstream.reply = reply
        tally.record(USAGE, request_id="r-1").wait(5)
        ends = time.monotonic() + 10
        while tally.stats().last_error is None and time.monotonic() < ends:
            time.sleep(0.02)
        assert not tally.flush(0.1)
        stats = tally.stats()
        assert (stats.waiting, stats.sent, stats.refused, stats.dropped) == (1, 0, 0, 0)
        assert stats.last_error is not None
        upstream.reply = Reply(body=b'{"results": [{"status": "accepted"}]}')
        assert tally.flush(10)
        assert tally.stats().sent == 1
        assert tally.stats().last_error is None
        tally.close(0)


def test_one_event_that_spoils_a_request_is_found_by_halving(tmp_path: Path) -> None:
    with FakeUpstream() as upstream:
        tally = Tally(base_url=upstream.url, spool=tmp_path / "one.sqlite", **TAGS)
        upstream.reply = Reply(status=400, body=b'{"code": "malformed_json", "detail": "byte 7"}')
        tally.record(USAGE, request_id="r-1")
        tally.record(USAGE, request_id="r-2")
        assert tally.flush(5)
        assert [one.code for one in tally.refused()] == ["malformed_json"] * 2
        tally.close(0)


def test_a_folder_that_cannot_be_written_is_said_and_usage_is_sent_all_the_same(
    tally_of: Callable[..., Tally], org: Any, caplog: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    tally = tally_of(spool=tmp_path / "file" / "one.sqlite")
    assert "no spool on disk" in caplog.text
    tally.record(USAGE, request_id="r-1")
    assert tally.flush()
    assert ids(org) == ["r-1"]


def test_a_disk_that_is_full_is_said_and_usage_is_sent_past_it(
    tally: Tally, org: Any, caplog: Any, monkeypatch: Any
) -> None:
    def full(*_: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Spool, "put", full)
    assert tally.record(USAGE, request_id="r-1").wait(10)
    assert ids(org) == ["r-1"]
    assert "cannot be written" in caplog.text


def test_a_fault_in_the_library_costs_what_it_met_and_nothing_after(
    tally: Tally, org: Any, caplog: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Spool, "put", lambda *_: 1 / 0)
    assert not tally.record(USAGE, request_id="r-1").wait(10)
    monkeypatch.undo()
    assert tally.record(USAGE, request_id="r-2").wait(10)
    assert tally.flush()
    assert (ids(org), tally.stats().dropped) == (["r-2"], 1)
    assert "LOST" in caplog.text


def test_rows_wait_until_they_are_due_and_the_oldest_go_first(tmp_path: Path) -> None:
    spool = spool_of(tmp_path / "one.sqlite")
    spool.put([item(1, due_at=100.0), item(2), item(3, "other")])
    assert [row.id for row in spool.due(50.0, 10)] == ["r-2", "r-3"]
    assert [row.id for row in spool.due(50.0, 1)] == ["r-2"]
    assert [row.id for row in spool.due(100.0, 10, ["other"])] == ["r-2", "r-1"]
    assert spool.next_due(["other"]) == 0.0
    spool.free_events("acme", ["r-1"])
    assert len(spool.due(0.0, 10)) == 3
    spool.drop_events("acme", ["r-1", "r-3"])  # the second is another org's
    assert [row.id for row in spool.due(0.0, 10)] == ["r-2", "r-3"]
    spool.close()
    assert spool.count() == 2


def test_only_one_sends_at_a_time_and_the_next_takes_over(tmp_path: Path) -> None:
    one, other = spool_of(tmp_path / "one.sqlite"), spool_of(tmp_path / "one.sqlite")
    with one.sending() as is_ours:
        assert is_ours
        with other.sending() as is_others:
            assert not is_others
    with other.sending() as is_others:
        assert is_others
    one.close()
    other.close()


def test_a_spool_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    spool_of(tmp_path / "one.sqlite").put([item(1)])
    connection = sqlite3.connect(tmp_path / "one.sqlite")
    connection.execute("pragma user_version = 9")
    connection.close()
    with pytest.raises(sqlite3.DatabaseError, match="later release"):
        spool_of(tmp_path / "one.sqlite").count()


def test_many_threads_record_at_once(tally: Tally, org: Any) -> None:
    def work(name: int) -> None:
        for number in range(40):
            tally.record(USAGE, request_id=f"{name}-{number}")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.flush()
    assert len(set(ids(org))) == 400


def test_a_client_that_nobody_holds_any_more_sends_what_it_has_and_ends_its_threads(org: Any, tmp_path: Path) -> None:
    tags = {**TAGS, "org_id": org.org_id}
    before = threading.active_count()
    Tally(base_url=org.url, spool=tmp_path / "one.sqlite", **tags).record(USAGE, request_id="r-1")
    ends = time.monotonic() + 20
    while (ids(org) != ["r-1"] or threading.active_count() > before) and time.monotonic() < ends:
        time.sleep(0.05)
    assert ids(org) == ["r-1"]
    assert threading.active_count() <= before


def _start(program: str, *arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(one for one in sys.path if one)
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    running = _start(program, *arguments)
    out, errors = running.communicate(timeout=60)
    return subprocess.CompletedProcess(running.args, running.returncode, out, errors)
