"""What a `multipart/form-data` body holds (RFC 7578): its plain fields, and how large its files are."""

from __future__ import annotations

import re
from typing import Final

import msgspec

FIELD_BYTES_MAX: Final = 64 * 1024
"""A longer part is content, and counted as a file."""
PARTS_MAX: Final = 200
HEAD_BYTES_MAX: Final = 4096
"""A part's headers are shorter; one with longer ones is passed over."""
_DISPOSITION: Final = re.compile(rb"content-disposition:[ \t]*form-data[ \t]*(;[^\r\n]*)", re.IGNORECASE)
_NAME: Final = re.compile(rb';[ \t]*name="([^"]*)"', re.IGNORECASE)
_BOUNDARY: Final = re.compile(r'multipart/form-data\b.*?;\s*boundary=(?:"([^"]+)"|([^\s;,]+))', re.IGNORECASE)


class Form(msgspec.Struct, frozen=True):
    """The parts of a form.

    Attributes:
        fields: the text fields by name; of several with one name the last.
        file_bytes: the size of each part that has a file's name, or is too long for a field.
        repeated: names of fields that are there more than once.
    """

    fields: dict[str, str]
    file_bytes: tuple[int, ...] = ()
    repeated: frozenset[str] = frozenset()


def boundary_of(content_type: str) -> str | None:
    """What stands between the parts, as the header says; None when it is another type."""
    match = _BOUNDARY.match(content_type.strip())
    return None if match is None else match[1] or match[2]


def read_form(body: bytes, boundary: str) -> Form:
    """The parts between the boundaries; what stands before the first and after the last is none."""
    fields: dict[str, str] = {}
    files: list[int] = []
    repeated: set[str] = set()
    line = b"--" + boundary.encode(errors="replace")
    for part in body.split(line, PARTS_MAX + 1)[1 : PARTS_MAX + 1]:
        if part.startswith(b"--"):
            break
        head, gap, value = part.partition(b"\r\n\r\n")
        if not gap:
            head, gap, value = part.partition(b"\n\n")
        found = map(_DISPOSITION.match, head[:HEAD_BYTES_MAX].splitlines())
        disposition = next((match[1] for match in found if match is not None), b"")
        name = _NAME.search(disposition)
        if name is None:
            continue
        if b"filename" in head.lower() or len(value) > FIELD_BYTES_MAX:
            files.append(len(value))
            continue
        key = name[1].decode(errors="replace")
        if key in fields:
            repeated.add(key)
        fields[key] = value.removesuffix(b"\n").removesuffix(b"\r").decode(errors="replace")
    return Form(fields, tuple(files), frozenset(repeated))
