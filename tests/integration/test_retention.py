"""Retention: entries leave the database only when a block certainly has them, and no repeated event slips in after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from journal_helpers import query, raw_event, tamper
from sealed_ledger import copyable, reopened
from tallystick.app.entries import stream_entries
from tallystick.app.erase import erase_person
from tallystick.app.ingest import check_items
from tallystick.app.reprice import reprice
from tallystick.app.retention import FORGET_STEPS, run_retention
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.archive.format import read_people, write_people
from tallystick.archive.paths import people_path
from tallystick.core.errors import BadInput, Conflict, Unavailable
from tallystick.ledger.entry import entry_fingerprint, entry_leaf

# The database's own clock has a say here, so times are measured from the real present.
NOW = datetime.now(UTC).replace(microsecond=0)
OLD = NOW - timedelta(days=60)


def at(runtime: Runtime, moment: datetime, *, days: int | None = 45) -> Runtime:
    """The same Tallystick as of a moment, with a retention of so many days."""
    settings = runtime.settings.model_copy(update={"retention_days": days, "block_entries_max": 7})
    return replace(runtime, clock=lambda: moment, settings=settings)


def append(runtime: Runtime, count: int, *, start: int = 0, org: str = "acme", **more: object) -> list[str]:
    time = runtime.clock() - timedelta(minutes=1)
    raws = [
        raw_event(f"r{n}", org_id=org, time=(time + timedelta(seconds=n)).isoformat(), user_id=f"u{n % 2}", **more)
        for n in range(start, start + count)
    ]
    return [receipt.status for receipt in runtime.append(check_items(runtime, raws))]


@pytest.fixture(scope="module")
def sealed(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """20 entries of two orgs from 60 days ago, sealed then; 10 of one org from now, sealed too, and 3 that are not."""

    def fill(runtime: Runtime) -> None:
        old = at(runtime, OLD, days=None)
        append(old, 10)
        append(old, 10, org="bolt")
        seal_once(old, everything=True)
        now = at(runtime, NOW)
        append(now, 10, start=10)
        seal_once(now, everything=True)
        append(now, 3, start=20)

    folder = tmp_path_factory.mktemp("sealed")
    with copyable(server_url, folder, NOW, fill) as name:
        yield name, folder


@pytest.fixture
def aged(server_url: str, sealed: tuple[str, Path], tmp_path: Path) -> Iterator[Runtime]:
    """That ledger, with a retention of 45 days."""
    with reopened(server_url, *sealed, tmp_path) as opened:
        yield at(opened, NOW)


def kept(runtime: Runtime) -> dict[str, tuple[int, int]]:
    rows = query(runtime, "select org_id, min(seq), max(seq) from ledger_entries group by org_id")
    return {org: (first, last) for org, first, last in rows}


def test_sealed_entries_older_than_the_window_leave_and_the_rest_stays(aged: Runtime) -> None:
    done = run_retention(aged)

    assert (done.entries, done.orgs, done.refused) == (20, 2, ())
    assert kept(aged) == {"acme": (11, 23)}
    assert query(aged, "select org_id, last_seq from org_heads order by org_id") == [("acme", 23), ("bolt", 10)]
    assert run_retention(aged).entries == 0
    # Written before the first of them left, and by nobody who had nothing to let go.
    (act,) = query(aged, "select after::jsonb from administrative_acts where act = 'retention.run'")
    assert (act[0]["entries_at_most"], act[0]["orgs"]) == (20, 2)


def test_an_org_s_entries_are_read_as_one_sequence_before_and_after(aged: Runtime) -> None:
    before = {org: list(stream_entries(aged, org, 1, last)) for org, last in (("acme", 23), ("bolt", 10))}
    run_retention(aged)
    after = {org: list(stream_entries(aged, org, 1, last)) for org, last in (("acme", 23), ("bolt", 10))}

    assert [entry.seq for entry in after["acme"]] == list(range(1, 24))
    for org, entries in after.items():
        for entry, earlier in zip(entries, before[org], strict=True):
            assert entry_leaf(entry) == entry.leaf == earlier.leaf
            assert entry_fingerprint(entry) == entry.fingerprint
            assert _with_tuples(entry) == _with_tuples(earlier)
    assert [entry.seq for entry in stream_entries(aged, "acme", 9, 12)] == [9, 10, 11, 12]
    assert list(stream_entries(aged, "acme", 5, 4)) == []


def _with_tuples(entry: object) -> object:
    return entry._make(tuple(one) if isinstance(one, list) else one for one in entry)  # type: ignore[attr-defined]


def test_an_entry_that_is_nowhere_is_missed(aged: Runtime) -> None:
    with pytest.raises(Conflict) as missed:
        list(stream_entries(aged, "acme", 20, 24))
    assert missed.value.code == "entries_missing"


def test_a_repeated_event_of_before_is_refused_and_never_stored_again(aged: Runtime) -> None:
    run_retention(aged)

    again = at(aged, OLD)  # what was sent then, with the times it had then
    events = check_items(again, [raw_event("r3", time=(OLD - timedelta(seconds=57)).isoformat(), user_id="u1")])
    (receipt,) = aged.append(events)

    assert (receipt.status, receipt.code) == ("rejected", "outside_dedup_window")
    assert query(aged, "select last_seq from org_heads where org_id = 'acme'") == [(23,)]


def test_also_when_retention_has_been_switched_off_since(aged: Runtime) -> None:
    run_retention(aged)

    keeper = at(aged, NOW, days=None)
    events = check_items(keeper, [raw_event("r3", time=(OLD - timedelta(seconds=57)).isoformat(), user_id="u1")])

    assert [receipt.code for receipt in keeper.append(events)] == ["outside_dedup_window"]


def test_entries_that_are_not_sealed_stay(runtime: Runtime) -> None:
    append(at(runtime, OLD, days=None), 5)

    assert run_retention(at(runtime, NOW)).entries == 0
    assert kept(runtime) == {"acme": (1, 5)}


def test_an_entry_that_waits_for_a_price_stays_with_all_that_follow_it(runtime: Runtime) -> None:
    old = at(runtime, OLD, days=None)
    append(old, 8)
    append(old, 1, start=8, model="a-model-of-the-future")
    append(old, 8, start=9)
    seal_once(old, everything=True)  # in blocks of 7

    assert query(runtime, "select seq from ledger_entries where status = 'unpriced'") == [(9,)]
    assert run_retention(at(runtime, NOW)).entries == 7
    assert kept(runtime) == {"acme": (8, 17)}


def drop_file(main: Path) -> None:
    main.unlink()


def flip_byte(main: Path) -> None:
    data = bytearray(main.read_bytes())
    data[len(data) // 2] ^= 1
    main.write_bytes(data)


def lose_a_person(main: Path) -> None:
    table = read_people(people_path(main))
    write_people(table.slice(1), people_path(main))


@pytest.mark.parametrize(
    ("damage", "code"), [(drop_file, "block_changed"), (flip_byte, "block_changed"), (lose_a_person, "block_differs")]
)
def test_nothing_leaves_whose_block_is_not_as_it_should_be(
    aged: Runtime, damage: Callable[[Path], None], code: str
) -> None:
    (path,) = query(aged, "select path from blocks where block = 1")[0]
    damage(aged.settings.data_dir / "blocks" / path)

    done = run_retention(aged)

    assert [error.code for error in done.refused] == [code]
    # Block 1 has acme's first 7; what follows them in block 2 may not go before them.
    assert kept(aged) == {"acme": (1, 23)}


def test_nothing_leaves_when_a_row_is_not_the_one_that_was_sealed(aged: Runtime) -> None:
    tamper(aged.database.url, "update ledger_entries set cost_pico = 1 where org_id = 'bolt' and seq = 6")

    (refused,) = run_retention(aged).refused

    assert refused.code == "block_differs"
    assert "entry 6 of bolt has another cost_pico" in refused.detail
    assert kept(aged)["bolt"][0] <= 6


def test_retention_is_off_unless_set(runtime: Runtime) -> None:
    with pytest.raises(BadInput) as refused:
        run_retention(runtime)
    assert refused.value.code == "retention_not_set"


@pytest.mark.parametrize("step", FORGET_STEPS[:-1])
def test_interrupted_anywhere_it_is_finished_by_another_run(
    aged: Runtime, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupt(reached: str) -> None:
        if reached == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tallystick.app.retention.reached", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_retention(aged)
    assert [entry.seq for entry in stream_entries(aged, "acme", 1, 23)] == list(range(1, 24))
    run_retention(aged)

    assert kept(aged) == {"acme": (11, 23)}


def test_a_person_is_erased_from_entries_that_have_left(aged: Runtime) -> None:
    run_retention(aged)

    erased = erase_person(aged, "acme", "u1")

    assert (erased.rows, erased.archived_rows) == (6, 10)
    assert {entry.user_id for entry in stream_entries(aged, "acme", 1, 23)} == {"u0", None}
    assert query(aged, "select count(*) from erasures where org_id = 'acme'") == [(11,)]


def test_a_clock_that_runs_ahead_lets_nothing_young_leave(runtime: Runtime) -> None:
    append(at(runtime, NOW), 5)
    seal_once(at(runtime, NOW), everything=True)

    with pytest.raises(Unavailable) as refused:
        run_retention(at(runtime, NOW + timedelta(days=60)))

    assert refused.value.code == "retention_refused"
    assert kept(runtime) == {"acme": (1, 5)}


# ── what the database itself allows ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("select forget_entries('acme', 20)", "less than 45 days ago"),
        ("select forget_entries('acme', 23)", "less than 45 days ago"),
        ("delete from ledger_entries where org_id = 'acme' and seq = 3", "would stay"),
        ("delete from ledger_entries where org_id = 'acme' and seq between 2 and 10", "would stay"),
    ],
)
def test_the_database_lets_nothing_else_go(aged: Runtime, call: str, why: str) -> None:
    with psycopg.connect(aged.database.url) as connection:
        connection.execute("set role tallystick_keeper")
        with pytest.raises(psycopg.errors.RestrictViolation, match=why):
            connection.execute(call.encode())


def test_the_database_keeps_what_no_block_has(runtime: Runtime) -> None:
    append(at(runtime, OLD, days=None), 5)
    with (
        psycopg.connect(runtime.database.url) as connection,
        pytest.raises(psycopg.errors.RestrictViolation, match="not in any sealed block"),
    ):
        connection.execute("select forget_entries('acme', 5)")


@pytest.mark.parametrize(
    "insert",
    [
        "insert into block_orgs values ('acme', 1, 12, 13, sha256('x'), sha256('x'))",
        "insert into block_orgs values ('acme', 1, 21, 24, sha256('x'), sha256('x'))",
        "insert into blocks select 9, 'p', 1, 1, now(), now(), sha256('x'), sha256('x'), sha256('x'), '', now()",
    ],
)
def test_a_block_that_does_not_continue_the_last_one_is_refused_to_owners_too(aged: Runtime, insert: str) -> None:
    with psycopg.connect(aged.database.url) as connection:
        connection.execute("set session_replication_role = replica")
        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute(insert.encode())


def test_an_entry_whose_price_became_known_leaves_with_its_correction(runtime: Runtime) -> None:
    old = at(runtime, OLD, days=None)
    append(old, 2, model="newest")
    cards = runtime.settings.data_dir / "cards"
    cards.mkdir()
    (cards / "new.jsonl").write_text(
        '{"row":"card","format":1,"version":"new","known_at":"2026-11-30T00:00:00Z","source":"x","source_sha256":null,'
        f'"previous":"{runtime.cards.versions[-1].sha256}"}}\n'
        '{"row":"model","provider":"openai","model":"newest","match":{"equals":"newest"}}\n'
        '{"row":"rate","provider":"openai","model":"newest","meter":"tokens_in","per":1,"price_pico":7}\n'
        '{"row":"rate","provider":"openai","model":"newest","meter":"tokens_out","per":1,"price_pico":9}\n'
    )
    old.reload_cards()
    assert reprice(old).corrected == 2
    seal_once(old, everything=True)

    assert run_retention(at(runtime, NOW)).entries == 4
    assert [entry.kind for entry in stream_entries(runtime, "acme", 1, 4)] == ["usage"] * 2 + ["correction"] * 2
