"""While the database is away: what is taken waits on disk, is answered consistently, and is in the ledger once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from conftest import NOW
from fault_tools import Proxy
from journal_helpers import raw_event
from tallystick.app.contracts import apply_contract
from tallystick.app.health import check_readiness
from tallystick.app.ingest import EventResult, ingest_events
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.app.spool_drain import drain
from tallystick.core.errors import Unavailable
from tallystick.journal import spool as spool_file
from tallystick.journal import steps
from tallystick.usage.checks import check_event
from tallystick.usage.meters import METERS


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(database_url) as opened:
        yield opened


@contextmanager
def opened(proxy: Proxy, folder: Path, mode: str = "spool", **more: object) -> Iterator[Runtime]:
    settings = Settings(database_url=proxy.url, data_dir=folder, when_database_away=mode, **more)
    with open_runtime(settings, lambda: NOW) as runtime:
        runtime.known_meters()
        yield runtime


def send(runtime: Runtime, *ids: str, **more: object) -> list[EventResult]:
    return ingest_events(runtime, [raw_event(one, **more) for one in ids])


def statuses(results: list[EventResult]) -> list[str]:
    return [result.status for result in results]


def stored(url: str) -> list[tuple[str, int]]:
    with psycopg.connect(url) as connection:
        return connection.execute("select request_id, seq from ledger_entries order by seq").fetchall()


def eventually(true: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def is_drained(runtime: Runtime) -> bool:
    return not (runtime.settings.data_dir / "spool" / "waiting").exists() and runtime.spool_state().waiting == 0


def test_without_a_spool_events_are_refused_at_once_and_taken_again_when_it_is_back(
    proxy: Proxy, database_url: str, tmp_path: Path
) -> None:
    with opened(proxy, tmp_path, "refuse") as runtime:
        assert statuses(send(runtime, "r1")) == ["accepted"]
        proxy.stop()
        for _ in range(3):
            begun = time.monotonic()
            with pytest.raises(Unavailable) as caught:
                send(runtime, "r2")
            assert caught.value.code == "database_unreachable"
            assert time.monotonic() - begun < 3
        proxy.start()
        eventually(lambda: runtime.writer.state().down is None)
        assert statuses(send(runtime, "r1", "r2")) == ["duplicate", "accepted"]
    assert not (tmp_path / "spool").exists()
    assert stored(database_url) == [("r1", 1), ("r2", 2)]


def test_spooled_events_are_in_the_ledger_once_when_the_database_is_back(
    proxy: Proxy, database_url: str, tmp_path: Path
) -> None:
    with opened(proxy, tmp_path) as runtime:
        assert statuses(send(runtime, "r1")) == ["accepted"]
        proxy.stop()
        first = send(runtime, "r1", "r2", "r3")  # that r1 is stored cannot be known now
        assert statuses(first) == ["spooled"] * 3
        assert statuses(send(runtime, "r3", "r4")) == ["spooled", "spooled"]
        assert runtime.spool_state().waiting == 4
        proxy.start()
        eventually(lambda: is_drained(runtime))
        again = send(runtime, "r1", "r2", "r3", "r4")
        assert statuses(again) == ["duplicate"] * 4
        assert runtime.spool_state() == (0, None, 0)
    assert stored(database_url) == [("r1", 1), ("r2", 2), ("r3", 3), ("r4", 4)]
    spooled, written = first[1].receipt, again[1].receipt
    assert spooled is not None
    assert written is not None
    assert (spooled.fingerprint, spooled.seq, spooled.cost_pico) == (written.fingerprint, None, None)


def test_an_id_that_waits_is_answered_from_the_spool_even_when_the_database_is_back(
    proxy: Proxy, database_url: str, tmp_path: Path
) -> None:
    # Were the other content to go straight to the journal, it would be taken, and what was acknowledged first refused.
    with opened(proxy, tmp_path) as runtime, closing(runtime.open_spool()) as spool:
        proxy.stop()
        assert statuses(send(runtime, "r1")) == ["spooled"]
        conflict = send(runtime, "r1", user_id="somebody else")
        assert statuses(conflict) == ["conflict"]
        assert conflict[0].receipt is not None
        assert conflict[0].receipt.stored_fingerprint not in (None, conflict[0].receipt.fingerprint)
        with spool.drain_lock() as ours:  # nobody drains yet
            assert ours
            proxy.start()
            eventually(lambda: runtime.writer.state().down is None)
            assert statuses(send(runtime, "r1", user_id="somebody else")) == ["conflict"]
            assert statuses(send(runtime, "r0", "r1", "r2", "r0")) == ["accepted", "spooled", "accepted", "duplicate"]
            assert statuses(send(runtime, "r1")) == ["spooled"]
        eventually(lambda: is_drained(runtime))
        assert statuses(send(runtime, "r1", user_id="somebody else")) == ["conflict"]
        assert statuses(send(runtime, "r1")) == ["duplicate"]
    assert stored(database_url) == [("r0", 1), ("r2", 2), ("r1", 3)]


def test_what_the_ledger_refuses_is_kept_told_and_can_be_offered_again(
    proxy: Proxy, database_url: str, tmp_path: Path
) -> None:
    with opened(proxy, tmp_path) as runtime, closing(runtime.open_spool()) as spool:
        send(runtime, "r1")
        proxy.stop()
        assert statuses(send(runtime, "r1", meters={"tokens_in": 7})) == ["spooled"]
        assert statuses(send(runtime, "big", model="gpt-5", meters={"tokens_out": 10**12})) == ["spooled"]
        assert statuses(send(runtime, "r2")) == ["spooled"]
        proxy.start()
        eventually(lambda: is_drained(runtime))
        refused = spool.refused()
        assert [(one.request_id, one.code) for one in refused] == [
            ("r1", "request_id_conflict"),
            ("big", "cost_out_of_range"),
        ]
        assert b'"tokens_in":7' in refused[0].event
        assert spool.retry(lambda: bytes(16), NOW) == 2
        eventually(lambda: is_drained(runtime))
        assert [one.request_id for one in spool.refused()] == ["r1", "big"]
    assert stored(database_url) == [("r1", 1), ("r2", 2)]


def test_events_that_waited_when_the_process_ended_are_written_by_the_next_one(
    proxy: Proxy, database_url: str, tmp_path: Path
) -> None:
    with opened(proxy, tmp_path) as runtime:
        proxy.stop()
        assert statuses(send(runtime, "r1", "r2")) == ["spooled", "spooled"]
    (tmp_path / "spool" / "waiting").unlink()  # as a loss of power may have it
    proxy.start()
    with opened(proxy, tmp_path, "refuse") as runtime:  # also when the operator has changed their mind
        eventually(lambda: is_drained(runtime))
    assert stored(database_url) == [("r1", 1), ("r2", 2)]


def test_a_full_spool_refuses_and_takes_more_once_it_has_been_drained(proxy: Proxy, tmp_path: Path) -> None:
    with opened(proxy, tmp_path, spool_events_max=3) as runtime:
        proxy.stop()
        assert statuses(send(runtime, "r1", "r2")) == ["spooled", "spooled"]
        with pytest.raises(Unavailable) as caught:
            send(runtime, "r3", "r4")
        assert caught.value.code == "spool_full"
        assert statuses(send(runtime, "r3")) == ["spooled"]
        proxy.start()
        eventually(lambda: is_drained(runtime))
        assert statuses(send(runtime, "r3", "r4")) == ["duplicate", "accepted"]


def test_drained_by_many_at_once_each_event_is_written_once(proxy: Proxy, database_url: str, tmp_path: Path) -> None:
    ids = [f"r{number}" for number in range(300)]
    with opened(proxy, tmp_path) as runtime:
        proxy.stop()
        assert set(statuses(send(runtime, *ids))) == {"spooled"}
    proxy.start()
    barrier = threading.Barrier(4)

    def drain_one(number: int) -> int:
        with opened(proxy, tmp_path) as runtime, closing(runtime.open_spool()) as spool:
            barrier.wait()
            written = drain(spool, runtime.write, runtime.clock).written
            eventually(lambda: is_drained(runtime))
            return written

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(drain_one, range(4))) <= len(ids)
    assert stored(database_url) == [(one, number) for number, one in enumerate(ids, 1)]


def test_drained_twice_although_the_lock_failed_it_is_still_exact(
    proxy: Proxy, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def no_lock(_self: object) -> Iterator[bool]:
        yield True

    with opened(proxy, tmp_path) as runtime:
        proxy.stop()
        send(runtime, *(f"r{number}" for number in range(100)))
        monkeypatch.setattr(spool_file.Spool, "drain_lock", no_lock)
        proxy.start()
        eventually(lambda: runtime.writer.state().down is None)

        def drain_one(_: int) -> None:
            with closing(runtime.open_spool()) as spool:
                drain(spool, runtime.write, runtime.clock)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(drain_one, range(4)))
        assert runtime.spool_state() == (0, None, 0)
    assert sorted(seq for _, seq in stored(database_url)) == list(range(1, 101))


@pytest.mark.parametrize("step", ["drain.read", "drain.written", "drain.settled"])
def test_a_drain_that_dies_at_any_step_is_taken_up_again(
    proxy: Proxy, database_url: str, tmp_path: Path, step: str
) -> None:
    class Died(BaseException):
        pass

    def die(reached: str) -> None:
        if reached == step and threading.current_thread() is threading.main_thread():
            raise Died

    with opened(proxy, tmp_path) as runtime, ExitStack() as stack:
        spool = stack.enter_context(closing(runtime.open_spool()))
        with spool.drain_lock():  # the process's own drainer keeps out
            proxy.stop()
            assert set(statuses(send(runtime, "r1", "r2", "r3"))) == {"spooled"}
            proxy.start()
            eventually(lambda: runtime.writer.state().down is None)
        stack.callback(steps.install, None)
        steps.install(die)
        with closing(runtime.open_spool()) as mine:
            for _ in range(50):  # until it is our turn, and not the drainer's
                try:
                    if not drain(mine, runtime.write, runtime.clock).busy:
                        break
                except Died:
                    break
        steps.install(None)
        eventually(lambda: is_drained(runtime))
    assert stored(database_url) == [("r1", 1), ("r2", 2), ("r3", 3)]


def test_many_threads_while_it_comes_and_goes_lose_and_double_nothing(
    proxy: Proxy, database_url: str, tmp_path: Path
) -> None:
    told: dict[str, list[str]] = {}

    def bring(thread: int) -> None:
        number = 0
        while not over.is_set():
            ids = [f"{thread}-{number + part}" for part in range(5)]
            for one, result in zip(ids, send(runtime, *ids), strict=True):
                told.setdefault(one, []).append(result.status)
            again = f"{thread}-{max(0, number - 7)}"
            told.setdefault(again, []).append(send(runtime, again)[0].status)
            number += 5

    over = threading.Event()
    with opened(proxy, tmp_path) as runtime:
        with ThreadPoolExecutor(6) as threads:
            work = [threads.submit(bring, thread) for thread in range(6)]
            for _ in range(3):
                time.sleep(0.3)
                proxy.stop()
                time.sleep(0.4)
                proxy.start()
            time.sleep(0.5)
            over.set()
            for one in work:
                one.result()
        eventually(lambda: is_drained(runtime))
        assert runtime.spool_state().refused == 0
    rows = stored(database_url)
    assert [seq for _, seq in rows] == list(range(1, len(rows) + 1))
    assert {one for one, _ in rows} == set(told)
    assert len(rows) == len(told)
    seen = {status for each in told.values() for status in each}
    assert {"accepted", "spooled", "duplicate"} <= seen <= {"accepted", "spooled", "duplicate"}


def test_an_event_that_breaks_the_writer_is_set_apart_and_the_others_are_written(tmp_path: Path) -> None:
    from tallystick.app.spool_keeper import Answer, new_answer
    from tallystick.ledger.receipt import Receipt

    def write(events: list, _salts: bytes) -> Answer:
        answer = new_answer()
        if any(event.request_id == "r2" for event in events):
            answer.set_exception(RuntimeError("this one cannot be"))
        else:
            answer.set_result(
                [Receipt(status="accepted", org_id="acme", request_id=one.request_id, fingerprint="") for one in events]
            )
        return answer

    with closing(spool_file.Spool(tmp_path, events_max=10)) as spool:
        events = [check_event(raw_event(one), now=NOW, known_meters=METERS) for one in ("r1", "r2", "r3")]
        spool.add(events, [bytes(16)] * 3, NOW)
        assert drain(spool, write, lambda: NOW)[:2] == (2, 1)
        assert [(one.request_id, one.code) for one in spool.refused()] == [("r2", "internal_error")]
        spool.add(events[1:2], [bytes(16)], NOW)
        with pytest.raises(RuntimeError):  # alone, it may be the writer that is broken: it goes on waiting
            drain(spool, write, lambda: NOW)
        assert spool.state().waiting == 1


def test_an_event_whose_meter_cannot_be_looked_up_is_asked_for_again_and_harms_no_neighbour(
    proxy: Proxy, tmp_path: Path
) -> None:
    # A contract that declares it may have been applied a moment before the outage: to call it unknown would lose it.
    with opened(proxy, tmp_path) as runtime:
        proxy.stop()
        strange = raw_event("r2", meters={"pages_read": 1})
        results = ingest_events(runtime, [raw_event("r1"), strange, raw_event("r3", model="")])
        assert statuses(results) == ["spooled", "rejected", "rejected"]
        assert [one.error.code for one in results if one.error] == ["database_unreachable", "empty_text"]


def test_a_service_started_while_the_database_is_away_spools_and_looks_it_over_before_it_is_used(
    proxy: Proxy, database_url: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=proxy.url, data_dir=tmp_path, when_database_away="spool")
    proxy.stop()
    with open_runtime(settings, lambda: NOW, may_start_late=True) as runtime:
        assert statuses(send(runtime, "r1", "r2")) == ["spooled", "spooled"]
        assert check_readiness(runtime).mode == "spooling"
        with pytest.raises(Unavailable), runtime.database.operator():
            pass
        # It comes back unfit: nothing may be written to it, or read from it, until it has been mended.
        with psycopg.connect(database_url) as connection:
            connection.execute("alter table ledger_entries disable row level security")
        proxy.start()
        late = runtime.late_start
        assert late is not None
        eventually(lambda: late.error is not None and late.error.code == "tenant_isolation_broken")
        assert statuses(send(runtime, "r3")) == ["spooled"]
        readiness = check_readiness(runtime)
        assert (readiness.mode, readiness.degraded) == ("spooling", True)
        assert stored(database_url) == []
        with psycopg.connect(database_url) as connection:
            connection.execute("alter table ledger_entries enable row level security")
        eventually(lambda: is_drained(runtime))
        assert statuses(send(runtime, "r1", "r2", "r3", "r4")) == [*["duplicate"] * 3, "accepted"]
        assert check_readiness(runtime).mode == "normal"


_CONTRACT = """
contract: acme-ai
version: "2026-10-01"
effective_from: 2026-10-01T00:00:00Z
currency: USD
meters:
  pages_read: {unit: page}
plans:
  pro:
    title: The plan
    base: "10"
"""


def test_a_late_start_knows_the_meters_that_were_known_before(proxy: Proxy, tmp_path: Path) -> None:
    settings = Settings(database_url=proxy.url, data_dir=tmp_path, when_database_away="spool")
    own = {"meters": {"pages_read": 3}}
    with open_runtime(settings, lambda: NOW) as runtime:
        apply_contract(runtime, _CONTRACT, "acme.yaml")
        assert statuses(send(runtime, "r1", **own)) == ["accepted"]
    proxy.stop()
    with open_runtime(settings, lambda: NOW, may_start_late=True) as runtime:
        assert statuses(send(runtime, "r2", **own)) == ["spooled"]
        assert statuses(send(runtime, "r3", meters={"pages_unread": 3})) == ["rejected"]


def test_without_a_spool_nothing_starts_while_the_database_is_away(proxy: Proxy, tmp_path: Path) -> None:
    proxy.stop()
    with (
        pytest.raises(Unavailable) as caught,
        open_runtime(Settings(database_url=proxy.url, data_dir=tmp_path), may_start_late=True),
    ):
        pass
    assert caught.value.code == "database_unreachable"
