"""The spool's file: what it has taken is there after any crash, once, in order; a full disk or a full spool refuses."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fault_tools import fill, small_disk
from journal_helpers import raw_event
from tallystick.core.errors import Unavailable
from tallystick.journal.spool import Spool
from tallystick.usage.checks import check_event
from tallystick.usage.event import UsageEvent
from tallystick.usage.meters import METERS

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


def event(request_id: str = "r1", **more: object) -> UsageEvent:
    return check_event(raw_event(request_id, **more), now=NOW, known_meters=METERS)


def salts(count: int) -> list[bytes]:
    return [os.urandom(16) for _ in range(count)]


def spool_in(folder: Path, events_max: int = 1000) -> Spool:
    return Spool(folder, events_max=events_max)


def test_looking_at_a_spool_that_was_never_used_leaves_nothing_behind(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    assert not spool.may_hold_any()
    assert (spool.state(), spool.first(5), spool.refused(), spool.find([("a", "b")])) == ((0, None, 0), [], [], {})
    assert list(tmp_path.iterdir()) == []


def test_events_come_back_as_they_were_in_the_order_they_came(tmp_path: Path) -> None:
    events = [
        event("r1", attributes={"Größe": "5 €", "x": ""}, provider_cost_pico=9_000_000_000_000_000_000),
        event("r2", time="2026-10-15T12:00:00.000001Z", meters={}, outcome="failure", price_context={"speed": "fast"}),
        event("r0", provider=None, latency_ms=0),
    ]
    given = salts(3)
    spool_in(tmp_path).add(events, given, NOW)
    found = spool_in(tmp_path).first(10)
    assert [(one.event, one.salt, one.spooled_at) for one in found] == [
        (e, s, NOW) for e, s in zip(events, given, strict=True)
    ]
    assert spool_in(tmp_path).may_hold_any()


def test_an_id_waits_once_and_its_first_content_stays(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    other = event(user_id="somebody else")
    (first,) = spool.add([event()], [b"1" * 16], NOW)
    again = spool.add([event(), other, event("r2"), event("r2")], salts(4), NOW + timedelta(seconds=1))
    assert again[0] == again[1] == first
    assert again[2] == again[3]
    assert spool.find([("acme", "r1"), ("acme", "r3"), ("other", "r1")]) == {("acme", "r1"): first}
    assert spool.state()[:2] == (2, "2026-11-02T12:00:00Z")


def test_what_is_settled_is_gone_and_what_was_refused_is_kept(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    one, two, three = spool.add([event("r1"), event("r2"), event("r3")], salts(3), NOW)
    spool.settle([one], [(two, "request_id_conflict", "other content")], NOW + timedelta(minutes=1))
    assert spool.first(10) == [three]
    (refused,) = spool.refused()
    assert refused[:4] == ("acme", "r2", "request_id_conflict", "other content")
    assert refused.refused_at == "2026-11-02T12:01:00Z"
    assert b'"r2"' in refused.event
    spool.tidy()
    assert spool.may_hold_any()
    spool.settle([three], [], NOW)
    spool.tidy()
    assert not spool.may_hold_any()
    assert spool.state() == (0, None, 1)


def test_a_full_spool_refuses_and_takes_none_of_what_it_cannot_take_whole(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, events_max=3)
    waiting = spool.add([event("r1"), event("r2")], salts(2), NOW)
    with pytest.raises(Unavailable) as caught:
        spool.add([event("r3"), event("r4")], salts(2), NOW)
    assert (caught.value.code, caught.value.retry_after_seconds) == ("spool_full", 10)
    assert spool.first(10) == waiting
    spool.add([event("r1"), event("r3")], salts(2), NOW)  # what waits already takes no room
    spool.settle(waiting, [], NOW)
    spool.add([event("r4")], salts(1), NOW)
    assert [one.event.request_id for one in spool.first(10)] == ["r3", "r4"]


def test_processes_and_threads_share_one_spool(tmp_path: Path) -> None:
    def add(thread: int) -> None:
        spool = spool_in(tmp_path, events_max=10_000)
        for number in range(20):
            spool.add([event(f"{thread}-{number}"), event("all")], salts(2), NOW)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(8)))
    ids = [one.event.request_id for one in spool_in(tmp_path).first(1000)]
    assert len(ids) == len(set(ids)) == 8 * 20 + 1


def test_only_one_at_a_time_drains(tmp_path: Path) -> None:
    with spool_in(tmp_path).drain_lock() as first, spool_in(tmp_path).drain_lock() as second:
        assert (first, second) == (True, False)
    with spool_in(tmp_path).drain_lock() as again:
        assert again


def test_what_was_taken_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    program = """
import sys; from datetime import UTC, datetime; from pathlib import Path
from tallystick.journal.spool import Spool; from tallystick.usage.event import UsageEvent
now = datetime(2026, 11, 2, tzinfo=UTC)
spool = Spool(Path(sys.argv[1]), events_max=10**6)
for number in range(10**6):
    spool.add([UsageEvent(org_id="acme", request_id=f"{sys.argv[2]}-{number}-{part}", time=now, user_id="u",
        session_id="s", feature="f", environment="e", model="m", meters={}) for part in range(3)], [bytes(16)] * 3, now)
    print(number, flush=True)
