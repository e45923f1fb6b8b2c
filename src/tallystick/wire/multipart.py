"""The plain fields of a `multipart/form-data` body (RFC 7578): a file's name and model, not its content."""

from __future__ import annotations

import re
from typing import Final

FIELD_BYTES_MAX: Final = 4096
"""A longer part is content, and left out."""
PARTS_MAX: Final = 200
_NAME = re.compile(rb'content-disposition:\s*form-data[^\r\n]*?;\s*name="([^"]*)"', re.IGNORECASE)


def form_fields(body: bytes) -> dict[str, str]:
    """The short text fields by name; parts with a file name, and what is no text, are left out."""
    line = body[: body.find(b"\n") + 1].rstrip(b"\r\n")
    fields: dict[str, str] = {}
    if len(line) < 3:
        return fields
    for part in body.split(line, PARTS_MAX + 1)[1 : PARTS_MAX + 1]:
        head, gap, value = part.partition(b"\r\n\r\n")
        if not gap:
            head, gap, value = part.partition(b"\n\n")
        name = _NAME.search(head)
        if name is None or b"filename" in head.lower() or len(value) > FIELD_BYTES_MAX:
            continue
        text = value.removesuffix(b"\n").removesuffix(b"\r")
        fields.setdefault(name[1].decode(errors="replace"), text.decode(errors="replace"))
    return fields
