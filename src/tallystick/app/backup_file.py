"""The file that a backup is: a tar archive that any tar opens, whose last member says what the others must be.

    tallystick-backup.json     first: what this is, and which format
    spool/ settlements/ …      files of the data directory, as they are
    tables/SCHEMA.NAME/000001.zst …   rows in COPY's text format, in order, each part compressed by itself
    blocks/…                   the blocks folder, as it is
    manifest.json              last: name, size and SHA-256 of every member before it, and what they come to

Memory: a part at a time. `app.backup_read` reads it.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import msgspec

from tallystick import __version__
from tallystick.core.instants import format_instant
from tallystick.core.struct_types import work_out

FORMAT = 1
HEADER, MANIFEST = "tallystick-backup.json", "manifest.json"
KIND = "tallystick backup"
PART_BYTES = 8 << 20
"""Rows are gathered up to so many bytes before they are compressed; a part ends with a whole row."""
READ_BYTES = 1 << 20
_ZSTD_LEVEL = 3
Advance = Callable[[int], object]


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member of the archive: its name, size in bytes, SHA-256 in hex, and of a part of a table its size unpacked."""

    name: str
    bytes: int
    sha256: str
    unpacked: int = 0


class TableInBackup(msgspec.Struct, frozen=True):
    """A table: its name with its schema, its columns in the order of the rows' values, and what its rows come to."""

    name: str
    columns: list[str]
    rows: int
    digest: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup is of, and everything in it.

    Attributes:
        kind, format: what this is.
        tallystick: the release that made it.
        taken_at: the moment that it shows.
        schema_revision, schema_sha256: of the database.
        postgresql: the server's version number, 180001 for 18.1.
        log_origin: the ledger's name in its checkpoints: a place that is restored needs the same.
        has_key: whether the key that signs checkpoints is in it.
        orgs, entries, blocks, checkpoint_size, register_rows, register_chain, erasures: what the ledger holds.
        unsound: what was not as it should be already when the backup was taken, in sentences.
        tables: every table.
        members: every member but the manifest, in order.
    """

    kind: str
    format: int
    tallystick: str
    taken_at: datetime
    schema_revision: str
    schema_sha256: str
    postgresql: int
    log_origin: str
    has_key: bool
    orgs: int
    entries: int
    blocks: int
    checkpoint_size: int
    register_rows: int
    register_chain: str | None
    erasures: int
    unsound: list[str]
    tables: list[TableInBackup]
    members: list[Member]


work_out(Manifest)


class _Hashing(io.RawIOBase):
    """A file that is written from start to end, and hashed on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.written = 0
        self.is_abandoned = False

    def write(self, data: Any, /) -> int:
        if self.is_abandoned:
            return len(data)
        self._file.write(data)
        self.digest.update(data)
        self.written += len(data)
        return len(data)


class BackupWriter:
    """Writes the members of a backup into an open file, one after the other; `finish` writes the manifest."""

    def __init__(self, file: IO[bytes], taken_at: datetime, advance: Advance) -> None:
        self._out = _Hashing(file)
        self._advance = advance
        self._tar = tarfile.open(fileobj=self._out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=READ_BYTES)  # noqa: SIM115
        self._mtime = int(taken_at.timestamp())
        self.members: list[Member] = []
        header = {"kind": KIND, "format": FORMAT, "tallystick": __version__, "taken_at": format_instant(taken_at)}
        self.add_bytes(HEADER, msgspec.json.encode(header))

    def add_bytes(self, name: str, data: bytes, *, unpacked: int = 0) -> None:
        """Add a member."""
        self._tar.addfile(self._info(name, len(data)), io.BytesIO(data))
        self.members.append(Member(name, len(data), hashlib.sha256(data).hexdigest(), unpacked))
        self._advance(len(data))

    def add_file(self, name: str, path: Path) -> str:
        """Add a file of the disk, as long as it is now; its SHA-256 in hex.

        Raises:
            OSError: it cannot be read, or has become shorter meanwhile.
        """
        with path.open("rb") as file:
            reader = HashingReader(file, self._advance)
            size = os.fstat(file.fileno()).st_size
            self._tar.addfile(self._info(name, size), reader)
        self.members.append(Member(name, size, reader.digest.hexdigest()))
        return self.members[-1].sha256

    def add_rows(self, folder: str, rows: Iterator[bytes]) -> int:
        """Add a table's rows as compressed parts below `folder`; how many bytes of text those were."""
        import pyarrow as pa

        codec = pa.Codec("zstd", compression_level=_ZSTD_LEVEL)
        part, total, gathered = 0, 0, bytearray()
        for row in rows:
            gathered += row
            if len(gathered) >= PART_BYTES:
                part += 1
                total += self._add_part(codec, f"{folder}/{part:06d}.zst", gathered)
        if gathered:
            total += self._add_part(codec, f"{folder}/{part + 1:06d}.zst", gathered)
        return total

    def _add_part(self, codec: object, name: str, gathered: bytearray) -> int:
        size = len(gathered)
        self.add_bytes(name, codec.compress(bytes(gathered)).to_pybytes(), unpacked=size)  # type: ignore[attr-defined]
        gathered.clear()
        return size

    def finish(self, manifest: Manifest) -> tuple[int, str]:
        """Write the manifest and end the archive; how many bytes it has, and their SHA-256 in hex."""
        data = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        self._tar.addfile(self._info(MANIFEST, len(data)), io.BytesIO(data))
        self._tar.close()
        return self._out.written, self._out.digest.hexdigest()

    def abandon(self) -> None:
        """Write nothing more: tarfile would, when it is collected."""
        self._out.is_abandoned = True
        self._tar.close()

    def _info(self, name: str, size: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o600, self._mtime
        return info


class HashingReader:
    """A file that is read to its end, and hashed on the way."""

    def __init__(self, file: IO[bytes], advance: Advance) -> None:
        self._file = file
        self._advance = advance
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        self._advance(len(data))
        return data
