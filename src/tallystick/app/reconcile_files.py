"""The files of an export, as they lie on a disk: plain, or packed with gzip."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

from tallystick.core.errors import BadInput, NotFound

BYTES_MAX = 256 << 20
"""An export of a month by hour, key and model has some megabytes; it is held in memory."""
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31


def read_files(names: Sequence[str]) -> list[tuple[str, bytes]]:
    """Each file's name and content; `-` is standard input.

    Raises:
        NotFound: `file_not_found`.
        BadInput: `unreadable_file`, `file_too_large`, `malformed_gzip`.
    """
    return [(name, _read(name)) for name in names]


def _read(name: str) -> bytes:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(BYTES_MAX + 1)
        else:
            with Path(name).open("rb") as stream:
                data = stream.read(BYTES_MAX + 1)
    except FileNotFoundError:
        raise NotFound("file_not_found", f"there is no file {name}", next_step="check the path") from None
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise BadInput(
            "unreadable_file", f"{name} cannot be read: {what}", next_step="name a file that can be"
        ) from None
    data = _unpacked(data, name) if data.startswith(_GZIP) else data
    if len(data) > BYTES_MAX:
        raise BadInput(
            "file_too_large",
            f"it has more than {BYTES_MAX >> 20} MiB",
            next_step="export a shorter time, or by day instead of by minute",
            where=name,
        )
    return data


def _unpacked(data: bytes, name: str) -> bytes:
    """What is in a gzip file of one or several members, as far as the limit."""
    parts: list[bytes] = []
    size = 0
    try:
        while data and size <= BYTES_MAX:
            member = zlib.decompressobj(_GZIP_WINDOW)
            part = member.decompress(data, BYTES_MAX + 1 - size)
            parts.append(part)
            size += len(part)
            if not member.eof and size <= BYTES_MAX:
                raise zlib.error("it ends in the middle")
            data = member.unused_data
    except zlib.error as error:
        raise BadInput(
            "malformed_gzip", f"the file is not sound gzip: {error}", next_step="pack it again", where=name
        ) from None
    return b"".join(parts)
