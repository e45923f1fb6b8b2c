"""Replay of sealed blocks: every cost in them computed again, and compared with what is recorded, to the last bit.

    scan      every row group is read once, as arrays, by as many threads as there are processors: which cases its
              entries are of (a few hundred for millions), where they lie, whose amounts do not follow from quantities
              and prices (archive.replay_scan)
    cases     the scalar pricing is asked once for each region that a case touches (archive.replay_cases); where it does
              not confirm the whole, DuckDB says how the case's entries lie
    rows      whatever is not confirmed, and what is irregular, DuckDB fetches, and the scalar pricing looks at it one
              by one: it alone decides what is a difference

So the answer is the scalar pricing's, whatever the columns say; columns only spare it from being asked again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from threading import local
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow as pa

from tallystick.archive import replay_sql as sql
from tallystick.archive.format import BlockInfo, block_info
from tallystick.archive.lines import Int64s
from tallystick.archive.replay_cases import Box, CardOf, Cases
from tallystick.archive.replay_keys import Scratch
from tallystick.archive.replay_rows import EntryDifference, check_correction, check_usage, entries_of
from tallystick.archive.replay_scan import Scanned, scan, scan_columns
from tallystick.archive.replay_table import Part, Words, merged
from tallystick.archive.row_group import BlockFile, Filter, RowGroup
from tallystick.core.errors import BadInput
from tallystick.ledger.entry import Entry

SCAN_ENTRIES = 4_000_000
"""So many entries are looked at by one query: progress moves, and what is odd about them fits into memory."""
_ROWS = 8192
_CORRECTIONS_HELD = 20_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCATION = pa.schema([("filename", pa.string()), ("file_row_number", pa.int64())])
_REGION = ("id", "time_place", "prompt_place", "minute_place")


_Blocks = Sequence[tuple[Path, BlockInfo]]


class Wanted(NamedTuple):
    """Which entries: event time in [start, end), of one org or all."""

    start: datetime
    end: datetime
    org_id: str | None = None


class Found(NamedTuple):
    """What was found out about some entries.

    Attributes:
        entries: how many entries were checked.
        corrections: how many of them are corrections; those are checked when all else is.
        operations: how many of them are operations on orgs' accounts, which have no price.
        one_by_one: how many were priced one by one.
        differences: everything that differs.
    """

    entries: int
    corrections: int
    operations: int
    one_by_one: int
    differences: tuple[EntryDifference, ...]


class _Batch(NamedTuple):
    """Blocks that are looked at together, with the texts of their cases and what is found in each row group."""

    blocks: _Blocks
    words: Words
    waiting: list[tuple[Path, Future[Scanned]]]


class _Scratch(local):
    """Of each thread its own."""

    def __init__(self) -> None:
        self.held = Scratch()


class BlockReplay:
    """Replays block files with DuckDB in process; use it in a `with`.

    Args:
        card_of: gives the rate card of a version's name; it raises TallyError when there is none.
        minimum_meters: the meters for which a request may be billed for more than it used, see
            `CardHistory.minimum_meters`.
        threads: how many threads may be used.
        memory_mb: how much memory DuckDB may use; beyond it, it writes to `temporary`.
        temporary: a folder for that.
    """

    def __init__(
        self, card_of: CardOf, minimum_meters: Collection[str], *, threads: int, memory_mb: int, temporary: Path
    ) -> None:
        self._card_of = card_of
        self._minimum_meters = frozenset(minimum_meters)
        self._threads = threads
        self._cases = Cases(card_of)
        self._corrections: list[Entry] = []
        self._scratch = _Scratch()
        self._settings: dict[str, str | bool | int | float | list[str]] = {
            "threads": threads,
            "memory_limit": f"{memory_mb}MB",
            "temp_directory": str(temporary),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
        }

    def __enter__(self) -> BlockReplay:
        return self

    def __exit__(self, *_: object) -> None:
        if "_connection" in self.__dict__:
            self._connection.close()

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        """DuckDB, once a row has to be fetched: of a history without a fault there may be none."""
        connection = duckdb.connect(config=self._settings)
        connection.execute("set enable_progress_bar = false")  # it would be written between our own output
        return connection

    def run(self, files: Sequence[Path], wanted: Wanted) -> Iterator[Found]:
        """Check the wanted entries of these block files, some files at a time.

        Corrections are checked against the entries that they refer to, which must be in one of the files too.

        Args:
            files: block files.
            wanted: which of their entries.

        Raises:
            BadInput: `broken_block`, `missing_block`.
        """
        infos = [(path, block_info(path)) for path in files]
        blocks = [(path, info) for path, info in infos if _overlaps(info, wanted)]
        pool = ThreadPoolExecutor(self._threads)
        try:
            for batch in self._batches(blocks, wanted, pool):
                with _faults_named(batch.blocks):
                    found = self._check(batch, wanted)
                yield found
                if len(self._corrections) >= _CORRECTIONS_HELD:
                    yield self._check_corrections(blocks, wanted)
        finally:
            pool.shutdown(cancel_futures=True)
        if self._corrections:
            yield self._check_corrections(blocks, wanted)

    # ── a batch of files ────────────────────────────────────────────────────────────────────────────────────────────

    def _batches(self, blocks: _Blocks, wanted: Wanted, pool: Executor) -> Iterator[_Batch]:
        """Some blocks after others; while one batch is looked at, the next one is being scanned."""
        begun: _Batch | None = None
        for some in _batches(blocks):
            with _faults_named(some):
                following = self._begin(some, wanted, pool)
            if begun is not None:
                yield begun
            begun = following
        if begun is not None:
            yield begun

    def _begin(self, blocks: _Blocks, wanted: Wanted, pool: Executor) -> _Batch:
        """Have every row group scanned that may hold wanted entries."""
        words = Words()

        def scanned(file: BlockFile, info: BlockInfo, group: int) -> Scanned:
            rows = RowGroup(file, group, scan_columns(info.meters), _filter(info, wanted))
            return scan(rows, info.meters, self._cases, words, self._minimum_meters, self._scratch.held)

        files = [(BlockFile(path), info) for path, info in blocks]
        waiting = [
            (file.main, pool.submit(scanned, file, info, group))
            for file, info in files
            for group in file.groups_with(wanted.start, wanted.end, wanted.org_id)
        ]
        return _Batch(blocks, words, waiting)

    def _check(self, batch: _Batch, wanted: Wanted) -> Found:
        groups = [(path, one.result()) for path, one in batch.waiting]
        entries = sum(found.entries for _, found in groups)
        operations = sum(found.irregular for _, found in groups)  # less those of them that are none
        parts = merged([found.cases for _, found in groups if found.cases is not None], batch.words)
        doubtful = [part for part in parts if not self._cases.agrees(part.case, part.box)]
        locations = [_locations(path, found.contradicted) for path, found in groups if len(found.contradicted)]
        if not (doubtful or locations or operations):
            return Found(entries, 0, 0, 0, ())
        meters = self._view(batch.blocks, wanted)
        self._table("suspects", pa.concat_tables([_LOCATION.empty_table(), *locations]))
        if doubtful:
            self._look_closer(doubtful, meters)
        queries = []  # each, and whether it gives irregular rows
        if self._all("select 1 from suspects limit 1"):
            queries.append(("select * from entries semi join suspects using (filename, file_row_number)", False))
        if operations:
            queries.append(("select * from entries where pricing is null and kind in ('usage', 'correction')", True))
        differences: list[EntryDifference] = []
        checked = corrections = 0
        found = ((entry, irregular) for query, irregular in queries for entry in self._entries(query, meters))
        for entry, is_irregular in found:
            operations -= is_irregular
            if entry.kind == "correction":
                corrections += 1
                self._corrections.append(entry)
                continue
            checked += 1
            differences += check_usage(entry, self._card_of)
        return Found(entries, corrections, operations, checked, tuple(differences))

    def _view(self, blocks: _Blocks, wanted: Wanted) -> list[str]:
        """Make `entries`; the meters in it."""
        groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Path]] = {}
        for path, info in blocks:
            groups.setdefault((info.meters, _conditions(info, wanted)), []).append(path)
        meters = sorted({meter for _, info in blocks for meter in info.meters})
        scans = [sql.Scan(tuple(paths), *key) for key, paths in groups.items()]
        self._connection.execute(sql.entries_view(scans, meters))
        return meters

    # ── what is not confirmed ───────────────────────────────────────────────────────────────────────────────────────

    def _look_closer(self, doubtful: Sequence[Part], meters: Sequence[str]) -> None:
        """Ask region by region where a case's entries truly lie, and suspect those in the regions that disagree."""
        doubts = []
        for number, (case, _) in enumerate(doubtful):
            edges = self._cases.edges(case)
            doubts.append((number, *case, list(edges.times), list(edges.prompts), list(edges.minutes)))
        columns = zip(*doubts, strict=True)
        self._table("doubt", pa.table([list(one) for one in columns], schema=sql.DOUBT_SCHEMA))
        wrong = []
        for region in self._all(sql.regions(meters)):
            number, time_min, time_max, prompt_min, prompt_max, minute_min, minute_max = region[0], *region[4:10]
            case, around = doubtful[number]
            box = Box(time_min, time_max, prompt_min, prompt_max, around.quantities, minute_min, minute_max)
            if not self._cases.agrees(case, box):
                wrong.append(dict(zip(_REGION, region[:4], strict=True)))
        if wrong:
            self._table("wrong", pa.Table.from_pylist(wrong))
            self._connection.execute(f"insert into suspects ({sql.rows_of_regions(meters)})")

    # ── corrections ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_corrections(self, blocks: _Blocks, wanted: Wanted) -> Found:
        """Check the corrections that were come across, against the entries that they refer to."""
        corrections, self._corrections = self._corrections, []
        found: dict[tuple[str, int], Entry] = {}
        keys = {"org_id": [one.org_id for one in corrections], "seq": [one.refers_to_seq for one in corrections]}
        self._table("referred", pa.table(keys, schema=pa.schema([("org_id", pa.string()), ("seq", pa.int64())])))
        for batch in _batches(blocks):
            with _faults_named(batch):
                meters = self._view(batch, wanted)
                query = "select * from entries semi join referred using (org_id, seq) where kind = 'usage'"
                found |= {(entry.org_id, entry.seq): entry for entry in self._entries(query, meters)}
        differences: list[EntryDifference] = []
        for correction in corrections:
            usage = found.get((correction.org_id, correction.refers_to_seq or 0))
            differences += check_correction(correction, usage, self._card_of)
        return Found(0, 0, 0, len(corrections), tuple(differences))

    # ── DuckDB ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(query).fetchall()

    def _entries(self, query: str, meters: Sequence[str]) -> Iterator[Entry]:
        reader = self._connection.sql(query).to_arrow_reader(_ROWS)
        for batch in reader:
            yield from entries_of(batch, meters)

    def _table(self, name: str, rows: pa.Table) -> None:
        self._connection.register("given", rows)
        self._connection.execute(f"create or replace temp table {name} as select * from given")
        self._connection.unregister("given")


