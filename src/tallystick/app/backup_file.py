"""The file that a backup is: a tar archive that any tar opens, whose last member says what the others must be.

    tallystick-backup.json     first: what this is, and which format
    spool/ settlements/ …      files of the data directory, as they are
    tables/SCHEMA.NAME/000001.zst …   rows in COPY's text format, in order, each part compressed by itself
    blocks/…                   the blocks folder, as it is
    manifest.json              last: name, size and SHA-256 of every member before it, and what they come to

A file without its manifest was cut. Nothing of a file is used before all of it was read and found to be what its
manifest says. Memory: a part at a time.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import msgspec

from tallystick import __version__
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant

FORMAT = 1
HEADER, MANIFEST = "tallystick-backup.json", "manifest.json"
_KIND = "tallystick backup"
PART_BYTES = 8 << 20
"""Rows are gathered up to so many bytes before they are compressed; a part ends with a whole row."""
_ROWS_BYTES_MAX = 2 << 30
"""No part holds more: one row has at most 1 GB."""
_MANIFEST_BYTES_MAX = 1 << 30
_READ_BYTES = 1 << 20
_ZSTD_LEVEL = 3
_NAME = re.compile(
    r"(spool/spool\.sqlite|settlements/queue\.sqlite|keys/(checkpoint|webhooks)\.key|gateway\.yaml"
    r"|cards/(?!\.)[^/\x00]+|blocks/\d{4}-\d\d-\d\d/block-\d{12}(\.people)?\.parquet|blocks/checkpoints/\d{12}\.note"
    r"|tables/[a-z0-9_]+\.[a-z0-9_]+/\d{6}\.zst)"
)

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


class _Header(msgspec.Struct):
    kind: str
    format: int


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
        self._tar = tarfile.open(fileobj=self._out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_READ_BYTES)  # noqa: SIM115
        self._mtime = int(taken_at.timestamp())
        self.members: list[Member] = []
        header = {"kind": _KIND, "format": FORMAT, "tallystick": __version__, "taken_at": format_instant(taken_at)}
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
            reader = _HashingReader(file, self._advance)
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


class _HashingReader:
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


def check_backup(path: Path, advance: Advance = lambda _: None) -> tuple[Manifest, str]:
    """Read a backup from its first byte to its last, and compare every member with the manifest.

    Args:
        path: the file.
        advance: called with the number of bytes read.

    Returns:
        What it is of, and the SHA-256 of the whole file in hex.

    Raises:
        BadInput: `backup_unreadable`, `backup_foreign`, `backup_newer`, `backup_cut`, `backup_changed`.
    """
    found: list[tuple[str, int, str]] = []
    manifest: Manifest | None = None
    with _opened(path) as file:
        whole = _HashingReader(file, advance)
        try:
            with tarfile.open(fileobj=whole, mode="r|", bufsize=_READ_BYTES) as tar:  # type: ignore[call-overload]
                for info in tar:
                    if manifest is not None:
                        raise _changed(path, f"{info.name} comes after the manifest")
                    member = tar.extractfile(info) if info.isreg() else None
                    if member is None:
                        raise _changed(path, f"{info.name} is no plain file")
                    if not found:
                        found.append((HEADER, info.size, _check_header(path, info, member)))
                    elif info.name == MANIFEST:
                        manifest = _read_manifest(path, info, member)
                    else:
                        digest = hashlib.sha256()
                        while data := member.read(_READ_BYTES):
                            digest.update(data)
                        found.append((info.name, info.size, digest.hexdigest()))
        except tarfile.TarError as error:
            raise (_cut(path) if found else _foreign(path)) from error
        except EOFError as error:
            raise _cut(path) from error
        while whole.read(_READ_BYTES):  # to the last byte: the hash is of all of it
            pass
    if not found:
        raise _foreign(path)
    if manifest is None:
        raise _cut(path)
    _compare(path, manifest, found)
    return manifest, whole.digest.hexdigest()


def read_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The members of a backup that was checked, in order: each name, and its content, to be read before the next."""
    with _opened(path) as file, tarfile.open(fileobj=file, mode="r|", bufsize=_READ_BYTES) as tar:
        for info in tar:
            member = tar.extractfile(info)
            if member is not None and info.name not in (HEADER, MANIFEST):
                yield info.name, member


def unpack_part(data: bytes, unpacked: int) -> bytes:
    """The rows of a part, as it stands in the archive, of so many bytes.

    Raises:
        BadInput: `backup_changed`.
    """
    import pyarrow as pa

    try:
        return bytes(pa.Codec("zstd").decompress(data, decompressed_size=unpacked))
    except (pa.ArrowException, OSError) as error:
        raise _changed(Path("the backup"), f"a part of a table cannot be unpacked: {error}") from None


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise BadInput(
            "backup_unreadable",
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}",
            next_step="name a file that `tally backup` has written",
            where=str(path),
        ) from None


def _check_header(path: Path, info: tarfile.TarInfo, member: IO[bytes]) -> str:
    if info.name != HEADER or info.size > _READ_BYTES:
        raise _foreign(path)
    data = member.read()
    try:
        header = msgspec.json.decode(data, type=_Header)
    except msgspec.MsgspecError:
        raise _foreign(path) from None
    if header.kind != _KIND:
        raise _foreign(path)
    if header.format > FORMAT:
        raise BadInput(
            "backup_newer",
            f"{path} has format {header.format}, and this release reads {FORMAT}",
            next_step="restore it with the release of Tallystick that made it, or a newer one",
            where=str(path),
        )
    return hashlib.sha256(data).hexdigest()


def _read_manifest(path: Path, info: tarfile.TarInfo, member: IO[bytes]) -> Manifest:
    if info.size > _MANIFEST_BYTES_MAX:
        raise _changed(path, "its manifest is larger than any")
    data = member.read()
    if len(data) < info.size:
        raise _cut(path)
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise _changed(path, f"its manifest cannot be read: {error}") from None


def _compare(path: Path, manifest: Manifest, found: list[tuple[str, int, str]]) -> None:
    wanted = manifest.members
    if not wanted or wanted[0].name != HEADER or manifest.kind != _KIND:
        raise _changed(path, "its manifest is not one of a backup")
    for member, (name, size, digest) in zip(wanted, found, strict=False):
        if member.name != name or member.bytes != size or member.sha256 != digest:
            raise _changed(path, f"{name} is not what the manifest says")
        if (name != HEADER and not _NAME.fullmatch(name)) or not 0 <= member.unpacked <= _ROWS_BYTES_MAX:
            raise _changed(path, f"{name} has no place in a backup")
    if len(wanted) != len(found) or len({name for name, _, _ in found}) != len(found):
        raise _changed(path, f"it has {len(found)} members, and its manifest names {len(wanted)}")


def _foreign(path: Path) -> BadInput:
    return BadInput(
        "backup_foreign",
        f"{path} is not a backup of Tallystick",
        next_step="name a file that `tally backup` has written",
        where=str(path),
    )


def _cut(path: Path) -> BadInput:
    return BadInput(
        "backup_cut",
        f"{path} ends before its manifest: it was not copied or not written to its end",
        next_step="copy it again from where it was written, or use another backup",
        where=str(path),
    )


def _changed(path: Path, what: str) -> BadInput:
    return BadInput(
        "backup_changed",
        f"{path} is not as it was written: {what}",
        next_step="copy it again from where it was written, or use another backup; nothing was restored",
        where=str(path),
    )
