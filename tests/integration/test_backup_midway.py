"""Backups of a ledger that is in the middle of something, or that somebody was erased from since."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from conftest import NOW
from fault_tools import fill, small_disk
from invoicing import event, record
from tallystick.app import backup_file
from tallystick.app.audit import Wanted, iterate_acts
from tallystick.app.backup import BackupReport, back_up
from tallystick.app.backup_erasures import write_erasures
from tallystick.app.erase import erase_person
from tallystick.app.keys import create_key
from tallystick.app.parties import erase_org_profiles, set_profile
from tallystick.app.restore import restore
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.seal import seal_once
from tallystick.app.settings import Settings
from tallystick.app.verify import verify_ledger
from tallystick.core.errors import Unavailable
from tallystick.journal import server
from tallystick.journal.steps import install


def test_no_backup_is_of_the_moment_between_a_block_and_its_checkpoint(runtime: Runtime, tmp_path: Path) -> None:
    record(runtime, [event("r1")])
    done: list[BackupReport] = []
    at_work = threading.Thread(target=lambda: done.append(back_up(runtime.settings, tmp_path / "b.tar")))

    def hook(step: str) -> None:
        if step == "seal.committed":
            raise KeyboardInterrupt

    install(hook)
    try:
        with pytest.raises(KeyboardInterrupt):
            seal_once(runtime, everything=True)
    finally:
        install(None)
    at_work.start()
    at_work.join(0.3)
    assert at_work.is_alive()
    seal_once(runtime, everything=True)
    at_work.join()
    assert (done[0].manifest.blocks, done[0].manifest.checkpoint_size) == (1, 1)


def test_a_disk_that_is_full_ends_a_backup_in_the_middle_of_a_table(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more rows than fit into what lies between the database and us."""
    many = [event(f"r{n}", attributes={"filler": f"{n:0400d}"}) for n in range(4000)]
    record(runtime, many)
    monkeypatch.setattr(backup_file, "PART_BYTES", 10_000)
    monkeypatch.setattr(backup_file, "READ_BYTES", 10_000)

    def full(self: object, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    def hook(step: str) -> None:
        if step == "backup.snapshot":
            monkeypatch.setattr(backup_file._Hashing, "write", full)

    install(hook)
    try:
        with pytest.raises(Unavailable) as caught:
            back_up(runtime.settings, tmp_path / "out.tar", clock=lambda: NOW)
    finally:
        install(None)
    assert caught.value.code == "storage_full"
    assert not list(tmp_path.glob("out.tar*"))


def test_keys_and_billing_profiles_that_were_erased_after_the_backup_are_erased_again(
    runtime: Runtime, empty_database_url: str, tmp_path: Path
) -> None:
    """Of somebody whom no entry names."""
    record(runtime, [event("r1")])
    create_key(runtime, org_id="globex", scopes=["events"], author="ann", defaults={"user_id": "mary"})
    set_profile(runtime, "globex", {"name": "Mary Poppins", "user_id": "mary", "author": "ann"})
    back_up(runtime.settings, tmp_path / "b.tar", clock=lambda: NOW)
    erase_person(runtime, "globex", "mary")
    assert write_erasures(runtime, tmp_path / "erased.jsonl") == 2
    assert "mary" not in (tmp_path / "erased.jsonl").read_text().lower()

    settings = Settings(database_url=empty_database_url, data_dir=tmp_path / "new")
    report = restore(tmp_path / "b.tar", settings, erasures=tmp_path / "erased.jsonl", clock=lambda: NOW)
    assert report.erased == (1, 0, 0)  # the profile goes with the person
    with open_runtime(settings, lambda: NOW) as restored, restored.database.operator() as connection:
        for table in ("api_key_persons", "billing_profile_texts"):
            assert connection.execute(f"select count(*) from {table}".encode()).fetchone() == (0,), table
        ended = connection.execute("select reason from api_key_endings").fetchall()
    assert ended == [("person_erased",)]


def test_a_billing_profile_that_was_erased_by_itself_is_erased_again(
    runtime: Runtime, empty_database_url: str, tmp_path: Path
) -> None:
    record(runtime, [event("r1")])
    set_profile(runtime, "globex", {"name": "Mary Poppins", "author": "ann"})
    back_up(runtime.settings, tmp_path / "b.tar", clock=lambda: NOW)
    erase_org_profiles(runtime, "globex")
    write_erasures(runtime, tmp_path / "erased.jsonl")
    settings = Settings(database_url=empty_database_url, data_dir=tmp_path / "new")
    report = restore(tmp_path / "b.tar", settings, erasures=tmp_path / "erased.jsonl", clock=lambda: NOW)
    assert report.erased == (0, 0, 1)
    with open_runtime(settings, lambda: NOW) as restored:
        told = [one["subject"] for one in iterate_acts(restored, Wanted(act="billing_profile.erase"))]
        assert told == ["globex"]
        assert verify_ledger(restored).sound


@pytest.mark.parametrize("full_from", ["restore.checked", "restore.claimed", "restore.loaded"])
def test_a_disk_that_fills_up_in_a_restore_is_named_with_what_is_safe_to_do(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_from: str
) -> None:
    monkeypatch.setattr(server, "_FULL_SECONDS_MAX", 1)
    record(runtime, [event(f"r{n}") for n in range(100)])
    seal_once(runtime, everything=True)
    back_up(runtime.settings, tmp_path / "b.tar")
    with small_disk(250) as disk:
        place = Settings(data_dir=disk / "data")
        filled: list[Path] = []

        def hook(step: str) -> None:
            if step == full_from:
                filled.append(fill(disk))

        install(hook)
        try:
            with pytest.raises(Unavailable) as caught:
                restore(tmp_path / "b.tar", place)
        finally:
            install(None)
        assert (caught.value.code, str(disk) in caught.value.detail) == ("storage_full", True)
        assert "remove" in caught.value.next_step
        assert "is as it was" in caught.value.next_step
        filled[0].unlink()
        if full_from == "restore.claimed":  # what it says to do is enough
            shutil.rmtree(place.data_dir)
            assert restore(tmp_path / "b.tar", place).manifest.blocks == 1