"""
    told = 0
    for turn in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), str(turn)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(20 + turn):
            told_last = child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        told_last = (child.stdout.read().splitlines() or [told_last])[-1]
        child.wait()
        told = int(told_last) + 1
        ids = [one.event.request_id for one in spool_in(tmp_path).first(10**6)]
        mine = [one for one in ids if one.startswith(f"{turn}-")]
        # All that was told is there, whole calls only, and of what was not told at most the last one.
        assert len(mine) in (told * 3, (told + 1) * 3)
        assert mine == [f"{turn}-{number}-{part}" for number in range(len(mine) // 3) for part in range(3)]


def test_a_full_disk_refuses_and_never_tears_the_spool() -> None:
    with small_disk(4) as folder:
        spool = spool_in(folder, events_max=100_000)
        kept = spool.add([event("first")], salts(1), NOW)
        ballast = fill(folder, leave_bytes=300_000)
        refused = None
        while refused is None:
            try:
                kept += spool.add([event(f"{len(kept)}-{part}") for part in range(50)], salts(50), NOW)
            except Unavailable as error:
                refused = error
        assert refused.code == "storage_full"
        assert len(kept) > 1
        assert spool_in(folder).first(10**6) == kept
        ballast.unlink()
        kept += spool.add([event("more")], salts(1), NOW)
        assert spool_in(folder).first(10**6) == kept
        with sqlite3.connect(folder / "spool" / "spool.sqlite") as file:
            assert file.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_a_disk_that_was_full_from_the_start_is_told_so() -> None:
    with small_disk(2) as folder:
        ballast = fill(folder)
        with pytest.raises(Unavailable) as caught:
            spool_in(folder).add([event()], salts(1), NOW)
        assert caught.value.code == "storage_full"
        ballast.unlink()
        assert len(spool_in(folder).add([event()], salts(1), NOW)) == 1


def test_a_file_that_is_no_spool_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    file = tmp_path / "spool" / "spool.sqlite"
    file.write_bytes(b"not a database at all, but somebody's file" * 100)
    with pytest.raises(Unavailable) as caught:
        spool_in(tmp_path).add([event()], salts(1), NOW)
    assert caught.value.code == "spool_unusable"
    assert str(file) in caught.value.detail
    assert file.read_bytes().startswith(b"not a database")


def test_what_was_taken_out_gives_its_room_back_and_leaves_no_names(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, events_max=100_000)
    waiting = spool.add([event(f"r{n}", user_id="a-very-private-person") for n in range(20_000)], salts(20_000), NOW)
    file = tmp_path / "spool" / "spool.sqlite"
    spool.settle(waiting, [], NOW)
    spool.tidy()
    size = sum(path.stat().st_size for path in file.parent.iterdir())
    assert size < 200_000
    assert b"a-very-private-person" not in b"".join(path.read_bytes() for path in file.parent.iterdir())
