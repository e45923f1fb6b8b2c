"""One piece of a check of the ledger that can be done apart from all others: a sealed block, or entries not sealed yet.

A sealed block is checked in its file, row by row; the rows of it that are still in the database must equal the file's,
column by column. So everything that is said of the file's rows holds for the database's too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tallystick.app.verify_entries import Run, RunChecker
from tallystick.app.verify_report import Findings
from tallystick.archive.columns import ENTRY_SCHEMA, PERSONAL_COLUMNS, conform
from tallystick.archive.fingerprints import leaves_and_fingerprints
from tallystick.archive.format import block_info, iterate_block, write_people
from tallystick.archive.paths import block_path, people_path
from tallystick.archive.store import file_sha256
from tallystick.core.errors import BadInput
from tallystick.journal.database import Database
from tallystick.journal.sealing import Block, OrgRange, SealedRange, lock_folder, read_entries
from tallystick.journal.verify_rows import read_kept_from
from tallystick.ledger.merkle import root
from tallystick.ledger.statements import BlockStatement, OrgStatement, orgs_root


class Place(NamedTuple):
    """Where the ledger is: what a process of its own needs to check a piece of it."""

    url: str
    role_logins: bool
    blocks: Path


class Piece(NamedTuple):
    """What to check: a block with what is recorded of it, or, without one, ranges of unsealed entries.

    `only_org`: nothing but this org's entries is asked about; the rest of a block is read for its hashes alone.
    `marks`: of some orgs an entry whose `time_max` is wanted.
    """

    block: Block | None
    ranges: tuple[SealedRange, ...]
    unsealed: tuple[OrgRange, ...]
    only_org: str | None
    marks: Mapping[str, int]

    @property
    def entries(self) -> int:
        """How many entries it has."""
        return self.block.entries if self.block else sum(one.entries for one in self.unsealed)


@dataclass(slots=True)
class Checked:
    """What came of a piece: its runs, in the order of orgs, and how many of its entries are in the block alone."""

    entries: int = 0
    archived: int = 0
    runs: list[Run] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)


def check_piece(database: Database, blocks: Path, piece: Piece) -> Checked:
    """Check one piece. What was found is looked at again while nobody seals, erases or lets entries go: work that is
    under way is not damage.

    Raises:
        Unavailable: `database_unreachable`.
    """
    checked = _check(database, blocks, piece)
    if checked.findings.count:
        with database.operator() as connection:
            lock_folder(connection)
            checked = _check(database, blocks, piece)
    return checked


def check_piece_elsewhere(place: Place, piece: Piece) -> Checked:
    """As `check_piece`, in a process that does nothing else."""
    return check_piece(_opened(place), place.blocks, piece)


@cache
def _opened(place: Place) -> Database:
    return Database(place.url, role_logins=place.role_logins)


def _check(database: Database, blocks: Path, piece: Piece) -> Checked:
    checked = Checked()
    if piece.block is not None:
        _check_block(database, blocks, piece.block, piece, checked)
    elif piece.unsealed:
        checker = RunChecker(database, blocks, piece.unsealed, checked.findings, marks=piece.marks)
        with read_entries(database, piece.unsealed) as batches:
            for batch in batches:
                for part in conform(pa.Table.from_batches([batch])).to_batches():
                    checker.take(part)
        checked.runs = checker.finish()
        checked.entries = piece.entries
    return checked


# ── a sealed block ──────────────────────────────────────────────────────────────────────────────────────────────────


def _check_block(database: Database, blocks: Path, block: Block, piece: Piece, checked: Checked) -> None:
    findings, main = checked.findings, blocks / block.path
    _check_record(block, piece, findings)
    asked = [OrgRange(*one[:3]) for one in piece.ranges if piece.only_org in (None, one.org_id)]
    before = findings.count
    sound = _check_file(block, main, findings)
    people: Path | None = people_path(main)
    if sound:
        sound, people = _check_people(block, main, findings)
    intact = findings.count == before
    if sound:
        checker = RunChecker(database, blocks, asked, findings, file=block.path, marks=piece.marks)
        compared = _Compared(database, findings, block.path)
        try:
            _read_file(block, main, people, piece, checked, [checker.take, compared.take])
        except BadInput as error:
            findings.add("block_file", error.detail, file=_relative(error.where, blocks, block.path))
        except (pa.ArrowException, ValueError, TypeError, LookupError, ArithmeticError, OSError) as error:
            if intact:
                raise
            findings.add(
                "block_file", f"its rows cannot be read: {' '.join(str(error).split())[:200]}", file=block.path
            )
        else:
            checked.runs = checker.finish()
            checked.entries, checked.archived = sum(one.entries for one in asked), compared.archived
            return
    # The file is no good. What the database still has of it is checked in its place, so that the rest can be.
    checker = RunChecker(database, blocks, asked, findings, marks=piece.marks)
    with read_entries(database, asked) as batches:
        for batch in batches:
            for part in conform(pa.Table.from_batches([batch])).to_batches():
                checker.take(part)
    checked.runs = checker.finish()
    checked.entries = sum(one.entries for one in asked)


def _check_record(block: Block, piece: Piece, findings: Findings) -> None:
    """What the tables say of the block is in keeping with itself."""
    statement = BlockStatement(
        block.block,
        block.entries,
        block.file_sha256,
        block.merkle_root,
        len(piece.ranges),
        block.orgs_root,
        block.sealed_at,
    )
    if statement.encode().decode() != block.statement:
        findings.add(
            "block_statement",
            f"block {block.block}: its statement is not that of its columns and orgs",
            file=block.path,
        )
    if block.path != block_path(block.block, block.sealed_at):
        findings.add("block_statement", f"block {block.block}: its path is not the one it was given", file=block.path)
    if orgs_root(OrgStatement(*one[:4]) for one in piece.ranges) != block.orgs_root:
        what = f"block {block.block}: what block_orgs says of its orgs does not give its orgs_root"
        org = piece.ranges[0].org_id if len(piece.ranges) == 1 else None
        findings.add("block_orgs", what, org, file=block.path)
    if sum(one.last_seq - one.first_seq + 1 for one in piece.ranges) != block.entries:
        findings.add("block_orgs", f"block {block.block}: its ranges do not add up to its entries", file=block.path)


def _check_file(block: Block, main: Path, findings: Findings) -> bool:
    """Whether the file is worth reading, be it to name what was changed in it."""
    try:
        if not main.is_file():
            findings.add("block_file", f"block {block.block} is not there", file=block.path)
            return False
        digest = file_sha256(main)
    except OSError as error:
        findings.add("block_file", f"block {block.block} cannot be read: {error.strerror}", file=block.path)
        return False
    if digest != block.file_sha256:
        what = f"block {block.block} is not the file that was sealed: its hash differs"
        findings.add("block_file", what, file=block.path)
    elif main.stat().st_size != block.file_bytes:
        findings.add("block_statement", f"block {block.block} is not as long as recorded", file=block.path)
    return True


def _check_people(block: Block, main: Path, findings: Findings) -> tuple[bool, Path | None]:
    """The people file byte for byte: its rows, written again, give the same file. Whether rows can be read with it."""
    path = people_path(main)
    name = f"{block.path.removesuffix('.parquet')}.people.parquet"
    try:
        if not path.is_file():
            findings.add("people_file", "the people file is not there", file=name)
            return False, None
        data = path.read_bytes()
        again = BytesIO()
        write_people(pq.read_table(BytesIO(data)), again)
        same_writer = _created_by(BytesIO(data)) == _created_by(again)
        if again.getvalue() != data and (same_writer or _created_by(BytesIO(data)) == _created_by(main)):
            findings.add("people_file", "the people file was changed: its rows, written again, give another", file=name)
    except (pa.ArrowException, OSError, ValueError, KeyError, BadInput) as error:
        findings.add("people_file", f"the people file cannot be read: {' '.join(str(error).split())[:200]}", file=name)
        return False, None
    return True, path


def _created_by(file: BytesIO | Path) -> str:
    return str(pq.ParquetFile(file).metadata.created_by)


def _read_file(
    block: Block,
    main: Path,
    people: Path | None,
    piece: Piece,
    checked: Checked,
    takers: Sequence[Callable[[pa.RecordBatch], None]],
) -> None:
    """Read the block's rows, hand on those that are asked about, and compare the whole with what is recorded."""
    findings = checked.findings
    info = block_info(main)
    if (info.block, info.entries) != (block.block, block.entries):
        findings.add("block_file", f"it says that it is block {info.block} of {info.entries} entries", file=block.path)
    leaves: list[bytes] = []
    times: list[pa.Scalar] = []
    for batch in iterate_block(main, people):
        leaves += batch.column("leaf").to_pylist()
        times += pc.min_max(batch.column("time")).values()
        asked = batch if piece.only_org is None else batch.filter(pc.equal(batch.column("org_id"), piece.only_org))
        for take in takers:
            take(asked)
    if root(leaf or b"" for leaf in leaves) != block.merkle_root:
        findings.add("merkle_root", f"block {block.block}: its leaves do not give its merkle_root", file=block.path)
    if times:
        found = (min(one.as_py() for one in times), max(one.as_py() for one in times))
        if found != (block.time_min, block.time_max):
            findings.add("block_statement", f"block {block.block}: its times are not those recorded", file=block.path)


