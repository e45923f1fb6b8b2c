"""Erasing a person: nothing names them any more, and everything that was proved stays proved."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import examples
from journal_helpers import query, raw_event
from tallystick.app.erase import ERASE_STEPS, erase_person
from tallystick.app.ingest import check_items
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.archive.format import read_block
from tallystick.archive.leaves import batch_entries, batch_leaves
from tallystick.archive.paths import people_path
from tallystick.core.errors import BadInput
from tallystick.ledger.entry import entry_fingerprint


def raws(count: int, *, start: int = 0, org: str = "acme") -> list[dict[str, object]]:
    return [
        raw_event(
            f"r{number}",
            org_id=org,
            user_id=f"person-{number % 3}",
            session_id=f"session-of-{number % 3}",
            attributes={"note": f"word-of-{number % 3}"},
        )
        for number in range(start, start + count)
    ]


def append(runtime: Runtime, events: list[dict[str, object]]) -> list[str]:
    return [receipt.status for receipt in runtime.append(check_items(runtime, events))]


def everything_on_disk(runtime: Runtime) -> bytes:
    return b"".join(path.read_bytes() for path in (runtime.settings.data_dir / "blocks").rglob("*") if path.is_file())


def people_of_blocks(runtime: Runtime) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for main in block_files(runtime):
        for batch in read_block(main, people_path(main)).to_batches():
            assert batch_leaves(batch) == batch.column("leaf").to_pylist()
            for entry in batch_entries(batch):
                assert entry.salt is None or entry_fingerprint(entry) == entry.fingerprint
                rows.append((entry.org_id, entry.seq, entry.user_id, entry.session_id, entry.attributes, entry.salt))
    return rows


def block_files(runtime: Runtime) -> list[Path]:
    found = query(runtime, "select path from blocks order by block")
    return [runtime.settings.data_dir / "blocks" / path for (path,) in found]


_numbers = itertools.count()
PERSONAL = "select user_id, session_id, attributes, salt from ledger_entries where org_id = 'acme'"


def test_the_database_and_the_blocks_hold_nothing_of_the_person(runtime: Runtime) -> None:
    append(runtime, raws(9))
    seal_once(runtime, everything=True)
    append(runtime, raws(6, start=9))

    erased = erase_person(runtime, "acme", "person-1")

    assert erased == (5, 3, 1, 0)
    rows = query(runtime, f"{PERSONAL} order by seq")
    assert [row == (None, None, None, None) for row in rows] == [number % 3 == 1 for number in range(15)]
    assert [row[2:] == (None, None, None, None) for row in people_of_blocks(runtime)] == [n % 3 == 1 for n in range(9)]
    for word in (b"person-1", b"session-of-1", b"word-of-1"):
        assert word not in everything_on_disk(runtime)
    assert query(runtime, "select seq from erasures order by seq") == [(2,), (5,), (8,), (11,), (14,)]


def test_leaves_blocks_and_checkpoints_stay_as_they_were(runtime: Runtime) -> None:
    append(runtime, raws(9))
    seal_once(runtime, everything=True)
    kept = "select seq, fingerprint, leaf, cost_pico, request_id, meter_quantities from ledger_entries order by seq"
    before = (
        query(runtime, kept),
        [main.read_bytes() for main in block_files(runtime)],
        query(runtime, "table checkpoints"),
    )

    erase_person(runtime, "acme", "person-0")

    assert before == (
        query(runtime, kept),
        [main.read_bytes() for main in block_files(runtime)],
        query(runtime, "table checkpoints"),
    )


def test_others_and_other_orgs_keep_their_data(runtime: Runtime) -> None:
    append(runtime, raws(6) + raws(6, org="bolt"))
    seal_once(runtime, everything=True)
    before = query(runtime, "select * from ledger_entries where org_id = 'bolt' order by seq")

    erase_person(runtime, "acme", "person-0")

    assert query(runtime, "select * from ledger_entries where org_id = 'bolt' order by seq") == before
    left = {(row[0], row[2]) for row in people_of_blocks(runtime)}
    assert left == {
        ("acme", None),
        *(("acme", f"person-{n}") for n in (1, 2)),
        *(("bolt", f"person-{n}") for n in (0, 1, 2)),
    }


def test_what_is_sealed_after_an_erasure_names_nobody(runtime: Runtime) -> None:
    append(runtime, raws(6))
    erase_person(runtime, "acme", "person-2")
    seal_once(runtime, everything=True)

    assert [row[2] for row in people_of_blocks(runtime)] == ["person-0", "person-1", None] * 2
    assert b"person-2" not in everything_on_disk(runtime)


def test_erasing_again_finds_nothing_and_new_events_of_the_person_are_erased_by_another_run(runtime: Runtime) -> None:
    append(runtime, raws(6))
    seal_once(runtime, everything=True)
    erase_person(runtime, "acme", "person-1")

    assert erase_person(runtime, "acme", "person-1") == (0, 0, 0, 0)
    append(runtime, raws(3, start=6))
    assert erase_person(runtime, "acme", "person-1") == (1, 0, 0, 0)


def test_an_event_sent_again_after_the_erasure_is_still_known(runtime: Runtime) -> None:
    append(runtime, raws(3))
    erase_person(runtime, "acme", "person-1")

    assert append(runtime, raws(3)) == ["duplicate"] * 3
    assert append(runtime, [{**raws(3)[1], "meters": {"tokens_in": 1}}]) == ["conflict"]


@pytest.mark.parametrize("step", ERASE_STEPS[:-1])
def test_an_erasure_that_was_interrupted_is_finished_by_another_run(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    append(runtime, raws(12))
    seal_once(replace(runtime, settings=runtime.settings.model_copy(update={"block_entries_max": 5})), everything=True)

    def interrupt(reached: str) -> None:
        if reached == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tallystick.app.erase.reached", interrupt)
        with pytest.raises(KeyboardInterrupt):
            erase_person(runtime, "acme", "person-1")
    erase_person(runtime, "acme", "person-1")

    assert b"person-1" not in everything_on_disk(runtime)
    assert query(runtime, "select count(*) from ledger_entries where user_id = 'person-1'") == [(0,)]
    assert [row[1] for row in people_of_blocks(runtime) if row[5] is None] == [2, 5, 8, 11]
    assert query(runtime, "select seq from erasures order by seq") == [(2,), (5,), (8,), (11,)]


def test_nobody_is_called_by_no_name(runtime: Runtime) -> None:
    with pytest.raises(BadInput) as refused:
        erase_person(runtime, "acme", "")
    assert refused.value.code == "invalid_text"


@settings(max_examples=examples(4), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_order_of_appending_sealing_and_erasing(runtime: Runtime, data: st.DataObject) -> None:
    org = f"org-{next(_numbers)}"
    present: dict[int, str] = {}
    erased: set[int] = set()
    for action in data.draw(st.lists(st.sampled_from(["append", "seal", "erase"]), min_size=3, max_size=8)):
        if action == "append":
            start = len(present)
            append(runtime, raws(4, start=start, org=org))
            present |= {number + 1: f"person-{number % 3}" for number in range(start, start + 4)}
        elif action == "seal":
            seal_once(runtime, everything=True)
        else:
            person = data.draw(st.sampled_from(["person-0", "person-1", "person-2"]))
            erase_person(runtime, org, person)
            erased |= {seq for seq, user in present.items() if user == person}
    sealed = {row[1] for row in people_of_blocks(runtime) if row[0] == org}

    expected = [(seq, None if seq in erased else user) for seq, user in sorted(present.items())]
    assert query(runtime, "select seq, user_id from ledger_entries where org_id = %s order by seq", org) == expected
    assert sorted((row[1], row[2]) for row in people_of_blocks(runtime) if row[0] == org) == [
        one for one in expected if one[0] in sealed
    ]


# ── what the database itself allows ─────────────────────────────────────────────────────────────────────────────────


def as_keeper(runtime: Runtime, sql: str) -> None:
    """As an owner that takes the place of the keeper, whom nobody can log in as."""
    with psycopg.connect(runtime.database.url) as connection:
        connection.execute("set role tallystick_keeper")
        connection.execute(sql.encode())


ERASING = "update ledger_entries set user_id = null, session_id = null, attributes = null, salt = null"


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("update ledger_entries set salt = null", "only user_id, session_id, attributes and salt"),
        ("update ledger_entries set user_id = 'other'", "only user_id, session_id, attributes and salt"),
        (f"{ERASING} where seq = 1", "without a record"),
        ("update ledger_entries set cost_pico = 0", "permission denied"),
        ("update ledger_entries set leaf = sha256('x')", "permission denied"),
        ("truncate ledger_entries", "permission denied"),
        ("insert into ledger_entries select * from ledger_entries", "permission denied"),
        ("delete from erasures", "permission denied"),
    ],
)
def test_even_the_keeper_can_do_nothing_but_erase_what_is_recorded(runtime: Runtime, sql: str, code: str) -> None:
    append(runtime, raws(2))
    with pytest.raises(psycopg.Error, match=code):
        as_keeper(runtime, sql)


def test_an_owner_with_every_right_granted_still_changes_nothing_else(runtime: Runtime) -> None:
    append(runtime, raws(2))
    with psycopg.connect(runtime.database.url) as connection:
        connection.execute("grant all on ledger_entries, erasures to tallystick_keeper")
        connection.execute("insert into erasures values ('acme', 1, now())")
    for change in ("cost_pico = 1", "seq = 3", "request_id = 'x'", "price_context = null", "recorded_at = now()"):
        with pytest.raises(psycopg.errors.RestrictViolation):
            as_keeper(runtime, f"{ERASING}, {change} where seq = 1")
    as_keeper(runtime, f"{ERASING} where seq = 1")
    with pytest.raises(psycopg.errors.RestrictViolation, match="only user_id, session_id"):
        as_keeper(runtime, "update ledger_entries set user_id = 'back again' where seq = 1")


@pytest.mark.parametrize("role", ["app", "writer", "keeper"])
def test_only_the_operator_may_call_the_functions(runtime: Runtime, role: str) -> None:
    for call in ("erase_person('acme', 'u')", "record_erasures('acme', '{1}')", "forget_entries('acme', 1)"):
        with psycopg.connect(runtime.database.url) as connection:
            owner = connection.execute(
                "select count(*) from pg_proc where proname = any(%s) and proowner = 'tallystick_keeper'::regrole",
                [[call.split("(")[0]]],
            ).fetchone()
            assert owner == (1,)
            connection.execute(f"set role tallystick_{role}".encode())
            if role != "keeper":
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"select {call}".encode())


def test_a_sealed_entry_that_is_in_the_database_cannot_be_recorded_as_erased_without_erasing_it(
    runtime: Runtime,
) -> None:
    append(runtime, raws(2))
    seal_once(runtime, everything=True)
    assert query(runtime, "select record_erasures('acme', '{1,2,3}')") == [(0,)]
    assert query(runtime, "select count(*) from erasures") == [(0,)]
