"""One writer for all callers: what they share, what stays each one's own, and what happens when something breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from msgspec import structs

from journal_helpers import count, query, raw_event
from tallystick.app.ingest import check_items
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Unavailable
from tallystick.journal import steps
from tallystick.journal.database import Connection
from tallystick.journal.group_work import EventWork
from tallystick.journal.group_writer import GroupWriter
from tallystick.journal.prepare import Batch
from tallystick.ledger.receipt import Receipt
from tallystick.usage.event import UsageEvent

ANSWER_SECONDS = 20
EventWriter = GroupWriter[Batch, list[Receipt]]


def events(runtime: Runtime, *raws: dict[str, Any]) -> list[UsageEvent]:
    checked = check_items(runtime, raws)
    assert all(isinstance(event, UsageEvent) for event in checked), checked
    return checked  # type: ignore[return-value]


def statuses(future: Future[list[Receipt]]) -> list[str]:
    return [receipt.status for receipt in future.result(ANSWER_SECONDS)]


@contextmanager
def writer_of(
    runtime: Runtime,
    connect: Callable[[], Connection] | None = None,
    *,
    group: int = 4000,
    queue: int = 50_000,
    linger_seconds: float = 0.002,
) -> Iterator[EventWriter]:
    """Another group writer on the runtime's database."""
    writer = GroupWriter(
        connect or runtime.database.connect_writer,
        EventWork(),
        linger_seconds=linger_seconds,
        group_events_max=group,
        queue_events_max=queue,
    )
    try:
        yield writer
    finally:
        writer.close()


@contextmanager
def held_head(runtime: Runtime, org: str = "acme") -> Iterator[None]:
    """Hold the lock on an org's head, as another process's transaction would; whoever writes for the org waits."""
    runtime.append(events(runtime, raw_event("first", org_id=org)))
    with psycopg.connect(runtime.database.url) as other:
        other.execute("select from org_heads where org_id = %s for update", [org])
        yield


@contextmanager
def at_step(name: str, action: Callable[[], None], *, times: int = 1) -> Iterator[None]:
    """Do something at the first `times` passes of a step."""
    remaining = [times]

    def hook(step: str) -> None:
        if step == name and remaining[0]:
            remaining[0] -= 1
            action()

    steps.install(hook)
    try:
        yield
    finally:
        steps.install(None)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def taken(writer: EventWriter) -> bool:
    return writer.state().queue_events == 0


def test_batches_that_wait_are_written_in_one_transaction_in_the_order_in_which_they_came(runtime: Runtime) -> None:
    with writer_of(runtime) as writer, held_head(runtime):
        futures = [writer.submit(runtime.prepare(events(runtime, raw_event("r0"))))]
        wait_until(lambda: taken(writer))  # that one waits for the lock; the rest gathers behind it
        futures += [writer.submit(runtime.prepare(events(runtime, raw_event(f"r{n}")))) for n in range(1, 20)]
        assert writer.state().queue_events == 19
    assert [future.result(0)[0].seq for future in futures] == list(range(2, 22))
    transfers = query(runtime, "select first_seq, seq from transfers order by seq")
    assert transfers == [(1, 1), (2, 2), (3, 21)]


def test_a_group_is_no_larger_than_it_may_be(runtime: Runtime) -> None:
    with writer_of(runtime, group=5) as writer, held_head(runtime):
        writer.submit(runtime.prepare(events(runtime, raw_event("r0"))))
        wait_until(lambda: taken(writer))
        for n in range(1, 9):
            writer.submit(runtime.prepare(events(runtime, raw_event(f"a{n}"), raw_event(f"b{n}"))))
    written = query(runtime, "select seq - first_seq + 1 from transfers where first_seq > 2 order by seq")
    assert written == [(4,), (4,), (4,), (4,)]


