"""Sealing: every committed entry in exactly one block, what was written read back, a signed log over all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pytest

from journal_helpers import query, raw_event, tamper
from tallystick.app.ingest import check_items
from tallystick.app.runtime import Runtime
from tallystick.app.seal import SEAL_AGE_MAX, SEAL_ENTRIES_MIN, seal_is_due, seal_once
from tallystick.app.signing import known_keys
from tallystick.archive.format import read_block, read_people, write_people
from tallystick.archive.leaves import batch_entries
from tallystick.archive.paths import people_path
from tallystick.core.errors import Conflict, Unavailable
from tallystick.ledger.checkpoint import NO_PREVIOUS, note_sha256, read_checkpoint
from tallystick.ledger.entry import entry_leaf
from tallystick.ledger.merkle import leaf_hash, root
from tallystick.ledger.statements import OrgStatement, orgs_root


def append(runtime: Runtime, count: int, *, orgs: tuple[str, ...] = ("acme", "bolt"), start: int = 0) -> None:
    raws = [
        raw_event(
            f"r{number}", org_id=orgs[number % len(orgs)], user_id=f"u{number % 3}", attributes={"n": str(number)}
        )
        for number in range(start, start + count)
    ]
    assert {receipt.status for receipt in runtime.append(check_items(runtime, raws))} == {"accepted"}


def blocks_dir(runtime: Runtime) -> Path:
    return runtime.settings.data_dir / "blocks"


def small_blocks(runtime: Runtime, entries: int) -> Runtime:
    return replace(runtime, settings=runtime.settings.model_copy(update={"block_entries_max": entries}))


def files(runtime: Runtime) -> list[str]:
    root_folder = blocks_dir(runtime)
    return sorted(str(path.relative_to(root_folder)) for path in root_folder.rglob("*") if path.is_file())


def rows_of_blocks(runtime: Runtime) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for (path,) in query(runtime, "select path from blocks order by block"):
        main = blocks_dir(runtime) / path
        for batch in read_block(main, people_path(main)).to_batches():
            rows += batch_entries(batch)
    return rows


def test_every_row_is_in_one_block_exactly_as_it_is_in_the_database(runtime: Runtime) -> None:
    append(runtime, 60)
    first = seal_once(small_blocks(runtime, 25), everything=True)
    append(runtime, 11, orgs=("acme", "crew"), start=60)
    second = seal_once(runtime, everything=True)

    assert [block.entries for block in (*first.blocks, *second.blocks)] == [25, 25, 10, 11]
    assert second.left == 0
    with runtime.database.operator() as connection, connection.cursor(binary=True) as cursor:
        stored = cursor.execute("select * from ledger_entries order by org_id, seq").fetchall()
    assert sorted((tuple(row) for row in rows_of_blocks(runtime)), key=lambda row: row[:2]) == [
        tuple(tuple(value) if isinstance(value, list) else value for value in row) for row in stored
    ]


def test_an_org_s_ranges_follow_one_another_and_its_roots_are_those_of_its_leaves(runtime: Runtime) -> None:
    append(runtime, 40)
    seal_once(small_blocks(runtime, 7), everything=True)

    ranges = query(runtime, "select org_id, first_seq, last_seq, root from block_orgs order by org_id, first_seq")
    next_seq = {"acme": 1, "bolt": 1}
    for org, first, last, org_root in ranges:
        leaves = query(
            runtime, "select leaf from ledger_entries where org_id = %s and seq <= %s order by seq", org, last
        )
        assert first == next_seq[org]
        assert org_root == root(leaf for (leaf,) in leaves)
        next_seq[org] = last + 1
    assert next_seq == {"acme": 21, "bolt": 21}


def test_a_block_s_row_says_what_its_file_is(runtime: Runtime) -> None:
    append(runtime, 30)
    (block,) = seal_once(runtime, everything=True).blocks

    main = blocks_dir(runtime) / block.path
    entries = [entry for batch in read_block(main, people_path(main)).to_batches() for entry in batch_entries(batch)]
    ranges = query(runtime, "select org_id, first_seq, last_seq, root from block_orgs where block = 1")
    assert block.file_sha256 == sha256(main.read_bytes()).digest()
    assert block.merkle_root == root(entry_leaf(entry) for entry in entries)
    assert block.orgs_root == orgs_root(OrgStatement(*one) for one in ranges)
    assert (block.time_min, block.time_max) == (min(one.time for one in entries), max(one.time for one in entries))
    assert main.stat().st_mode & 0o077 == people_path(main).stat().st_mode & 0o077 == 0


def test_each_block_has_a_signed_checkpoint_that_names_the_one_before(runtime: Runtime) -> None:
    append(runtime, 30)
    seal_once(small_blocks(runtime, 10), everything=True)

    notes = query(runtime, "select size, note from checkpoints order by size")
    statements = [text for (text,) in query(runtime, "select statement from blocks order by block")]
    previous = NO_PREVIOUS
    for size, note in notes:
        checkpoint, signers = read_checkpoint(note, known_keys(runtime))
        assert signers
        assert checkpoint.size == size
        assert checkpoint.root == root(leaf_hash(text.encode()) for text in statements[:size])
        assert checkpoint.previous == previous
        assert (blocks_dir(runtime) / f"checkpoints/{size:012d}.note").read_text() == note
        previous = note_sha256(note)
    assert [size for size, _ in notes] == [1, 2, 3]


def test_a_block_s_own_file_names_no_person(runtime: Runtime) -> None:
    raws = [
        raw_event(f"r{n}", user_id="user-of-flesh", session_id="their-session", attributes={"k": "their-word"})
        for n in range(5)
    ]
    runtime.append(check_items(runtime, raws))
    (block,) = seal_once(runtime, everything=True).blocks

    main = blocks_dir(runtime) / block.path
    columns = read_block(main, None).select(["user_id", "session_id", "attributes", "salt"])
    assert all(column.null_count == 5 for column in columns.columns)
    for word in (b"user-of-flesh", b"their-session", b"their-word"):
        assert word not in main.read_bytes()


def test_few_new_entries_wait_and_many_or_old_ones_do_not(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    append(runtime, 10)
    assert not seal_is_due(runtime)
    assert seal_once(runtime).left == 10

    later = replace(runtime, clock=lambda: runtime.clock() + SEAL_AGE_MAX)
    assert seal_is_due(later)
    monkeypatch.setattr("tallystick.app.seal.SEAL_ENTRIES_MIN", 10)
    assert seal_is_due(runtime)
    assert seal_once(runtime).entries == 10
    assert not seal_is_due(later)
    assert SEAL_ENTRIES_MIN > 10 < SEAL_AGE_MAX / timedelta(seconds=1)


def test_nothing_new_makes_no_block_and_no_checkpoint(runtime: Runtime) -> None:
    append(runtime, 3)
    seal_once(runtime, everything=True)
    before = files(runtime)

    assert seal_once(runtime, everything=True).blocks == ()
    assert files(runtime) == before


def test_a_second_sealer_leaves_politely(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    append(runtime, 3)
    others = []

    def reached(step: str) -> None:
        if step == "seal.read":
            others.append(seal_once(runtime))

    monkeypatch.setattr("tallystick.app.seal_block.reached", reached)
    report = seal_once(runtime, everything=True)

    assert [other.busy for other in others] == [True]
    assert report.entries == 3


def test_sealers_that_start_together_seal_everything_once(runtime: Runtime) -> None:
    append(runtime, 50)
    reports = []
    threads = [
        Thread(target=lambda: reports.append(seal_once(small_blocks(runtime, 9), everything=True))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(report.entries for report in reports) == 50
    assert sorted((entry[0], entry[1]) for entry in rows_of_blocks(runtime)) == [
        (org, seq) for org in ("acme", "bolt") for seq in range(1, 26)
    ]


@pytest.mark.parametrize(
    "change",
    [
        "update ledger_entries set cost_pico = cost_pico + 1 where org_id = 'acme' and seq = 4",
        "update ledger_entries set meter_quantities[1] = 7 where org_id = 'acme' and seq = 4",
        "update ledger_entries set leaf = sha256('x') where org_id = 'acme' and seq = 4",
        "delete from ledger_entries where org_id = 'acme' and seq = 4",
    ],
)
def test_a_row_that_was_tampered_with_is_named_and_not_sealed(runtime: Runtime, change: str) -> None:
    append(runtime, 20)
    tamper(runtime.database.url, change)

    report = seal_once(runtime, everything=True)

    assert report.tampered == (("acme", 4),)
    assert query(runtime, "select org_id, first_seq, last_seq from block_orgs order by org_id") == [
        ("acme", 1, 3),
        ("bolt", 1, 10),
    ]
    assert report.left == 7
    assert seal_once(runtime, everything=True).blocks == ()


def test_blocks_that_the_database_does_not_know_are_kept_and_stop_sealing(runtime: Runtime) -> None:
    append(runtime, 4)
    seal_once(runtime, everything=True)
    stray = blocks_dir(runtime) / "2026-11-02/block-000000000003.parquet"
    stray.write_bytes(b"of a later day")
    append(runtime, 2, start=4)

    with pytest.raises(Conflict) as refused:
        seal_once(runtime, everything=True)

    assert refused.value.code == "blocks_ahead"
    assert stray.read_bytes() == b"of a later day"


def other_people(draft: Path) -> None:
    people = people_path(draft)
    table = read_people(people)
    users = pa.array(["somebody-else", *table.column("user_id").to_pylist()[1:]])
    write_people(table.set_column(table.schema.get_field_index("user_id"), "user_id", users), people)


def cut_short(draft: Path) -> None:
    draft.write_bytes(draft.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [other_people, cut_short])
def test_a_block_that_does_not_read_back_is_not_sealed(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    append(runtime, 4)

    def reached(step: str) -> None:
        if step == "seal.written":
            (draft,) = (path for path in blocks_dir(runtime).glob("sealing/*") if "people" not in path.name)
            damage(draft)

    with monkeypatch.context() as patch:
        patch.setattr("tallystick.app.seal_block.reached", reached)
        with pytest.raises(Unavailable) as refused:
            seal_once(runtime, everything=True)
    assert refused.value.code == "block_unsound"
    assert query(runtime, "select count(*) from blocks") == [(0,)]
    assert files(runtime) == []

    assert seal_once(runtime, everything=True).entries == 4
