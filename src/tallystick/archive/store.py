"""The folder of sealed blocks: files appear in it whole or not at all, and stay.

A file is written in the work folder, flushed to disk, and only then given its name, by a link that refuses to
replace what is there. A process that dies leaves at most files in the work folder, and the two files of one block
that the database does not know; `tidy` removes both. The folders are for their owner alone, since people files hold
personal data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO

from tallystick.archive.paths import CHECKPOINTS, WORK, block_number, note_path, note_size, people_path
from tallystick.core.errors import Conflict, Unavailable

_OPEN = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_HASHED_BYTES = 1 << 20


class Draft:
    """A block that is being written: `main` and `people` in the work folder, until `publish`."""

    def __init__(self, store: BlockStore, block: int) -> None:
        self._store = store
        name = f"{block:012d}.{os.getpid()}"
        self.main = store.work / f"{name}.parquet"
        self.people = store.work / f"{name}.people.parquet"

    def write(self, write: Callable[[IO[bytes], IO[bytes]], None]) -> None:
        """Have both files written, and flush them to disk."""
        with _new_file(self.main) as main, _new_file(self.people) as people:
            write(main, people)

    def publish(self, path: str, reached: Callable[[str], None]) -> None:
        """Give the files their names; `path` is relative to the blocks folder.

        The people file first: a block's own file is never without it.

        Raises:
            Conflict: `block_exists`: another process has sealed a block of this number.
        """
        target = self._store.root / path
        _make_folder(target.parent)
        _link(self.people, people_path(target))
        reached("seal.people_in_place")
        _link(self.main, target)
        reached("seal.block_in_place")
        _flush_folder(target.parent)
        self.discard()

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove what is in the work folder."""
        for path in (self.main, self.people):
            path.unlink(missing_ok=True)


class BlockStore:
    """The blocks folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / WORK

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            Unavailable: `blocks_folder_unusable`.
        """
        try:
            for folder in (self.root, self.work, self.root / CHECKPOINTS):
                _make_folder(folder)
        except OSError as error:
            raise Unavailable(
                "blocks_folder_unusable",
                f"the folder of blocks cannot be made: {error}",
                next_step="make it writable for this user, or set TALLY_BLOCKS_DIR",
                where=str(self.root),
            ) from None

    def draft(self, block: int) -> Draft:
        """A block to be written."""
        return Draft(self, block)

    def main(self, path: str) -> Path:
        """The block's own file, by its path in the table `blocks`."""
        return self.root / path

    def expect_home(self, last_block: int) -> None:
        """Refuse a folder that has none of the blocks: it is not the one that they are in.

        Args:
            last_block: the last block that the database knows.

        Raises:
            Conflict: `blocks_elsewhere`.
        """
        found = (block_number(path) for path in self.root.glob("*/block-*"))
        if last_block and not any(number is not None and number <= last_block for number in found):
            raise Conflict(
                "blocks_elsewhere",
                f"{self.root} has none of the {last_block:,} blocks that the database knows; nothing is written "
                "beside them",
                next_step="set TALLY_BLOCKS_DIR to the folder that they are in, for every process, or restore them "
                "from a backup",
                where=str(self.root),
            )

    def tidy(self, last_block: int) -> None:
        """Remove what a process left that died while it was sealing; only the one sealer may call it.

        Args:
            last_block: the last block that the database knows.

        Raises:
            Conflict: `blocks_ahead`: there are blocks or checkpoints that no interrupted sealing leaves behind. The
                database is older than its blocks, or they are another's; nothing is removed then.
                `blocks_elsewhere`: see `expect_home`.
        """
        self.expect_home(last_block)
        blocks = {path: number for path in self.root.glob("*/block-*") if (number := block_number(path))}
        notes = [size for path in (self.root / CHECKPOINTS).glob("*.note") if (size := note_size(path))]
        if max(blocks.values(), default=0) > last_block + 1 or max(notes, default=0) > last_block:
            raise Conflict(
                "blocks_ahead",
                f"{self.root} has block {max([*blocks.values(), *notes])}, and the last one that the database knows is "
                f"{last_block}",
                next_step="restore the database to its latest state, or set TALLY_BLOCKS_DIR to this database's own "
                "folder; keep the files: they are the record",
                where=str(self.root),
            )
        for path in (*self.work.iterdir(), *(path for path, number in blocks.items() if number > last_block)):
            path.unlink(missing_ok=True)
        for path, number in blocks.items():
            if number > last_block:
                with suppress(OSError):  # it has other files in it
                    path.parent.rmdir()

    def replace_people(self, main: Path, write: Callable[[IO[bytes]], None]) -> None:
        """Put another people file in the place of the one beside a block, at once and for good."""
        target = people_path(main)
        temporary = self.work / f"{target.name}.{os.getpid()}"
        with _new_file(temporary) as file:
            write(file)
        os.replace(temporary, target)
        _flush_folder(target.parent)

    def write_note(self, size: int, note: str) -> None:
        """Keep a checkpoint's note; one that is there already stays."""
        target = self.root / note_path(size)
        if target.exists():
            return
        temporary = self.work / f"{target.name}.{os.getpid()}"
        with _new_file(temporary) as file:
            file.write(note.encode())
        with suppress(FileExistsError):
            os.link(temporary, target)
        temporary.unlink()
        _flush_folder(target.parent)

    def note_sizes(self) -> set[int]:
        """Which checkpoints have a file."""
        return {size for path in (self.root / CHECKPOINTS).glob("*.note") if (size := note_size(path))}


def file_sha256(path: Path) -> bytes:
    """The hash of a file's bytes."""
    digest = sha256()
    with path.open("rb") as file:
        while data := file.read(_HASHED_BYTES):
            digest.update(data)
    return digest.digest()


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file of the owner's alone, on disk when the block ends; there is none when it fails."""
    path.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(path, _OPEN, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _link(source: Path, name: Path) -> None:
    try:
        os.link(source, name)
    except FileExistsError:
        raise Conflict(
            "block_exists",
            f"there is a file {name} already",
            next_step="seal again: if no other process seals into this folder, what a dead one left is removed",
            where=str(name),
        ) from None


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