def test_a_group_waits_for_as_many_as_were_under_way_before_and_a_caller_who_is_alone_for_nobody(
    runtime: Runtime,
) -> None:
    linger_seconds = 1.0
    with writer_of(runtime, linger_seconds=linger_seconds) as writer:

        def send(*names: str) -> list[Future[list[Receipt]]]:
            return [writer.submit(runtime.prepare(events(runtime, raw_event(name)))) for name in names]

        assert statuses(send("a")[0]) == ["accepted"]  # how many will come is not known yet: it waits
        begun = time.monotonic()
        for name in ("b", "c"):
            assert statuses(send(name)[0]) == ["accepted"]
        assert time.monotonic() - begun < linger_seconds
        with held_head(runtime):
            (first,) = send("d")
            wait_until(lambda: taken(writer))
            rest = send("e", "f")
        assert [statuses(one) for one in (first, *rest)] == [["accepted"]] * 3
        begun = time.monotonic()
        (early,) = send("g")
        time.sleep(0.05)
        late = send("h")
        assert [statuses(one) for one in (early, *late)] == [["accepted"]] * 2
        assert time.monotonic() - begun < linger_seconds
    written = query(runtime, "select seq - first_seq + 1 from transfers order by seq")
    assert written == [(1,)] * 5 + [(2,)] * 2


def test_of_batches_in_one_group_the_first_of_an_id_is_written_and_the_others_are_told(runtime: Runtime) -> None:
    (event,) = events(runtime, raw_event("same"))
    with writer_of(runtime) as writer, held_head(runtime):
        writer.submit(runtime.prepare(events(runtime, raw_event("r0"))))
        wait_until(lambda: taken(writer))
        one = writer.submit(runtime.prepare([event]))
        two = writer.submit(runtime.prepare([event, structs.replace(event, user_id="u2")]))
    (first,) = one.result(0)
    again, other = two.result(0)
    assert (first.status, again.status, other.status) == ("accepted", "duplicate", "conflict")
    assert structs.replace(again, status="accepted") == first
    assert (other.stored_fingerprint, other.seq) == (first.fingerprint, first.seq)
    assert other.fingerprint != first.fingerprint
    assert other.code == "request_id_conflict"


def test_a_full_queue_refuses_and_says_when_to_come_again(runtime: Runtime) -> None:
    with writer_of(runtime, queue=10) as writer:
        with held_head(runtime):
            begun = [writer.submit(runtime.prepare(events(runtime, raw_event("r0"))))]
            wait_until(lambda: taken(writer))
            nine = [raw_event(f"n{n}") for n in range(9)]
            begun.append(writer.submit(runtime.prepare(events(runtime, *nine))))
            with pytest.raises(Unavailable) as refused:
                writer.submit(runtime.prepare(events(runtime, raw_event("x"), raw_event("y"))))
            begun.append(writer.submit(runtime.prepare(events(runtime, raw_event("x")))))
        assert refused.value.code == "journal_busy"
        assert 1 <= refused.value.retry_after_seconds <= 30
        assert [status for future in begun for status in statuses(future)] == ["accepted"] * 11
        assert statuses(writer.submit(runtime.prepare(events(runtime, raw_event("x"), raw_event("y"))))) == [
            "duplicate",
            "accepted",
        ]


def test_a_batch_larger_than_the_queue_is_taken_when_nothing_waits(runtime: Runtime) -> None:
    with writer_of(runtime, queue=3, group=2) as writer:
        many = [raw_event(f"r{n}") for n in range(10)]
        assert statuses(writer.submit(runtime.prepare(events(runtime, *many)))) == ["accepted"] * 10


def test_a_caller_that_has_gone_is_not_written_for(runtime: Runtime) -> None:
    with writer_of(runtime) as writer, held_head(runtime):
        writer.submit(runtime.prepare(events(runtime, raw_event("r0"))))
        wait_until(lambda: taken(writer))
        gone = writer.submit(runtime.prepare(events(runtime, raw_event("gone"))))
        kept = writer.submit(runtime.prepare(events(runtime, raw_event("kept"))))
        assert gone.cancel()
    assert statuses(kept) == ["accepted"]
    assert query(runtime, "select request_id from ledger_entries order by seq") == [("first",), ("r0",), ("kept",)]


