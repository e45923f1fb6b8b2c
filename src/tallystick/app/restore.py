"""`tally restore`: a backup becomes a place that goes on where it was taken, or nothing at all.

    check       the whole file is read, and is what its manifest says; nothing was touched yet
    claim       the place is empty; from here on it says that it is not whole, and nothing else works with it
    tables      the schema from our own migrations, the rows in one transaction, committed when each table comes to what
                it came to then; then up to this release's schema
    files       blocks, notes, the key, rate cards, queues
    erasures    what was erased of persons after the backup is erased again
    release     the mark is taken away

Killed anywhere, it leaves a place that refuses to be used; the next attempt takes another one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from tallystick.app.backup import QUEUES
from tallystick.app.backup_erasures import ErasedAgain, erase_again, read_erasures
from tallystick.app.backup_file import Manifest
from tallystick.app.backup_read import CheckedBackup, check_backup
from tallystick.app.disk import RESERVE_BYTES
from tallystick.app.restore_mark import flush_folder, mark_unfinished, refuse_unfinished, unmark
from tallystick.app.runtime import checked_url, open_runtime, utc_now
from tallystick.app.settings import Settings
from tallystick.app.signing import signing_key_path
from tallystick.app.webhook_secrets import webhook_key_path
from tallystick.core.errors import BadInput, Conflict, Unavailable
from tallystick.core.instants import Clock, format_instant
from tallystick.journal.backup_load import Given, claim_database, load_tables, release_database
from tallystick.journal.backup_tables import Sums
from tallystick.journal.migrations import revisions
from tallystick.journal.os_user import server_user
from tallystick.journal.server import EmbeddedServer
from tallystick.journal.server_folder import DISK_IS_FULL, free_bytes, prepare_folder
from tallystick.journal.steps import reached

RESTORE_STEPS = (
    "restore.checked",
    "restore.claimed",
    "restore.loaded",
    "restore.files",
    "restore.erased",
    "restore.done",
)
"""The named steps of a restore, in their order."""

Progress = Callable[[str, int, int], object]
"""Called with what is being done, the number of bytes read so far, and how many there are."""


class RestoreReport(NamedTuple):
    """What was restored.

    Attributes:
        manifest: what the backup is of.
        bytes, sha256: of the file.
        seconds: how long it took.
        erased: what was erased again; None when no list was given.
        notes: what the place still needs, and what to know of it, in sentences.
    """

    manifest: Manifest
    bytes: int
    sha256: str
    seconds: float
    erased: ErasedAgain | None
    notes: tuple[str, ...]


def check_file(path: Path, *, sha256: str | None = None, progress: Progress = lambda *_: None) -> tuple[Manifest, str]:
    """Read a backup as a whole; what it is of, and its SHA-256 in hex.

    Args:
        path: the file.
        sha256: what it must be, when that was kept.
        progress: see `Progress`.

    Raises:
        BadInput: `backup_unreadable`, `backup_foreign`, `backup_newer`, `backup_cut`, `backup_changed`.
    """
    total, done = path.stat().st_size if path.exists() else 0, 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("checking the backup", done, total)

    manifest, found = check_backup(path, advance)
    if sha256 is not None and found != sha256.lower():
        raise BadInput(
            "backup_changed",
            f"{path} has the SHA-256 {found}, and not the one that was given",
            next_step="copy it again from where it was written; nothing was restored",
            where=str(path),
        )
    if manifest.schema_revision not in revisions():
        raise BadInput(
            "backup_newer",
            f"{path} is of schema {manifest.schema_revision}, which this release does not know",
            next_step="restore it with the release of Tallystick that made it, or a newer one",
            where=str(path),
        )
    return manifest, found


def restore(
    path: Path,
    settings: Settings,
    *,
    sha256: str | None = None,
    erasures: Path | None = None,
    clock: Clock = utc_now,
    progress: Progress = lambda *_: None,
) -> RestoreReport:
    """Fill an empty place with a backup.

    Args:
        path: the file.
        settings: of the place: its data directory, which is missing or empty, and its database where that is not the
            embedded one, which has no tables.
        sha256: what the file must have, when that was kept.
        erasures: a list that `tally erasures` has written: these entries' persons are erased again.
        clock: the present instant.
        progress: see `Progress`.

    Raises:
        BadInput: as `check_file`; `backup_schema_differs`; `invalid_erasures`.
        Conflict: `restore_not_empty`; `restore_differs`: what was restored is not what was backed up.
        Unavailable: `restore_unfinished`, `storage_full`, `database_unreachable`, as a start.
    """
    begun = time.monotonic()
    erased_since = None if erasures is None else read_erasures(erasures)
    manifest, found = check_file(path, sha256=sha256, progress=progress)
    _expect_empty(settings)
    reached("restore.checked")
    data_dir, logins = settings.data_dir, settings.database_url is None or settings.database_role_logins
    with _naming_full_disk(path, settings), ExitStack() as stack:
        url = "" if settings.database_url is None else checked_url(settings.database_url)
        if url:
            claim_database(url)
        prepare_folder(Path(os.path.abspath(data_dir)), server_user() if settings.database_url is None else None)
        mark_unfinished(data_dir, path, format_instant(clock()))
        if not url:
            url = stack.enter_context(EmbeddedServer(data_dir))
            claim_database(url)
        reached("restore.claimed")
        filler = _Filler(path, manifest, settings, progress)
        skipped = filler.fill(url, logins)
        reached("restore.loaded")
        filler.flush()
        reached("restore.files")
        again = None
        with open_runtime(settings, clock, restoring=True) as runtime:  # every check of a start, too
            if erased_since is not None:
                again = erase_again(runtime, erased_since)
        reached("restore.erased")
        _note(data_dir, path, manifest, found, format_instant(clock()))
        release_database(url)
        unmark(data_dir)
    reached("restore.done")
    notes = _notes(manifest, settings, again, skipped)
    return RestoreReport(manifest, path.stat().st_size, found, time.monotonic() - begun, again, notes)


@contextmanager
def _naming_full_disk(path: Path, settings: Settings) -> Iterator[None]:
    """Say that the disk is full where that is why a restore came to nothing: a server that has none left is just gone.

    Raises:
        Unavailable: `storage_full`, saying what is safe to do.
    """
    place = settings.data_dir
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_IS_FULL:
            raise
        raise _disk_full(path, Path(error.filename) if isinstance(error.filename, str) else place) from error
    except Unavailable as error:
        is_gone = error.code == "database_unreachable" and settings.database_url is None
        if error.code != "storage_full" and not (is_gone and free_bytes(place) < RESERVE_BYTES):
            raise
        raise _disk_full(path, place, None if is_gone else error.detail) from error


def _disk_full(path: Path, place: Path, detail: str | None = None) -> Unavailable:
    return Unavailable(
        "storage_full",
        detail or f"the disk of {place} is full: {free_bytes(place) // 1_000_000:,} MB are free",
        next_step=f"make room, or name a place with more; remove what was begun (delete the data directory, drop the "
        f"database), then restore again: the backup {path} is as it was",
    )


class _Filler:
    """Goes through the archive once: tables into the database as they come, files into the data directory."""

    def __init__(self, path: Path, manifest: Manifest, settings: Settings, progress: Progress) -> None:
        self._path = path
        self._settings = settings
        self._manifest = manifest
        self._total = sum(member.bytes for member in manifest.members)
        self._done = 0
        self._progress = progress
        self._folders: set[Path] = set()

    def fill(self, url: str, role_logins: bool) -> list[str]:
        """Fill the database, then the folders; the tables of the backup that are none of ours."""
        tables = self._manifest.tables
        given = {table.name: Given(table.columns, Sums(table.rows, table.digest)) for table in tables}
        with closing(CheckedBackup(self._path, self._manifest, self._advance)) as backup:
            skipped = load_tables(url, self._manifest.schema_revision, given, backup.rows_of, role_logins=role_logins)
            for name, pieces in backup.files():
                self._write(self._target(name), pieces)
        return skipped

    def _target(self, name: str) -> Path:
        """Where a file goes. Every name was checked: none leads out of these folders."""
        data_dir, (kind, _, rest) = self._settings.data_dir, name.partition("/")
        if kind == "blocks":
            return (self._settings.blocks_dir or data_dir / "blocks") / rest
        if kind == "keys":
            return webhook_key_path(self._settings) if rest == "webhooks.key" else signing_key_path(self._settings)
        return data_dir / name

    def _write(self, target: Path, pieces: Iterator[bytes]) -> None:
        for folder in reversed([one for one in target.parents if not one.exists()]):
            folder.mkdir(mode=0o700)
            self._folders |= {folder, folder.parent}
        self._folders.add(target.parent)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            for data in pieces:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def flush(self) -> None:
        """Have all names on the disk; say that there may be something in the queues."""
        for folder, name in QUEUES.items():
            if (self._settings.data_dir / name).exists():
                (self._settings.data_dir / folder / "waiting").touch(mode=0o600)
        for folder_path in self._folders:
            flush_folder(folder_path)

    def _advance(self, count: int) -> None:
        self._done += count
        self._progress("restoring", min(self._done, self._total), self._total)


def _expect_empty(settings: Settings) -> None:
    refuse_unfinished(settings.data_dir)
    blocks, key = settings.blocks_dir, signing_key_path(settings)
    for folder in (settings.data_dir, blocks):
        if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise _not_empty(folder, "TALLY_DATA_DIR" if folder == settings.data_dir else "TALLY_BLOCKS_DIR")
    if key.exists():
        raise _not_empty(key, "TALLY_SIGNING_KEY_FILE")
    if webhook_key_path(settings).exists():
        raise _not_empty(webhook_key_path(settings), "TALLY_WEBHOOK_KEY_FILE")


def _not_empty(place: Path, where: str) -> Conflict:
    return Conflict(
        "restore_not_empty",
        f"{place} is there already and not empty; a restore fills an empty place and replaces nothing",
        next_step="name a folder that is missing or empty, with --data-dir or the setting",
        where=where,
    )


def _note(data_dir: Path, path: Path, manifest: Manifest, sha256: str, at: str) -> None:
    """Keep in the data directory what it was made of, and when."""
    noted = {"at": at, "file": str(path.absolute()), "sha256": sha256, "taken_at": format_instant(manifest.taken_at)}
    with (data_dir / "restored.json").open("w", encoding="utf-8") as file:
        json.dump(noted, file)
        file.flush()
        os.fsync(file.fileno())


def _notes(manifest: Manifest, settings: Settings, again: ErasedAgain | None, skipped: list[str]) -> tuple[str, ...]:
    taken_at = format_instant(manifest.taken_at)
    notes: list[str] = []
    if manifest.log_origin != settings.log_origin:
        notes.append(f"its checkpoints are signed as {manifest.log_origin}: set TALLY_LOG_ORIGIN={manifest.log_origin}")
    if not manifest.has_key and manifest.checkpoint_size:
        notes.append(
            f"the key that signs checkpoints is not in the backup: put it at {signing_key_path(settings)}, mode 0600"
        )
    if not any(member.name == "keys/webhooks.key" for member in manifest.members) and any(
        table.name == "public.webhook_secrets" and table.rows for table in manifest.tables
    ):
        notes.append(
            f"the key of webhooks' secrets is not in the backup: put it at {webhook_key_path(settings)}, mode 0600"
        )
    if any(member.name == "gateway.yaml" for member in manifest.members):
        notes.append(f"the gateway's file is {settings.data_dir / 'gateway.yaml'}: set TALLY_GATEWAY_FILE to it")
    if again is None:
        notes.append(f"persons who were erased after {taken_at} are named again: erase them again")
    notes.append(f"what was accepted after {taken_at} is not here: let senders send it again, nothing counts twice")
    if skipped:
        notes.append(f"no tables of ours, and not restored: {', '.join(skipped)}")
    notes += [f"when it was backed up: {said}" for said in manifest.unsound]
    return tuple(notes)
