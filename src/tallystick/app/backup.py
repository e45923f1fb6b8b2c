"""`tally backup`: everything that a Tallystick needs to go on, in one file, of one moment, while it goes on.

    queues on disk     what waits there for the database, first: what is written meanwhile is in both, known by its id
    under the lock of the blocks folder, so that no person is erased between the two
        snapshot       one moment of the database, from here to the end
        people files   the only files of blocks that may change
    tables             every row of the snapshot, and what they come to
    blocks, notes      those that the snapshot names; they never change
    manifest           what every file must be

The file has its name only when all of it is on the disk.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple

from tallystick import __version__
from tallystick.app.backup_file import BackupWriter, Manifest, TableInBackup
from tallystick.app.backup_target import new_file
from tallystick.app.last_backup import note_backup
from tallystick.app.restore_mark import refuse_unfinished
from tallystick.app.runtime import checked_url, utc_now
from tallystick.app.seal import alone, block_store
from tallystick.app.settings import Settings
from tallystick.app.signing import signing_key_path
from tallystick.app.webhook_secrets import webhook_key_path
from tallystick.archive.paths import note_path, people_path
from tallystick.core.errors import NotFound, Unavailable
from tallystick.core.instants import Clock, format_instant
from tallystick.journal.audit import record_act
from tallystick.journal.backup_load import refuse_claimed
from tallystick.journal.backup_tables import (
    Table,
    all_notes,
    begin_snapshot,
    ledger_figures,
    list_tables,
    read_rows,
    sum_rows,
    tables_bytes,
)
from tallystick.journal.database import Connection, Database
from tallystick.journal.migrations import revisions, schema_sha256
from tallystick.journal.probe import probe
from tallystick.journal.queue_file import copy_queue
from tallystick.journal.sealing import Block, list_blocks, lock_folder
from tallystick.journal.server import EmbeddedServer
from tallystick.journal.steps import reached
from tallystick.ledger.acts import Act

BACKUP_STEPS = ("backup.begun", "backup.snapshot", "backup.tables", "backup.blocks", "backup.written", "backup.done")
"""The named steps of a backup, in their order."""
QUEUES = {"spool": "spool/spool.sqlite", "settlements": "settlements/queue.sqlite"}
"""Queues on this machine's disk: their folders in the data directory, and their files."""

_CHECKPOINT_SECONDS_MAX = 10.0

Progress = Callable[[int, int], object]
"""Called with the number of bytes read so far, and about how many there are."""


class BackupReport(NamedTuple):
    """What was written.

    Attributes:
        path: the file.
        bytes: its size.
        sha256: of the file, in hex; kept elsewhere, it shows that the file is the one that was written.
        seconds: how long it took.
        manifest: what it is of.
    """

    path: Path
    bytes: int
    sha256: str
    seconds: float
    manifest: Manifest


def back_up(
    settings: Settings,
    path: Path,
    *,
    with_keys: bool = True,
    clock: Clock = utc_now,
    progress: Progress = lambda done, total: None,
) -> BackupReport:
    """Write a backup; others may write to the ledger meanwhile.

    Args:
        settings: of the place to back up.
        path: the file to write, which must not be there.
        with_keys: also the private key that signs checkpoints, and the one that webhooks' secrets are kept under.
        clock: the present instant.
        progress: see `Progress`.

    Raises:
        Conflict: `backup_exists`; `backup_running`: another backup is writing this file.
        NotFound: `nothing_to_back_up`: nothing was ever stored here.
        BadInput: `cannot_write`.
        Unavailable: `database_unreachable`, `storage_full`, `restore_unfinished`.
    """
    begun = time.monotonic()
    with new_file(path) as file, _database(settings) as (database, revision, version):
        reached("backup.begun")
        taken_at = clock()
        _record(database, revision, path, taken_at, with_keys=with_keys)
        run = _Run(settings, database, path, file, taken_at, progress)
        try:
            report = run.write(revision, version, with_keys=with_keys)
        except BaseException:
            run.abandon()
            raise
        file.flush()
        os.fsync(file.fileno())
        reached("backup.written")
    done = BackupReport(path, report[0], report[1], time.monotonic() - begun, report[2])
    note_backup(
        settings,
        {
            "at": format_instant(done.manifest.taken_at),
            "file": str(done.path.absolute()),
            "bytes": done.bytes,
            "sha256": done.sha256,
            "seconds": round(done.seconds, 3),
            "entries": done.manifest.entries,
            "unsound": len(done.manifest.unsound),
        },
    )
    reached("backup.done")
    return done


