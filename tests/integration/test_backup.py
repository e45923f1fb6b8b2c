"""A backup, restored into an empty place, is the ledger that it was taken of; anything else is refused."""

from __future__ import annotations

import hashlib
import json
import stat
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from conftest import NOW
from invoicing import event, record
from journal_helpers import raw_event
from sealed_ledger import copied, furnished
from tallystick.app.backup import BACKUP_STEPS, back_up
from tallystick.app.backup_erasures import read_erasures, write_erasures
from tallystick.app.backup_read import check_backup
from tallystick.app.erase import erase_person
from tallystick.app.restore import RESTORE_STEPS, check_file, restore
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.seal import seal_once
from tallystick.app.settings import Settings
from tallystick.app.spool_drain import drain
from tallystick.app.verify import OpenLedger, verify_ledger
from tallystick.app.webhook_endpoints import create_endpoint
from tallystick.app.webhook_log import ping
from tallystick.app.webhook_secrets import open_box
from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError, Unavailable
from tallystick.journal.backup_tables import Sums, list_tables, sum_rows
from tallystick.journal.migrate import migrate
from tallystick.journal.roles import ALL_LOGINS, KEEPER
from tallystick.journal.spool import Spool
from tallystick.journal.steps import install
from tallystick.journal.webhook_endpoints import secrets_of
from tallystick.usage.checks import check_event
from tallystick.usage.meters import METERS


