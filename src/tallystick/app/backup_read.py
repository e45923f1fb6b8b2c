"""Reading a backup: first as a whole, compared with its manifest; then a member at a time, each compared once more.

Nothing that a file says of itself is believed: not its sizes, which memory would be taken for, not its names, which
would be written to, and not that it is still the file that was checked.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from tallystick.app.backup_file import (
    FORMAT,
    HEADER,
    KIND,
    MANIFEST,
    READ_BYTES,
    Advance,
    HashingReader,
    Manifest,
    Member,
)
from tallystick.core.errors import BadInput
from tallystick.core.struct_types import work_out

_MANIFEST_BYTES_MAX = 256 << 20
_EXTENSION_BYTES_MAX = 64 << 10
"""An archive's own records about a member, its long name for instance, are read into memory."""
_NAME = re.compile(
    r"(spool/spool\.sqlite|settlements/queue\.sqlite|keys/(checkpoint|webhooks)\.key|gateway\.yaml"
    r"|cards/(?!\.)[^/\x00]+|blocks/\d{4}-\d\d-\d\d/block-\d{12}(\.people)?\.parquet|blocks/checkpoints/\d{12}\.note"
    r"|tables/[a-z0-9_]+\.[a-z0-9_]+/\d{6}\.zst)"
)
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Header(msgspec.Struct):
    kind: str
    format: int


work_out(_Header)


class _BoundedInfo(tarfile.TarInfo):
    """What an archive says of a member, as long as that is not more than anybody has to say."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _BoundedInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _EXTENSIONS and info.size > _EXTENSION_BYTES_MAX:
            raise tarfile.ReadError(f"a record of {info.size} bytes about a member")
        return info


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
        whole = HashingReader(file, advance)
        try:
            with tarfile.open(fileobj=whole, mode="r|", bufsize=READ_BYTES, tarinfo=_BoundedInfo) as tar:  # type: ignore[call-overload]
                for info in tar:
                    if manifest is not None:
                        raise _changed(path, f"{info.name} comes after the manifest")
                    is_plain = info.type in _PLAIN and not info.issparse()
                    if not is_plain or (member := tar.extractfile(info)) is None:
                        raise _changed(path, f"{info.name} is no plain file")
                    if not found:
                        found.append((HEADER, info.size, _check_header(path, info, member)))
                    elif info.name == MANIFEST:
                        manifest = _read_manifest(path, info, member)
                    else:
                        found.append((info.name, info.size, _digest(member)))
        except tarfile.TarError as error:
            raise (_cut(path) if found else _foreign(path)) from error
        except EOFError as error:
            raise _cut(path) from error
        except OSError as error:
            raise _unreadable(path, error) from error
        while whole.read(READ_BYTES):  # to the last byte: the hash is of all of it
            pass
    if not found:
        raise _foreign(path)
    if manifest is None:
        raise _cut(path)
    _compare(path, manifest, found)
    return manifest, whole.digest.hexdigest()


class CheckedBackup:
    """A backup that was found whole, to be used a member at a time. To be closed.

    Raises:
        BadInput: `backup_unreadable`; `backup_changed`, here and while it is read: it is not the file that was checked.
    """

    def __init__(self, path: Path, manifest: Manifest, advance: Advance) -> None:
        self._path = path
        self._advance = advance
        self._file = _opened(path)
        self._places: dict[str, int] = {}
        try:
            with tarfile.open(fileobj=self._file, mode="r:", tarinfo=_BoundedInfo) as tar:
                self._places = {info.name: info.offset_data for info in tar}
        except (tarfile.TarError, EOFError, OSError) as error:
            self._file.close()
            raise _changed(path, f"it cannot be read any more: {error}") from error
        self._parts: dict[str, list[Member]] = {}
        self._others: list[Member] = []
        for member in manifest.members:
            kind, _, rest = member.name.partition("/")
            if kind == "tables":
                self._parts.setdefault(rest.rpartition("/")[0], []).append(member)
            elif member.name != HEADER:
                self._others.append(member)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def rows_of(self, table: str) -> Iterator[bytes]:
        """A table's rows, in pieces of a megabyte at most."""
        import pyarrow as pa

        for member in self._parts.get(table, ()):
            unpacked, section = 0, self._section(member)
            try:
                with pa.CompressedInputStream(pa.PythonFile(section, mode="r"), "zstd") as stream:
                    while piece := stream.read(READ_BYTES):
                        unpacked += len(piece)
                        if unpacked > member.unpacked:
                            break
                        yield piece
            except (pa.ArrowException, OSError) as error:
                raise _changed(self._path, f"{member.name} cannot be unpacked: {error}") from None
            if unpacked != member.unpacked:
                raise _changed(self._path, f"{member.name} unpacks to another size than the manifest says")
            section.finish()

    def files(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """What is no part of a table: each name, and its content in pieces, to be read before the next."""
        for member in self._others:
            yield member.name, self._section(member).pieces()

    def _section(self, member: Member) -> _Section:
        place = self._places.get(member.name)
        if place is None:
            raise _changed(self._path, f"{member.name} is not there any more")
        return _Section(self._path, self._file, place, member, self._advance)


class _Section(io.RawIOBase):
    """A member of a backup, read from start to end; at its end it must be what the manifest says."""

    def __init__(self, path: Path, file: IO[bytes], place: int, member: Member, advance: Advance) -> None:
        self._path, self._file, self._member, self._advance = path, file, member, advance
        self._place, self._left = place, member.bytes
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        self._file.seek(self._place)
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._place += len(data)
        self._left -= len(data)
        self._digest.update(data)
        self._advance(len(data))
        return data

    def pieces(self) -> Iterator[bytes]:
        """All of it."""
        while data := self.read(READ_BYTES):
            yield data
        self.finish()

    def finish(self) -> None:
        """Read what is left, and compare."""
        while self.read(READ_BYTES):
            pass
        if self._left or self._digest.hexdigest() != self._member.sha256:
            raise _changed(self._path, f"{self._member.name} is not what it was a moment ago")


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from None


def _digest(member: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while data := member.read(READ_BYTES):
        digest.update(data)
    return digest.hexdigest()


def _check_header(path: Path, info: tarfile.TarInfo, member: IO[bytes]) -> str:
    if info.name != HEADER or info.size > READ_BYTES:
        raise _foreign(path)
    data = member.read()
    try:
        header = msgspec.json.decode(data, type=_Header)
    except msgspec.MsgspecError:
        raise _foreign(path) from None
    if header.kind != KIND:
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
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _changed(path, f"its manifest cannot be read: {error}") from None


def _compare(path: Path, manifest: Manifest, found: list[tuple[str, int, str]]) -> None:
    wanted = manifest.members
    if not wanted or wanted[0].name != HEADER or manifest.kind != KIND:
        raise _changed(path, "its manifest is not one of a backup")
    for member, (name, size, digest) in zip(wanted, found, strict=False):
        if member.name != name or member.bytes != size or member.sha256 != digest:
            raise _changed(path, f"{name} is not what the manifest says")
        if name != HEADER and not _NAME.fullmatch(name):
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
        next_step="copy it again from where it was written, or use another backup; no place was made of it",
        where=str(path),
    )


def _unreadable(path: Path, error: OSError) -> BadInput:
    return BadInput(
        "backup_unreadable",
        f"{path} cannot be read: {(error.strerror or str(error)).lower()}",
        next_step="name a file that `tally backup` has written",
        where=str(path),
    )