def _record(database: Database, revision: str, path: Path, at: datetime, *, with_keys: bool) -> None:
    """Write down who is about to copy everything: the act is in the backup, too."""
    if revision != revisions()[-1]:  # an older schema need not have the trail yet
        return
    after = {"file": str(path.absolute()), "with_keys": with_keys}
    with suppress(Unavailable), database.operator() as connection:  # a standby takes no writes, and can be backed up
        record_act(connection, Act("backup.make", path.name, at, after=after))


class _Run:
    """One backup: its parts share what they write to."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        path: Path,
        file: IO[bytes],
        taken_at: datetime,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._path = path
        self._database = database
        self._taken_at = taken_at
        self._done = self._total = 0
        self._progress = progress
        self._writer = BackupWriter(file, taken_at, lambda _: None)
        self._root = block_store(settings).root
        self._unsound: list[str] = []

    def write(self, revision: str, version: int, *, with_keys: bool) -> tuple[int, str, Manifest]:
        self._add_queues()
        has_key = self._add_files(with_keys=with_keys)
        with ExitStack() as stack:
            with _folder_at_rest(self._database):
                connection = stack.enter_context(self._database.operator())
                begin_snapshot(connection)
                tables, blocks, figures = list_tables(connection), list_blocks(connection), ledger_figures(connection)
                self._total = tables_bytes(connection, tables) + sum(one.file_bytes for one in blocks)
                reached("backup.snapshot")
                for block in blocks:
                    self._add_people(block)
            summed = [self._add_table(connection, table) for table in tables]
            reached("backup.tables")
            for block in blocks:
                self._add_block(block)
            self._add_notes(connection)
            reached("backup.blocks")
        manifest = Manifest(
            kind="tallystick backup",
            format=1,
            tallystick=__version__,
            taken_at=self._taken_at,
            schema_revision=revision,
            schema_sha256=schema_sha256(),
            postgresql=version,
            log_origin=self._settings.log_origin,
            has_key=has_key,
            orgs=figures.orgs,
            entries=figures.entries,
            blocks=figures.blocks,
            checkpoint_size=figures.checkpoint_size,
            register_rows=figures.register_rows,
            register_chain=figures.register_chain,
            erasures=figures.erasures,
            unsound=self._unsound,
            tables=summed,
            members=self._writer.members,
        )
        size, sha256 = self._writer.finish(manifest)
        return size, sha256, manifest

    def abandon(self) -> None:
        """Nothing more is written."""
        self._writer.abandon()

    def _counted(self, row: bytes) -> bytes:
        self._advance(len(row))
        return row

    def _advance(self, count: int) -> None:
        self._done += count
        self._progress(self._done, max(self._total, self._done))

    def _add_queues(self) -> None:
        for name in QUEUES.values():
            found = self._settings.data_dir / name
            if found.exists():
                self._add_queue(name, found)

    def _add_queue(self, name: str, found: Path) -> None:
        """Add a queue, by way of a copy beside the backup: others write to it meanwhile."""
        with tempfile.NamedTemporaryFile(dir=self._path.parent, prefix=f".{self._path.name}.") as copy:
            try:
                copy_queue(found, Path(copy.name))
            except Unavailable as error:
                if error.code == "storage_full":
                    raise
                self._unsound.append(f"{error.detail}; it is not in the backup")
                return
            self._writer.add_file(name, Path(copy.name))

    def _add_files(self, *, with_keys: bool) -> bool:
        """The keys, rate cards that were added, the gateway's file; whether the key of checkpoints is among them."""
        key, gateway = signing_key_path(self._settings), self._settings.gateway_file
        has_key = with_keys and key.exists()
        if has_key:
            self._writer.add_file("keys/checkpoint.key", key)
        if with_keys and webhook_key_path(self._settings).exists():
            self._writer.add_file("keys/webhooks.key", webhook_key_path(self._settings))
        cards = self._settings.data_dir / "cards"
        for card in sorted(cards.iterdir()) if cards.is_dir() else []:
            if card.is_file() and not card.name.startswith("."):
                self._writer.add_file(f"cards/{card.name}", card)
        if gateway is not None and gateway.exists():
            self._writer.add_file("gateway.yaml", gateway)
        return has_key

    def _add_people(self, block: Block) -> None:
        people = people_path(Path(block.path))
        self._add_file_of_blocks(str(people))

    def _add_block(self, block: Block) -> None:
        sha256 = self._add_file_of_blocks(block.path)
        if sha256 is not None and sha256 != block.file_sha256.hex():
            self._unsound.append(f"block {block.block} was changed: {block.path} has not the hash that was signed")
        self._advance(block.file_bytes)

    def _add_notes(self, connection: Connection) -> None:
        for size, note in all_notes(connection):
            self._writer.add_bytes(f"blocks/{note_path(size)}", note.encode())

    def _add_file_of_blocks(self, path: str) -> str | None:
        try:
            return self._writer.add_file(f"blocks/{path}", self._root / path)
        except FileNotFoundError:
            self._unsound.append(f"a file of the blocks folder is missing: {path}")
            return None

    def _add_table(self, connection: Connection, table: Table) -> TableInBackup:
        with closing(
            read_rows(connection, table)
        ) as rows:  # ended here, the disk may be full: nothing else can be asked
            self._writer.add_rows(f"tables/{table.full_name}", map(self._counted, rows))
        sums = sum_rows(connection, table)
        return TableInBackup(table.full_name, list(table.columns), sums.rows, sums.digest)