class _Compared:
    """Compares a block's rows with those that are still in the database."""

    def __init__(self, database: Database, findings: Findings, file: str) -> None:
        self._database = database
        self._findings = findings
        self._file = file
        self.archived = 0

    def take(self, batch: pa.RecordBatch) -> None:
        """Compare the next rows of the block."""
        if not batch.num_rows:
            return
        ranges = list(_ranges_of(batch))
        with read_entries(self._database, ranges) as batches:
            kept = conform(pa.Table.from_batches(batches, schema=batches.schema))
        if kept.num_rows < batch.num_rows:  # what has left, and when it has, is asked after the rows were read
            with self._database.operator() as connection:
                kept_from = read_kept_from(connection, [one.org_id for one in ranges])
            batch = self._still_kept(batch, kept_from)
        sealed = pa.Table.from_batches([batch])
        if not sealed.equals(kept):
            self._name(sealed, kept)

    def _still_kept(self, batch: pa.RecordBatch, kept_from: dict[str, int]) -> pa.RecordBatch:
        orgs = batch.column("org_id").dictionary_encode()
        never = np.iinfo(np.int64).max
        first = np.array([kept_from.get(org, never) for org in orgs.dictionary.to_pylist()], dtype=np.int64)
        mask = batch.column("seq").to_numpy() >= first[orgs.indices.to_numpy()]
        self.archived += int((~mask).sum())
        return batch.filter(pa.array(mask))

    def _name(self, sealed: pa.Table, kept: pa.Table) -> None:
        """Row by row, which differ and in which columns."""
        in_database = {(row["org_id"], row["seq"]): row for row in kept.to_pylist()}
        for row in sealed.to_pylist():
            place = (row["org_id"], row["seq"])
            other = in_database.pop(place, None)
            if other is None:
                self._findings.add("sequence", "it is in its block and missing in the database", *place, self._file)
                continue
            names = [name for name in ENTRY_SCHEMA.names if row[name] != other[name]]
            if names:
                self._name_row(place, names, row, other)
        for place in in_database:
            self._findings.add("block_row", "it is in the database and not in its block", *place, self._file)

    def _name_row(self, place: tuple[str, int], names: list[str], sealed: dict[str, Any], kept: dict[str, Any]) -> None:
        """Which columns differ, and whether the database's row still fits its own hashes."""
        differ = "differs" if len(names) == 1 else "differ"
        what = f"{', '.join(names)} in the database {differ} from what the block has"
        if set(names) <= set(PERSONAL_COLUMNS) and any(
            all(one[name] is None for name in PERSONAL_COLUMNS) for one in (sealed, kept)
        ):
            what += "; if an erasure was interrupted, run it again"
        self._findings.add("block_row", what, *place, self._file)
        row = pa.Table.from_pylist([kept], schema=ENTRY_SCHEMA).to_batches()[0]
        (leaf,), (fingerprint,) = leaves_and_fingerprints(row)
        if leaf != kept["leaf"]:
            self._findings.add("leaf", "its leaf is not that of its row: the row was changed", *place)
        if fingerprint is not None and fingerprint != kept["fingerprint"]:
            what = "its fingerprint does not open: the fact or the person was changed"
            self._findings.add("fingerprint", what, *place)


def _ranges_of(batch: pa.RecordBatch) -> Iterator[OrgRange]:
    """The first and last entry of each org in a batch that is sorted by org and sequence."""
    encoded = pc.run_end_encode(batch.column("org_id"))
    seqs = batch.column("seq")
    start = 0
    for org, end in zip(encoded.values.to_pylist(), encoded.run_ends.to_pylist(), strict=True):
        yield OrgRange(org, seqs[start].as_py(), seqs[end - 1].as_py())
        start = end


def _relative(where: str | None, blocks: Path, path: str) -> str:
    if where is not None and Path(where).is_relative_to(blocks):
        return str(Path(where).relative_to(blocks))
    return path