def _overlaps(info: BlockInfo, wanted: Wanted) -> bool:
    return info.time_min < wanted.end and wanted.start <= info.time_max


def _batches(blocks: _Blocks) -> Iterator[_Blocks]:
    """Blocks in runs of about `SCAN_ENTRIES`."""
    batch: list[tuple[Path, BlockInfo]] = []
    entries = 0
    for one in blocks:
        if batch and entries + one[1].entries > SCAN_ENTRIES:
            yield batch
            batch, entries = [], 0
        batch.append(one)
        entries += one[1].entries
    if batch:
        yield batch


def _conditions(info: BlockInfo, wanted: Wanted) -> tuple[str, ...]:
    """What must hold of an entry of this block to be wanted; nothing where all of them are."""
    conditions = []
    if info.time_min < wanted.start:
        conditions.append(f"time >= make_timestamptz({(wanted.start - _EPOCH) // timedelta(microseconds=1)})")
    if info.time_max >= wanted.end:
        conditions.append(f"time < make_timestamptz({(wanted.end - _EPOCH) // timedelta(microseconds=1)})")
    if wanted.org_id is not None:
        conditions.append(f"org_id = {sql.literal(wanted.org_id)}")
    return tuple(conditions)


def _filter(info: BlockInfo, wanted: Wanted) -> Filter | None:
    """What a row of the block must be to be wanted; None where all of them are."""
    if not _conditions(info, wanted):
        return None
    start, end = ((one - _EPOCH) // timedelta(microseconds=1) for one in (wanted.start, wanted.end))
    return Filter(start, end, wanted.org_id)


def _locations(path: Path, places: Int64s) -> pa.Table:
    return pa.table([[str(path)] * len(places), places], schema=_LOCATION)


@contextmanager
def _faults_named(blocks: _Blocks) -> Iterator[None]:
    """What DuckDB, or reading what it gives, says of files that are no good, as `broken_block`."""
    try:
        yield
    except (
        duckdb.IOException,
        duckdb.InvalidInputException,
        duckdb.BinderException,
        duckdb.ConversionException,
    ) as error:
        raise _broken(blocks, error) from error
    except (msgspec.MsgspecError, pa.ArrowException, OSError, ValueError) as error:
        raise _broken(blocks, error) from error


def _broken(blocks: _Blocks, error: Exception) -> BadInput:
    named = [str(path) for path, _ in blocks if str(path) in str(error)] or [str(path) for path, _ in blocks[:1]]
    return BadInput(
        "broken_block",
        f"it cannot be replayed: {' '.join(str(error).split())[:300]}",
        next_step="`tally verify` says what is wrong; restore the file from a backup of the blocks folder",
        where=named[0],
    )
