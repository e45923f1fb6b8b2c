"""Erasures outlive a restore: a list of what was erased, which names nobody, and erasing it again.

A backup from before an erasure still names the person. The ledger records which entries, keys and billing profiles
were erased and never whose, so that list may be kept anywhere, for as long as the backups are. Whoever a listed entry
names, or a listed key stands for, in a restored place is erased there as by `tally erase-person`: all that a backup
from before an erasure holds of the user was erased by it. Billing profiles are erased by themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from tallystick.app.audit import Act, record_act
from tallystick.app.erase import erase_person
from tallystick.app.runtime import Runtime
from tallystick.app.seal import block_store
from tallystick.archive.paths import people_path
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.core.struct_types import work_out
from tallystick.journal.backup_tables import (
    list_erased_keys,
    list_erased_profiles,
    list_erasures,
    persons_of,
    persons_of_keys,
)
from tallystick.journal.billing import erase_profiles
from tallystick.journal.sealing import blocks_of_org

FORMAT = "tallystick erasures 1"
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_SEQS_AT_ONCE = 10_000


class _Head(msgspec.Struct):
    format: str


class _Line(msgspec.Struct):
    org_id: str
    erased_at: datetime
    seq: int | None = None
    key_id: str | None = None
    profile_version: int | None = None


work_out(_Head, _Line)


@dataclass(slots=True)
class ErasedOfOrg:
    """What was erased of one org: entries, keys that stood for a person, versions of its billing profile."""

    seqs: set[int] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    profiles: set[int] = field(default_factory=set)


class ErasedAgain(NamedTuple):
    """What a restore erased again: persons, the entries and rows of people files that named them, billing profiles."""

    persons: int
    rows: int
    profiles: int


def erasures_lines(runtime: Runtime, since: datetime | None = None) -> Iterator[str]:
    """The list as JSON Lines: a line that says what it is, then one for each entry, key and version of a billing
    profile that was erased at `since` or later.

    Raises:
        Unavailable: `database_unreachable`.
    """
    yield _text({"format": FORMAT, "written_at": format_instant(runtime.clock())})
    with runtime.database.operator() as connection:
        for name, found in (
            ("seq", list_erasures(connection, since or _FIRST)),
            ("key_id", list_erased_keys(connection, since or _FIRST)),
            ("profile_version", list_erased_profiles(connection, since or _FIRST)),
        ):
            for org_id, what, erased_at in found:
                yield _text({"org_id": org_id, name: what, "erased_at": format_instant(erased_at)})


def write_erasures(runtime: Runtime, path: Path, since: datetime | None = None) -> int:
    """Write the list into a file, whole or not at all, in the place of an older one; how many lines it has.

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


def read_erasures(path: Path) -> dict[str, ErasedOfOrg]:
    """What a list names, by org.

    Raises:
        BadInput: `invalid_erasures`, naming the line.
    """
    found: dict[str, ErasedOfOrg] = {}
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
                if not _gather(found.setdefault(one.org_id, ErasedOfOrg()), one):
                    raise _invalid(path, number, "it names neither an entry nor a key nor a billing profile")
    except OSError as error:
        raise _invalid(path, None, (error.strerror or str(error)).lower()) from None
    except msgspec.MsgspecError as error:
        raise _invalid(path, 1, str(error)) from None
    return found


def _gather(found: ErasedOfOrg, line: _Line) -> bool:
    """Add what a line names; whether it names anything."""
    if line.seq is not None:
        found.seqs.add(line.seq)
    if line.key_id is not None:
        found.keys.add(line.key_id)
    if line.profile_version is not None:
        found.profiles.add(line.profile_version)
    return not (line.seq is None and line.key_id is None and line.profile_version is None)


def erase_again(runtime: Runtime, erasures: dict[str, ErasedOfOrg]) -> ErasedAgain:
    """Erase whom these still name; running it again erases nothing more.

    Raises:
        Unavailable: as `app.erase.erase_person`.
    """
    persons = rows = profiles = 0
    for org_id, erased in erasures.items():
        for user_id in sorted(_named(runtime, org_id, erased)):
            done = erase_person(runtime, org_id, user_id)
            persons += 1
            rows += done.rows + done.archived_rows
        profiles += _erase_profiles(runtime, org_id, sorted(erased.profiles))
    return ErasedAgain(persons, rows, profiles)


def _erase_profiles(runtime: Runtime, org_id: str, versions: list[int]) -> int:
    """Erase these versions, where they are there; how many of them were."""
    with runtime.database.operator() as connection:
        gone = erase_profiles(connection, org_id, None, runtime.now(org_id), versions) if versions else []
        if gone:
            record_act(
                connection, Act("billing_profile.erase", org_id, runtime.clock(), org_id, after={"versions": gone})
            )
    return len(gone)


def _named(runtime: Runtime, org_id: str, erased: ErasedOfOrg) -> set[str]:
    """Whom the entries name, in the database and in the files beside the blocks, and whom the keys stand for."""
    named: set[str] = set()
    seqs = sorted(erased.seqs)
    with runtime.database.operator() as connection:
        named.update(persons_of_keys(connection, org_id, sorted(erased.keys)))
        if not seqs:
            return named
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