@contextmanager
def _folder_at_rest(database: Database) -> Iterator[None]:
    """Hold the lock of the blocks folder at a moment when every block has its checkpoint.

    A sealer records that in a transaction of its own, just after the block's. One that was killed between the two has
    left it to the next run of sealing: it is not waited for longer than any other takes.
    """
    until = time.monotonic() + _CHECKPOINT_SECONDS_MAX
    while True:
        with alone, database.operator() as lock:
            lock_folder(lock)
            found = ledger_figures(lock)
            if found.checkpoint_size >= found.blocks or time.monotonic() > until:
                yield
                return
        time.sleep(0.05)


@contextmanager
def _database(settings: Settings) -> Iterator[tuple[Database, str, int]]:
    """The database as it is, without bringing it up to date first; its schema's revision, and the server's version."""
    refuse_unfinished(settings.data_dir)
    with ExitStack() as stack:
        if settings.database_url is None:
            if not (settings.data_dir / "postgres" / "PG_VERSION").exists():
                raise _nothing(f"{settings.data_dir} holds no database")
            url = stack.enter_context(EmbeddedServer(settings.data_dir))
        else:
            url = checked_url(settings.database_url)
        refuse_claimed(url)
        version, revision = probe(url)
        if revision is None:
            raise _nothing("the database has no schema of ours")
        logins = settings.database_url is None or settings.database_role_logins
        yield stack.enter_context(closing(Database(url, role_logins=logins))), revision, version


def _nothing(what: str) -> NotFound:
    return NotFound(
        "nothing_to_back_up",
        f"there is nothing to back up: {what}",
        next_step="set TALLY_DATA_DIR, or DATABASE_URL, as `tally serve` has them",
        where="TALLY_DATA_DIR",
    )