def test_closing_writes_what_waits_and_refuses_what_comes_later(runtime: Runtime) -> None:
    with writer_of(runtime) as writer:
        futures = [writer.submit(runtime.prepare(events(runtime, raw_event(f"r{n}")))) for n in range(50)]
    assert [future.result(0)[0].status for future in futures] == ["accepted"] * 50
    with pytest.raises(Unavailable) as refused:
        writer.submit(runtime.prepare(events(runtime, raw_event("late"))))
    assert refused.value.code == "journal_closed"


def test_an_empty_batch_is_answered_at_once(runtime: Runtime) -> None:
    assert runtime.append([]) == []


# ── what breaks ─────────────────────────────────────────────────────────────────────────────────


def cut_connections(runtime: Runtime) -> None:
    """As an administrator would: end every session of the writer's on this database."""
    with psycopg.connect(runtime.database.url, autocommit=True) as other:
        other.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )


@pytest.mark.parametrize(
    "step", [step for step in steps.APPEND_STEPS if step not in ("append.taken", "append.answered")]
)
def test_a_connection_that_is_cut_at_any_step_costs_nobody_anything(runtime: Runtime, step: str) -> None:
    # Cut after the commit, its answer is lost: what was written is then found, and recognised as this very batch's.
    def committed() -> None:
        raise psycopg.InterfaceError("the connection was lost before the answer to the commit came")

    warm = runtime.append(events(runtime, raw_event("warm")))
    with at_step(step, committed if step == "append.committed" else lambda: cut_connections(runtime)):
        receipts = runtime.append(events(runtime, raw_event("a"), raw_event("b"), raw_event("a")))
    assert [receipt.status for receipt in (*warm, *receipts)] == ["accepted", "accepted", "accepted", "duplicate"]
    assert [receipt.seq for receipt in receipts] == [2, 3, 2]
    assert query(runtime, "select request_id, seq from ledger_entries order by seq") == [
        ("warm", 1),
        ("a", 2),
        ("b", 3),
    ]


def test_while_the_server_is_away_all_are_told_at_once_and_when_it_is_back_it_is_found(runtime: Runtime) -> None:
    away = threading.Event()

    def connect() -> Connection:
        if away.is_set():
            raise psycopg.OperationalError("connection refused")
        return runtime.database.connect_writer()

    with writer_of(runtime, connect) as writer:
        assert statuses(writer.submit(runtime.prepare(events(runtime, raw_event("before"))))) == ["accepted"]
        away.set()
        cut_connections(runtime)
        with pytest.raises(Unavailable) as told:
            writer.submit(runtime.prepare(events(runtime, raw_event("during")))).result(ANSWER_SECONDS)
        assert told.value.code == "database_unreachable"
        begun = time.monotonic()
        with pytest.raises(Unavailable) as at_once:
            writer.submit(runtime.prepare(events(runtime, raw_event("during"))))
        assert at_once.value.code == "database_unreachable"
        assert time.monotonic() - begun < 0.5
        assert writer.state().down is not None
        away.clear()
        wait_until(lambda: writer.state().down is None)
        assert statuses(writer.submit(runtime.prepare(events(runtime, raw_event("during"))))) == ["accepted"]
    assert query(runtime, "select request_id from ledger_entries order by seq") == [("before",), ("during",)]


