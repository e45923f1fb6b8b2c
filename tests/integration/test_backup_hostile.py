"""What is wrong with a backup, or with where it is restored to, is named; nothing that a file says is believed."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from conftest import NOW
from sealed_ledger import copied, furnished
from tallystick.app import backup_target
from tallystick.app.backup import back_up
from tallystick.app.backup_read import check_backup
from tallystick.app.restore import check_file, restore
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.app.verify import OpenLedger, verify_ledger
from tallystick.core.errors import BadInput, Conflict, TallyError, Unavailable
from tallystick.journal.steps import install


@pytest.fixture(scope="module")
def original(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("original")
    with furnished(server_url, folder, NOW) as name:
        yield name, folder


@pytest.fixture
def ledger(server_url: str, original: tuple[str, Path], tmp_path: Path) -> Iterator[OpenLedger]:
    with copied(server_url, *original, tmp_path / "data") as opened:
        yield opened


@pytest.fixture(scope="module")
def backup(server_url: str, original: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backup")
    with copied(server_url, *original, folder / "data") as opened:
        back_up(opened.settings, folder / "all.tar", clock=lambda: NOW)
    return folder / "all.tar"


def refused(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        check_file(path)
    return caught.value.code


def test_a_byte_that_flipped_anywhere_is_noticed_or_changes_nothing(backup: Path, tmp_path: Path) -> None:
    data, path = backup.read_bytes(), tmp_path / "flipped.tar"
    dice = random.Random(7)
    with tarfile.open(backup) as tar:
        members = [(info.name, info.offset, info.offset_data, info.size) for info in tar]
    places = [dice.randrange(start, start + size) for _, _, start, size in members if size]
    heads = [start + dice.randrange(512) for _, start, _, _ in members for _ in range(3)]
    whole = check_backup(backup)[0]
    for place in places + heads:
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << dice.randrange(8))]) + data[place + 1 :])
        if place in places:
            assert refused(path) in ("backup_changed", "backup_cut", "backup_foreign", "backup_newer")
            continue
        try:
            found, code = check_file(path)[0], None  # what no archive looks at: who wrote it, for instance
        except BadInput as error:
            found, code = None, error.code
        assert found == whole or code in ("backup_changed", "backup_cut", "backup_foreign")


def appended(backup: Path, path: Path, *infos: tarfile.TarInfo) -> Path:
    """The backup with these members before its manifest."""
    with tarfile.open(backup) as old, tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as new:
        for info in old:
            if info.name == "manifest.json":
                for one in infos:
                    new.addfile(one, io.BytesIO(bytes(one.size)) if one.isreg() else None)
            new.addfile(info, old.extractfile(info))
    return path


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (tarfile.SYMTYPE, "keys/checkpoint.key"),
        (tarfile.LNKTYPE, "cards/x"),
        (tarfile.CHRTYPE, "cards/x"),
        (tarfile.FIFOTYPE, "cards/x"),
        (tarfile.DIRTYPE, "cards"),
        (tarfile.CONTTYPE, "cards/x"),
        (tarfile.REGTYPE, "cards/../../x"),
        (tarfile.REGTYPE, "/etc/x"),
        (tarfile.REGTYPE, "cards/x"),
    ],
)
def test_members_that_a_backup_has_none_of_are_refused(backup: Path, tmp_path: Path, kind: bytes, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    assert refused(appended(backup, tmp_path / "more.tar", info)) == "backup_changed"


def forged(backup: Path, path: Path, change: Callable[[str, bytes, dict[str, object]], bytes]) -> Path:
    """A backup that was made wrong on purpose, with a manifest that fits it."""
    import hashlib

    with tarfile.open(backup) as old, tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as new:
        infos = [(info, old.extractfile(info).read()) for info in old]  # type: ignore[union-attr]
        manifest = json.loads(infos[-1][1])
        listed = {one["name"]: one for one in manifest["members"]}
        for info, data in infos:
            if info.name == "manifest.json":
                said = json.dumps(manifest).encode()
            else:
                said = change(info.name, data, listed[info.name])
                listed[info.name] |= {"bytes": len(said), "sha256": hashlib.sha256(said).hexdigest()}
            info.size = len(said)
            new.addfile(info, io.BytesIO(said))
    return path


def test_a_part_that_unpacks_to_gigabytes_takes_no_memory(
    backup: Path, empty_database_url: str, tmp_path: Path
) -> None:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        for _ in range(1900):
            out.write(bytes(1 << 20))
    bomb = sink.getvalue().to_pybytes()

    def change(name: str, data: bytes, listed: dict[str, object]) -> bytes:
        if not name.startswith("tables/public.ledger_entries/"):
            return data
        listed["unpacked"] = 1900 << 20
        return bomb

    path = forged(backup, tmp_path / "bomb.tar", change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TallyError) as caught:
        restore(path, Settings(database_url=empty_database_url, data_dir=tmp_path / "new"))
    assert caught.value.code in ("backup_changed", "restore_differs")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KB


def test_holes_and_long_records_of_an_archive_are_refused_without_being_read(backup: Path, tmp_path: Path) -> None:
    """A sparse member of a terabyte, and a record about a member that would fill the memory."""
    path = tmp_path / "hostile.tar"
    sparse = tarfile.TarInfo("cards/x")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    sparse.size = 512
    data = b"1\n1099511627776\n0\n".ljust(512, b"\0")
    with tarfile.open(backup) as old, tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as new:
        for info in old:
            new.addfile(info, old.extractfile(info))
            break
        new.addfile(sparse, io.BytesIO(data))
    assert refused(path) == "backup_changed"

    record = tarfile.TarInfo("PaxHeaders/x")
    record.type, record.size = tarfile.XHDTYPE, 3 << 30
    with path.open("r+b") as file:
        file.truncate(2048)
        file.seek(2048)
        file.write(record.tobuf(tarfile.PAX_FORMAT))
        file.truncate(4 << 30)  # a hole
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(path) == "backup_cut"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_a_file_that_is_replaced_after_it_was_checked_is_not_restored(
    backup: Path, empty_database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "b.tar"
    shutil.copy(backup, path)
    data = path.read_bytes()
    with tarfile.open(backup) as tar:
        card = next(info for info in tar if info.name.startswith("cards/"))

    def hook(step: str) -> None:
        if step == "restore.claimed":
            path.write_bytes(data[: card.offset_data] + b"!" + data[card.offset_data + 1 :])

    install(hook)
    try:
        with pytest.raises(BadInput) as caught:
            restore(path, Settings(database_url=empty_database_url, data_dir=tmp_path / "new"))
    finally:
        install(None)
    assert caught.value.code == "backup_changed"
    with pytest.raises(Unavailable) as after, open_runtime(Settings(data_dir=tmp_path / "new")):
        pass
    assert after.value.code == "restore_unfinished"


def test_a_database_with_other_habits_is_filled_likewise(backup: Path, empty_database_url: str, tmp_path: Path) -> None:
    name = conninfo_to_dict(empty_database_url)["dbname"]
    habits = {
        "bytea_output": "escape", "datestyle": "SQL, DMY", "timezone": "Asia/Tokyo", "intervalstyle": "iso_8601",
        "extra_float_digits": "-5", "client_encoding": "latin1", "default_transaction_read_only": "off",
        "statement_timeout": "900ms", "session_replication_role": "replica", "row_security": "off",
        "default_transaction_isolation": "serializable", "xmloption": "document", "array_nulls": "off",
    }  # fmt: skip
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        for key, value in habits.items():
            connection.execute(f"alter database {name} set {key} = '{value}'".encode())
    settings = Settings(database_url=empty_database_url, data_dir=tmp_path / "new")
    restore(backup, settings, clock=lambda: NOW)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"alter database {name} reset all".encode())
    with open_runtime(settings, lambda: NOW) as runtime:
        assert verify_ledger(runtime).sound


_CATALOGS = {
    "triggers": "select tgrelid::regclass::text, tgname, tgenabled::text, pg_get_triggerdef(oid) from pg_trigger"
    " where not tgisinternal",
    "policies": "select tablename, policyname, roles::text, cmd, qual, with_check from pg_policies",
    "walls": "select oid::regclass::text, relrowsecurity, relforcerowsecurity, relacl::text, relpersistence::text"
    " from pg_class where relnamespace in ('public'::regnamespace, 'tallystick_jobs'::regnamespace)",
    "indexes": "select schemaname, indexname, indexdef from pg_indexes where schemaname ~ '^(public|tally)'",
    "constraints": "select conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated"
    " from pg_constraint",
    "functions": "select oid::regprocedure::text, md5(prosrc), proowner::regrole::text, proacl::text, prosecdef from"
    " pg_proc where pronamespace = 'public'::regnamespace",
    "columns": "select table_schema, table_name, column_name, data_type, collation_name, is_nullable, column_default,"
    " is_identity, identity_generation from information_schema.columns"
    " where table_schema in ('public', 'tallystick_jobs')",
    "comments": "select classoid::regclass::text, objsubid, description from pg_description where classoid ="
    " 'pg_class'::regclass and objoid > 16384",
    "schemas": "select nspname, nspacl::text from pg_namespace where nspname !~ '^pg_'",
}


def catalogs(url: str) -> dict[str, list[tuple[object, ...]]]:
    with psycopg.connect(url) as connection:
        return {name: sorted(map(repr, connection.execute(asked.encode()))) for name, asked in _CATALOGS.items()}  # type: ignore[misc]


def test_the_restored_schema_is_that_of_any_other_start(
    backup: Path, ledger: OpenLedger, empty_database_url: str, tmp_path: Path
) -> None:
    restore(backup, Settings(database_url=empty_database_url, data_dir=tmp_path / "new"))
    wanted, found = catalogs(ledger.database.url), catalogs(empty_database_url)
    for name in _CATALOGS:
        assert found[name] == wanted[name], name


def test_every_table_is_in_a_backup_but_the_queue_of_jobs(ledger: OpenLedger, backup: Path) -> None:
    """A table that the next release adds is in it, too, or stands here with the reason."""
    with psycopg.connect(ledger.database.url) as connection:
        found = {
            f"{schema}.{name}"
            for schema, name in connection.execute(
                "select schemaname, tablename from pg_tables where schemaname !~ '^(pg_|information_schema)'"
            )
        }
    left = {name for name in found if name.startswith("tallystick_jobs.procrastinate_")}  # workers fill it again
    left.add("public.alembic_version")  # the manifest's schema_revision
    assert {table.name for table in check_backup(backup)[0].tables} == found - left


def test_a_folder_that_knows_no_hard_links_takes_backups(
    ledger: OpenLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network and removable drives, where backups are often put."""

    def no_links(source: object, target: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    done = back_up(ledger.settings, tmp_path / "b.tar")
    assert check_backup(done.path)[1] == done.sha256
    with pytest.raises(Conflict) as caught:
        back_up(ledger.settings, tmp_path / "b.tar")
    assert caught.value.code == "backup_exists"


def test_who_comes_late_to_a_backup_that_was_just_finished_leaves_it_alone(
    ledger: OpenLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once for one name: the second opened the unfinished file just before it was named."""
    target = tmp_path / "b.tar"
    real = backup_target.fcntl.flock
    done = []

    def flock(descriptor: int, operation: int) -> None:
        if not done:
            done.append(None)
            os.link(tmp_path / "b.tar.partial", target)
            (tmp_path / "b.tar.partial").unlink()
            target.write_bytes(b"whole")
        real(descriptor, operation)

    monkeypatch.setattr(backup_target.fcntl, "flock", flock)
    with pytest.raises(Conflict) as caught:
        back_up(ledger.settings, target)
    assert caught.value.code in ("backup_exists", "backup_running")
    assert target.read_bytes() == b"whole"


def test_a_queue_that_cannot_be_read_is_named_and_the_rest_backed_up(ledger: OpenLedger, tmp_path: Path) -> None:
    (ledger.settings.data_dir / "spool").mkdir(exist_ok=True)
    (ledger.settings.data_dir / "spool" / "spool.sqlite").write_bytes(b"no queue" * 1000)
    done = back_up(ledger.settings, tmp_path / "b.tar")
    assert ["spool.sqlite cannot be used" in said for said in done.manifest.unsound] == [True]
    assert not any(member.name.startswith("spool") for member in done.manifest.members)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "data"]
