"""Where a block and a checkpoint lie in the blocks folder.

    2026-11-02/block-000000000001.parquet           the entries; the folder is the UTC day of sealing
    2026-11-02/block-000000000001.people.parquet    what may be erased of them
    checkpoints/000000000001.note                   the signed checkpoint of the log of that many blocks
    sealing/                                        files that are being written; of no meaning to anyone else

Numbers have twelve digits, so that names sort as numbers do.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

CHECKPOINTS = "checkpoints"
WORK = "sealing"

_BLOCK = re.compile(r"block-([0-9]{12})(\.people)?\.parquet")
_NOTE = re.compile(r"([0-9]{12})\.note")


def block_path(block: int, sealed_at: datetime) -> str:
    """The block's own file, relative to the blocks folder: what the table `blocks` keeps."""
    return f"{sealed_at.astimezone(UTC):%Y-%m-%d}/block-{block:012d}.parquet"


def people_path(main: Path) -> Path:
    """The people file beside a block's own file."""
    return main.with_name(main.name.removesuffix(".parquet") + ".people.parquet")


def note_path(size: int) -> str:
    """The checkpoint's file, relative to the blocks folder."""
    return f"{CHECKPOINTS}/{size:012d}.note"


def block_number(path: Path) -> int | None:
    """Which block a file belongs to, by its name; None when it is no block's."""
    match = _BLOCK.fullmatch(path.name)
    return int(match[1]) if match else None


def note_size(path: Path) -> int | None:
    """Which checkpoint a file is, by its name; None when it is none."""
    match = _NOTE.fullmatch(path.name)
    return int(match[1]) if match else None
