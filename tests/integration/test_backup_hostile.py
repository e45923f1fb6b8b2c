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
from tallystick.app import backup as backup_module
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
            assert check_file(path)[0] == whole  # what no archive looks at: who wrote it, for instance
        except BadInput as error:
            assert error.code in ("backup_changed", "backup_cut", "backup_foreign"), error


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