def test_only_the_batch_that_the_database_refuses_fails(runtime: Runtime) -> None:
    broken = runtime.prepare(events(runtime, raw_event("broken")))
    broken.rows[0].tail = broken.rows[0].tail[:-7]
    with writer_of(runtime) as writer, held_head(runtime):
        writer.submit(runtime.prepare(events(runtime, raw_event("r0"))))
        wait_until(lambda: taken(writer))
        futures = [
            writer.submit(batch)
            for batch in (
                runtime.prepare(events(runtime, raw_event("a"))),
                broken,
                runtime.prepare(events(runtime, raw_event("b"))),
            )
        ]
    assert [statuses(futures[0]), statuses(futures[2])] == [["accepted"], ["accepted"]]
    with pytest.raises(psycopg.DataError):
        futures[1].result(0)
    assert query(runtime, "select request_id, seq from ledger_entries order by seq") == [
        ("first", 1),
        ("r0", 2),
        ("a", 3),
        ("b", 4),
    ]


def test_a_disk_without_space_is_told_and_forgotten_when_there_is_some(runtime: Runtime) -> None:
    with psycopg.connect(runtime.database.url, autocommit=True) as owner:
        owner.execute(
            "create function no_space() returns trigger language plpgsql as $$ begin"
            " raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$"
        )
        owner.execute(
            "create trigger no_space before insert on ledger_entries for each statement execute function no_space()"
        )
        with pytest.raises(Unavailable) as told:
            runtime.append(events(runtime, raw_event("a")))
        owner.execute("drop trigger no_space on ledger_entries")
    assert told.value.code == "storage_full"
    assert [receipt.seq for receipt in runtime.append(events(runtime, raw_event("a")))] == [1]


# ── what is too old to be told from what is counted already ─────────────────────────────────────


def test_an_event_older_than_the_window_is_refused_unless_it_is_stored(runtime: Runtime) -> None:
    old = (runtime.clock() - timedelta(days=60)).isoformat()
    (stored,) = events(runtime, raw_event("stored", time=old))
    runtime.append([stored])
    runtime.settings.retention_days = 45
    (new,) = events(runtime, raw_event("new", time=old))
    young = events(runtime, raw_event("young", time=(runtime.clock() - timedelta(days=44)).isoformat()))
    receipts = runtime.append([new, stored, *young])
    assert [receipt.status for receipt in receipts] == ["rejected", "duplicate", "accepted"]
    assert receipts[0].code == "outside_dedup_window"
    assert count(runtime, "ledger_entries") == 2


def test_what_may_have_left_the_database_is_refused_whatever_the_setting_says(runtime: Runtime) -> None:
    runtime.append(events(runtime, raw_event("r1", time="2026-10-15T12:00:00Z")))
    with psycopg.connect(runtime.database.url, autocommit=True) as owner:
        owner.execute("update org_heads set forgotten_until = '2026-10-10T00:00:00Z'")
    before, after = runtime.append(
        events(
            runtime,
            raw_event("r2", time="2026-10-09T23:59:59Z"),
            raw_event("r3", time="2026-10-10T00:00:00Z"),
        )
    )
    assert (before.status, before.code) == ("rejected", "outside_dedup_window")
    assert (after.status, after.seq) == ("accepted", 2)


# ── after an erasure ────────────────────────────────────────────────────────────────────────────


def test_once_a_person_is_erased_a_resend_is_told_by_the_rest_of_its_content(runtime: Runtime) -> None:
    (event,) = events(
        runtime, raw_event("r1", user_id="ada", attributes={"k": "v"}, price_context={"service_tier": "batch"})
    )
    (first,) = runtime.append([event])
    with runtime.database.operator() as connection:
        connection.execute("select erase_person('acme', 'ada')")
    assert query(runtime, "select user_id, session_id, attributes, salt from ledger_entries") == [(None,) * 4]
    again, stranger = runtime.append([event, structs.replace(event, user_id="bob", attributes={})])
    assert structs.replace(again, status="accepted") == first
    assert stranger.status == "duplicate"
    (other,) = runtime.append([structs.replace(event, latency_ms=7)])
    assert (other.status, other.stored_fingerprint) == ("conflict", first.fingerprint)
