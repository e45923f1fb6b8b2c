"""Erasures outlive a restore: a list of the entries that were erased, which names nobody, and erasing them again.

A backup from before an erasure still names the person. The ledger records which entries were erased and never whose,
so that list may be kept anywhere, for as long as the backups are. Whoever a listed entry names in a restored place is
erased there as by `tally erase-person`: all that a backup from before an erasure holds of the user was erased by it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from tallystick.app.erase import erase_person
from tallystick.app.runtime import Runtime
from tallystick.app.seal import block_store
from tallystick.archive.paths import people_path
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.journal.backup_tables import list_erasures, persons_of
from tallystick.journal.sealing import blocks_of_org

FORMAT = "tallystick erasures 1"
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_SEQS_AT_ONCE = 10_000


class _Head(msgspec.Struct):
    format: str


class _Line(msgspec.Struct):
    org_id: str
    seq: int
    erased_at: datetime


class ErasedAgain(NamedTuple):
    """What a restore erased again: persons, and the entries and rows of people files that named them."""

    persons: int
    rows: int


def erasures_lines(runtime: Runtime, since: datetime | None = None) -> Iterator[str]:
    """The list as JSON Lines: a line that says what it is, then one for each entry that was erased at `since` or later.

    Raises:
        Unavailable: `database_unreachable`.
    """
    yield _text({"format": FORMAT, "written_at": format_instant(runtime.clock())})
    with runtime.database.operator() as connection:
        for org_id, seq, erased_at in list_erasures(connection, since or _FIRST):
            yield _text({"org_id": org_id, "seq": seq, "erased_at": format_instant(erased_at)})


def write_erasures(runtime: Runtime, path: Path, since: datetime | None = None) -> int:
    """Write the list into a file, whole or not at all, in the place of an older one; how many entries it names.

    Raises:
        OSError: the file cannot be written.
        Unavailable: `database_unreachable`.
    """
    count = -1
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for line in erasures_lines(runtime, since):
                file.write(line + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def read_erasures(path: Path) -> dict[str, list[int]]:
    """The entries that a list names, by org and in order.

    Raises:
        BadInput: `invalid_erasures`, naming the line.
    """
    found: dict[str, set[int]] = {}
    try:
        with path.open("rb") as file:
            head = msgspec.json.decode(next(file, b""), type=_Head)
            if head.format != FORMAT:
                raise _invalid(path, 1, f"its format is {head.format!r}")
            for number, line in enumerate(file, 2):
                try:
                    one = msgspec.json.decode(line, type=_Line)
                except msgspec.MsgspecError as error:
                    raise _invalid(path, number, str(error)) from None
                found.setdefault(one.org_id, set()).add(one.seq)
    except OSError as error:
        raise _invalid(path, None, (error.strerror or str(error)).lower()) from None
    except msgspec.MsgspecError as error:
        raise _invalid(path, 1, str(error)) from None
    return {org_id: sorted(seqs) for org_id, seqs in found.items()}


def erase_again(runtime: Runtime, erasures: dict[str, list[int]]) -> ErasedAgain:
    """Erase whom these entries still name; running it again erases nothing more.

    Raises:
        Unavailable: as `app.erase.erase_person`.
    """
    persons = rows = 0
    for org_id, seqs in erasures.items():
        for user_id in sorted(_named(runtime, org_id, seqs)):
            done = erase_person(runtime, org_id, user_id)
            persons += 1
            rows += done.rows + done.archived_rows
    return ErasedAgain(persons, rows)


def _named(runtime: Runtime, org_id: str, seqs: list[int]) -> set[str]:
    """Whom the entries name, in the database and in the files beside the blocks."""
    named: set[str] = set()
    with runtime.database.operator() as connection:
        for part in _parts(seqs):
            named.update(persons_of(connection, org_id, part))
        blocks = blocks_of_org(connection, org_id, seqs[0], seqs[-1])
    store = block_store(runtime.settings)
    for block in blocks:
        wanted = [seq for seq in seqs if block.first_seq <= seq <= block.last_seq]
        if wanted:
            named.update(_named_in_file(people_path(store.main(block.path)), org_id, wanted))
    return named


def _named_in_file(path: Path, org_id: str, seqs: list[int]) -> set[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    from tallystick.archive.org_rows import people_of

    found = people_of(path, org_id, seqs[0], seqs[-1])
    users = found.filter(pc.is_in(found.column("seq"), value_set=pa.array(seqs, pa.int64()))).column("user_id")
    return {user for user in pc.unique(users).to_pylist() if user is not None}


def _parts(seqs: list[int]) -> Iterable[list[int]]:
    return (seqs[start : start + _SEQS_AT_ONCE] for start in range(0, len(seqs), _SEQS_AT_ONCE))


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _invalid(path: Path, number: int | None, why: str) -> BadInput:
    place = f"{path}, line {number}" if number else str(path)
    return BadInput(
        "invalid_erasures",
        f"this is no list of erasures: {why}",
        next_step="give the file that `tally erasures` has written; nothing was restored",
        where=place,
    )