@pytest.fixture(scope="module")
def original(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("backed_up")
    with furnished(server_url, folder, NOW) as name:
        yield name, folder


@pytest.fixture
def ledger(server_url: str, original: tuple[str, Path], tmp_path: Path) -> Iterator[OpenLedger]:
    """Four orgs, three blocks, a correction, an invoice, an erased person, two entries not sealed, a rate card."""
    with copied(server_url, *original, tmp_path / "data") as opened:
        yield opened


@pytest.fixture(scope="module")
def backup(server_url: str, original: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of that ledger, for tests that only read it."""
    folder = tmp_path_factory.mktemp("backup")
    with copied(server_url, *original, folder / "data") as opened:
        back_up(opened.settings, folder / "all.tar", clock=lambda: NOW)
    return folder / "all.tar"


def contents(url: str) -> dict[str, Sums]:
    """Every table of ours, and what its rows come to."""
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        return {table.full_name: sum_rows(connection, table) for table in list_tables(connection)}


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != "sealing"
    }


def place(url: str, folder: Path) -> Settings:
    return Settings(database_url=url, data_dir=folder)


def test_what_is_restored_is_what_was_backed_up(ledger: OpenLedger, empty_database_url: str, tmp_path: Path) -> None:
    (ledger.settings.data_dir / "keys" / "webhooks.key").write_text("under which secrets are")
    (ledger.settings.data_dir / "cards" / "my own card.txt").write_text("a name with spaces")
    with psycopg.connect(ledger.database.url) as connection:  # what an administrator keeps beside ours
        connection.execute("create table notes (said text); create table shown as select 1 as one")
        connection.execute("grant select on shown to tallystick_operator")
    done = back_up(ledger.settings, tmp_path / "all.tar", clock=lambda: NOW)
    with psycopg.connect(ledger.database.url) as connection:
        connection.execute("drop table shown")
    assert stat.S_IMODE(done.path.stat().st_mode) == 0o600
    assert hashlib.sha256(done.path.read_bytes()).hexdigest() == done.sha256
    assert (done.manifest.orgs, done.manifest.entries, done.manifest.blocks) == (4, 12, 3)

    settings = place(empty_database_url, tmp_path / "new")
    report = restore(done.path, settings, sha256=done.sha256, clock=lambda: NOW)
    assert report.manifest == done.manifest
    assert [note for note in report.notes if "not restored" in note] == [
        "no tables of ours, and not restored: public.shown"
    ]
    assert contents(empty_database_url) == contents(ledger.settings.database_url or "")
    assert files(tmp_path / "new" / "blocks") == files(ledger.settings.data_dir / "blocks")
    for name in ("keys", "cards"):
        assert files(tmp_path / "new" / name) == files(ledger.settings.data_dir / name)
    with open_runtime(settings, lambda: NOW) as runtime:
        assert verify_ledger(runtime).as_dict() == verify_ledger(ledger).as_dict()
        assert verify_ledger(runtime).sound
        with runtime.database.operator() as connection:  # who copied everything is in the copy, too
            told = connection.execute("select subject from administrative_acts where act = 'backup.make'").fetchall()
        assert told == [("all.tar",)]
        # It goes on where it was: what it knows is known, new entries follow, and sealing signs with the same key.
        assert [one.status for one in runtime.append([event("open-1"), event("new")])] == ["duplicate", "accepted"]
        assert len(seal_once(runtime, everything=True).blocks) == 1
        assert verify_ledger(runtime).sound


def test_secrets_of_webhooks_open_where_they_are_restored(
    ledger: OpenLedger, empty_database_url: str, tmp_path: Path
) -> None:
    with open_runtime(ledger.settings, lambda: NOW) as runtime:
        made = create_endpoint(runtime, url="https://hooks.example.com/", types=["*"], author="ann", org_id="globex")
        ping(runtime, made.endpoint.endpoint_id)
    back_up(ledger.settings, tmp_path / "all.tar", clock=lambda: NOW)
    bare = back_up(ledger.settings, tmp_path / "bare.tar", clock=lambda: NOW, with_keys=False)
    assert not any(member.name.startswith("keys/") for member in bare.manifest.members)
    settings = place(empty_database_url, tmp_path / "new")
    report = restore(tmp_path / "all.tar", settings, clock=lambda: NOW)
    assert not any("webhooks" in note for note in report.notes)
    with open_runtime(settings, lambda: NOW) as runtime, runtime.database.operator() as connection:
        (kept,) = secrets_of(connection, [made.endpoint.endpoint_id])
        assert open_box(settings, connection).open(kept) == made.secret
        ping(runtime, made.endpoint.endpoint_id)
        places = connection.execute("select place from webhook_deliveries order by event_id").fetchall()
        assert len(set(places)) == 2, "numbering goes on where it was"


def test_a_login_without_privileges_fills_a_database_that_it_owns(
    backup: Path, server_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    name = conninfo_to_dict(empty_database_url)["dbname"]
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("drop role if exists deployer")
        connection.execute("create role deployer nosuperuser")
        connection.execute(f"grant {', '.join((*ALL_LOGINS, KEEPER))} to deployer".encode())
        connection.execute(f"alter database {name} owner to deployer".encode())
    url = make_conninfo(empty_database_url, options="-c role=deployer")
    settings = place(url, tmp_path / "new")
    restore(backup, settings)
    with open_runtime(settings, lambda: NOW) as runtime:
        assert verify_ledger(runtime).sound
    with psycopg.connect(empty_database_url) as connection:
        owners = connection.execute("select distinct tableowner from pg_tables where schemaname = 'public'").fetchall()
        connection.execute(f"alter database {name} owner to postgres".encode())
        connection.execute("drop owned by deployer cascade")
        connection.execute("drop role deployer")
    assert owners == [("deployer",)]


def test_rows_that_do_not_come_to_what_they_came_to_are_not_kept(
    backup: Path, empty_database_url: str, tmp_path: Path
) -> None:
    """A file that was made wrong, with hashes that fit it."""
    forged = tmp_path / "forged.tar"
    with tarfile.open(backup) as old, tarfile.open(forged, "w") as new:
        for info in old:
            file = old.extractfile(info)
            assert file is not None
            data = file.read()
            if info.name == "manifest.json":
                manifest = json.loads(data)
                (table,) = [one for one in manifest["tables"] if one["name"] == "public.org_heads"]
                table["rows"] += 1
                data = json.dumps(manifest).encode()
            info.size = len(data)
            new.addfile(info, BytesIO(data))
    with pytest.raises(Conflict) as caught:
        restore(forged, place(empty_database_url, tmp_path / "new"))
    assert caught.value.code == "restore_differs"
    assert "org_heads" in caught.value.detail
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("select count(*) from org_heads").fetchone() == (0,)


def test_rows_that_were_restored_are_walled_and_unchangeable(
    backup: Path, empty_database_url: str, tmp_path: Path
) -> None:
    restore(backup, place(empty_database_url, tmp_path / "new"))
    with psycopg.connect(empty_database_url) as connection, pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute("update transfers set amount_pico = 0")
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("set role tallystick_app")
        assert connection.execute("select count(*) from ledger_entries").fetchone() == (0,)
        connection.execute("set tallystick.org = 'acme'")
        assert connection.execute("select count(distinct org_id) from ledger_entries").fetchone() == (1,)


def test_it_is_of_one_moment_while_others_write_seal_and_erase(
    runtime: Runtime, empty_database_url: str, tmp_path: Path
) -> None:
    record(runtime, [event(f"r{n}", user_id=f"u{n % 3}") for n in range(30)])
    seal_once(runtime, everything=True)
    at_work = threading.Thread(target=_work, args=(runtime,))

    def hook(step: str) -> None:
        if step == "backup.snapshot":  # the folder's lock is held: who seals or erases waits for it
            record(runtime, [event("after")])
            at_work.start()
        elif step == "backup.tables":
            at_work.join()

    install(hook)
    try:
        done = back_up(runtime.settings, tmp_path / "b.tar", clock=lambda: NOW)
    finally:
        install(None)
    assert done.manifest.entries == 30
    settings = place(empty_database_url, tmp_path / "new")
    restore(done.path, settings, clock=lambda: NOW)
    with open_runtime(settings, lambda: NOW) as restored:
        assert verify_ledger(restored).sound
    assert verify_ledger(runtime).sound


def _work(runtime: Runtime) -> None:
    seal_once(runtime, everything=True)
    erase_person(runtime, "globex", "u1")


def test_who_was_erased_after_the_backup_is_erased_again(
    runtime: Runtime, empty_database_url: str, tmp_path: Path
) -> None:
    record(runtime, [event("a", user_id="mary"), event("b", user_id="john"), event("c", user_id="mary")])
    seal_once(runtime, everything=True)
    record(runtime, [event("d", user_id="mary")])
    back_up(runtime.settings, tmp_path / "b.tar", clock=lambda: NOW)
    record(runtime, [event("e", user_id="mary")])
    erase_person(runtime, "globex", "mary")
    assert write_erasures(runtime, tmp_path / "erased.jsonl") == 4
    assert "mary" not in (tmp_path / "erased.jsonl").read_text()

    settings = place(empty_database_url, tmp_path / "new")
    report = restore(tmp_path / "b.tar", settings, erasures=tmp_path / "erased.jsonl", clock=lambda: NOW)
    assert report.erased is not None
    assert report.erased.persons == 1
    assert not any("named again" in note for note in report.notes)
    with open_runtime(settings, lambda: NOW) as restored:
        assert verify_ledger(restored).sound
        with restored.database.operator() as connection:
            users = connection.execute("select user_id from ledger_entries order by seq").fetchall()
    assert users == [(None,), ("john",), (None,), (None,)]
    assert not [
        path for path in (tmp_path / "new" / "blocks").rglob("*") if path.is_file() and b"mary" in path.read_bytes()
    ]


def test_what_waits_on_disk_comes_along_and_is_written_once(
    ledger: OpenLedger, empty_database_url: str, tmp_path: Path
) -> None:
    waiting = [check_event(raw_event(one), now=NOW, known_meters=METERS) for one in ("w1", "w2")]
    with closing(Spool(ledger.settings.data_dir, events_max=10)) as spool:
        spool.add(waiting, [bytes(16), bytes(16)], NOW)
        back_up(ledger.settings, tmp_path / "b.tar", clock=lambda: NOW)
    settings = place(empty_database_url, tmp_path / "new")
    restore(tmp_path / "b.tar", settings, clock=lambda: NOW)
    with open_runtime(settings, lambda: NOW) as runtime:
        with closing(runtime.open_spool()) as spool:
            drain(spool, runtime.write, lambda: NOW)
        deadline = time.monotonic() + 20  # the running system may have begun it before, and be at it
        while runtime.spool_state().waiting and time.monotonic() < deadline:
            time.sleep(0.02)
        assert runtime.spool_state().waiting == 0
        assert [one.status for one in runtime.append(waiting)] == ["duplicate", "duplicate"]


def test_without_keys_the_place_says_what_it_lacks(ledger: OpenLedger, empty_database_url: str, tmp_path: Path) -> None:
    done = back_up(ledger.settings, tmp_path / "b.tar", with_keys=False, clock=lambda: NOW)
    assert not done.manifest.has_key
    report = restore(done.path, place(empty_database_url, tmp_path / "new"), clock=lambda: NOW)
    assert not (tmp_path / "new" / "keys").exists()
    assert not [member for member in done.manifest.members if member.name.startswith("keys/")]
    assert any("checkpoint.key" in note for note in report.notes)


def test_nothing_is_restored_over_anything(
    backup: Path, database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter").write_text("dear")
    refused = [place(empty_database_url, full), place(database_url, tmp_path / "new")]
    for settings in refused:
        with pytest.raises(Conflict) as caught:
            restore(backup, settings)
        assert caught.value.code == "restore_not_empty"
    assert (full / "letter").read_text() == "dear"
    assert [path.name for path in full.iterdir()] == ["letter"]


def altered(backup: Path, target: Path, change: str) -> Path:
    """The backup with one thing changed about its members."""
    with tarfile.open(backup) as old, tarfile.open(target, "w") as new:
        for info in old:
            file = old.extractfile(info)
            assert file is not None
            data = file.read()
            if change == "content" and info.name.startswith("tables/public.ledger_entries"):
                data = data[:-1] + bytes([data[-1] ^ 1])
            if change == "missing" and info.name.startswith("tables/public.transfers"):
                continue
            if change == "name" and info.name.startswith("cards/"):
                info.name = "../cards"
            if change == "format" and info.name == "tallystick-backup.json":
                data = data.replace(b'"format":1', b'"format":2')
            if change == "revision" and info.name == "manifest.json":
                data = data.replace(b'"schema_revision": "', b'"schema_revision": "9')
            if change == "cut" and info.name == "manifest.json":
                continue
            info.size = len(data)
            new.addfile(info, BytesIO(data))
        if change == "more":
            new.addfile(tarfile.TarInfo("more"))
    return target


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("content", "backup_changed"),
        ("missing", "backup_changed"),
        ("name", "backup_changed"),
        ("more", "backup_changed"),
        ("cut", "backup_cut"),
        ("format", "backup_newer"),
        ("revision", "backup_newer"),
    ],
)
def test_a_backup_that_was_changed_is_refused_before_anything_is_touched(
    backup: Path, tmp_path: Path, change: str, code: str
) -> None:
    path = altered(backup, tmp_path / "other.tar", change)
    with pytest.raises(BadInput) as caught:
        restore(path, place("postgresql://nobody@nowhere.invalid/x", tmp_path / "new"))
    assert caught.value.code == code
    assert not (tmp_path / "new").exists()


def test_a_backup_that_was_cut_anywhere_or_is_none_is_refused(backup: Path, tmp_path: Path) -> None:
    data = backup.read_bytes()
    for size in {
        0,
        1,
        512,
        1024,
        1100,
        len(data) // 2,
        len(data) // 3,
        data.rindex(b"manifest.json"),
        len(data) - 11_000,
    }:
        (tmp_path / "cut.tar").write_bytes(data[:size])
        with pytest.raises(BadInput) as caught:
            check_file(tmp_path / "cut.tar")
        assert caught.value.code in ("backup_cut", "backup_foreign")
    for content in (b"hello" * 1000, b"\x1f\x8b" + bytes(2000), bytes(20_000)):
        (tmp_path / "none.tar").write_bytes(content)
        with pytest.raises(BadInput) as caught:
            check_file(tmp_path / "none.tar")
        assert caught.value.code == "backup_foreign"
    with pytest.raises(BadInput) as caught:
        check_file(backup, sha256="0" * 64)
    assert caught.value.code == "backup_changed"
    with pytest.raises(BadInput) as caught:
        check_file(tmp_path / "absent.tar")
    assert caught.value.code == "backup_unreadable"


class _Died(BaseException):
    pass


def dies_at(step: str) -> None:
    def hook(reached: str) -> None:
        if reached == step:
            raise _Died

    install(hook)


def test_a_backup_that_dies_leaves_no_file_that_looks_whole(ledger: OpenLedger, tmp_path: Path) -> None:
    target = tmp_path / "out" / "b.tar"
    target.parent.mkdir()
    for step in BACKUP_STEPS[:-1]:
        dies_at(step)
        try:
            with pytest.raises(_Died):
                back_up(ledger.settings, target)
        finally:
            install(None)
        assert not target.exists()
    (target.parent / "b.tar.partial").write_bytes(b"what a killed process has left" * 1000)
    back_up(ledger.settings, target)
    assert [path.name for path in target.parent.iterdir()] == ["b.tar"]
    with pytest.raises(Conflict) as caught:
        back_up(ledger.settings, target)
    assert caught.value.code == "backup_exists"
    check_backup(target)


@pytest.mark.parametrize("step", ["restore.claimed", "restore.loaded", "restore.erased"])
def test_a_restore_that_dies_leaves_a_place_that_is_refused(
    backup: Path, empty_database_url: str, tmp_path: Path, step: str
) -> None:
    assert step in RESTORE_STEPS
    settings = place(empty_database_url, tmp_path / "new")
    dies_at(step)
    try:
        with pytest.raises(_Died):
            restore(backup, settings)
    finally:
        install(None)

    def refused() -> list[str]:
        codes = []
        elsewhere = place(empty_database_url, tmp_path / "elsewhere")
        for opening in (lambda: open_runtime(settings), lambda: open_runtime(elsewhere)):
            with pytest.raises(Unavailable) as caught, opening():
                pass
            codes.append(caught.value.code)
        for settings_ in (settings, elsewhere):
            with pytest.raises(TallyError) as found:
                back_up(settings_, tmp_path / "x.tar")
            codes.append(found.value.code)
            with pytest.raises(TallyError) as found:
                restore(backup, settings_)
            codes.append(found.value.code)
        return codes

    assert set(refused()) <= {"restore_unfinished", "restore_not_empty"}


def test_an_older_schema_is_brought_forward(backup: Path, empty_database_url: str, tmp_path: Path) -> None:
    """A ledger of the release before rollups and invoices' life: its tables alone."""
    migrate(empty_database_url, revision="0005", restoring=True)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("insert into org_heads (org_id, last_seq) values ('acme', 0)")
    done = back_up(place(empty_database_url, tmp_path / "old"), tmp_path / "old.tar", clock=lambda: NOW)
    assert done.manifest.schema_revision == "0005"
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
        connection.execute("grant usage on schema public to public")
    settings = place(empty_database_url, tmp_path / "new")
    restore(done.path, settings)
    with open_runtime(settings, lambda: NOW) as runtime, runtime.database.operator() as connection:
        assert connection.execute("select org_id from org_heads").fetchall() == [("acme",)]


def test_what_is_broken_already_is_named_and_backed_up_all_the_same(ledger: OpenLedger, tmp_path: Path) -> None:
    blocks = sorted((ledger.settings.data_dir / "blocks").glob("*/block-*[0-9].parquet"))
    blocks[0].write_bytes(blocks[0].read_bytes() + b"x")
    blocks[1].unlink()
    done = back_up(ledger.settings, tmp_path / "b.tar")
    assert len(done.manifest.unsound) == 2
    noted = json.loads((ledger.settings.data_dir / "last-backup.json").read_text())
    assert (noted["sha256"], noted["unsound"]) == (done.sha256, 2)


def test_there_must_be_something_to_back_up(empty_database_url: str, tmp_path: Path) -> None:
    for settings in (place(empty_database_url, tmp_path / "a"), Settings(data_dir=tmp_path / "b")):
        with pytest.raises(NotFound) as caught:
            back_up(settings, tmp_path / "x.tar")
        assert caught.value.code == "nothing_to_back_up"
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_erasures_that_is_none_is_refused(tmp_path: Path) -> None:
    head = '{"format":"tallystick erasures 1"}\n'
    for text in ("", "x", '{"format":"y"}\n', head + "{}\n", head + '{"org_id":"a","seq":"1","erased_at":"now"}\n'):
        (tmp_path / "list").write_text(text)
        with pytest.raises(BadInput) as caught:
            read_erasures(tmp_path / "list")
        assert caught.value.code == "invalid_erasures"
