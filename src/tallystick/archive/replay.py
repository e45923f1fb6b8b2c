"""Replay of sealed blocks: every cost in them computed again, and compared with what is recorded, to the last bit.

    cases     DuckDB sorts the entries into cases, a few hundred for millions, and says where each case's entries lie;
              the scalar pricing is asked once for each region that they touch (archive.replay_cases)
    amounts   every quantity is multiplied by its recorded price, every total added up, as arrays (replay_amounts)
    rows      whatever either of them does not confirm, and what is irregular, is priced one by one by the scalar
              pricing, which alone decides what is a difference

So the answer is the scalar pricing's, whatever the columns say; columns only spare it from being asked again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow as pa

from tallystick.archive import replay_sql as sql
from tallystick.archive.format import BlockInfo, block_info, groups_with
from tallystick.archive.lines import Shape
from tallystick.archive.replay_amounts import contradicted_rows
from tallystick.archive.replay_cases import DAY_MINUTES, Box, CardOf, Case, Cases
from tallystick.archive.replay_rows import EntryDifference, check_correction, check_usage, entries_of
from tallystick.archive.replay_sums import add_entry, add_rows
from tallystick.core.errors import BadInput
from tallystick.invoice.usage import PeriodSums
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
    """Which entries: event time in [start, end), of one org or all, of a range of its sequence or all."""

    start: datetime
    end: datetime
    org_id: str | None = None
    first_seq: int | None = None
    last_seq: int | None = None


class Found(NamedTuple):
    """What was found out about some entries.

    Attributes:
        entries: how many entries were checked.
        corrections: how many of them are corrections; those are checked when all else is.
        one_by_one: how many were priced one by one.
        differences: everything that differs.
    """

    entries: int
    corrections: int
    one_by_one: int
    differences: tuple[EntryDifference, ...]


class _CaseRow(NamedTuple):
    """A row of `cases`."""

    number: int
    case: Case
    entries: int
    box: Box

    @classmethod
    def of(cls, row: tuple[Any, ...], constants: Sequence[str], windows: sql.Windows) -> _CaseRow:
        width = len(Case._fields)
        case = Case(*row[1 : width + 1])
        place, entries, time_min, time_max, prompt_min, prompt_max, *ranges = row[width + 1 :]
        quantities = tuple((one, *ranges[2 * index : 2 * index + 2]) for index, one in enumerate(constants))
        minutes = (0, DAY_MINUTES - 1)
        if case.model in windows.models:
            edges = (0, *windows.edges, DAY_MINUTES)
            minutes = (edges[place], edges[place + 1] - 1)
        return cls(row[0], case, entries, Box(time_min, time_max, prompt_min, prompt_max, quantities, *minutes))


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
        self._minimum_meters = minimum_meters
        self._threads = threads
        self._cases = Cases(card_of)
        self._corrections: list[Entry] = []
        self._corrected: set[tuple[str, int]] = set()
        settings: dict[str, str | bool | int | float | list[str]] = {
            "threads": threads,
            "memory_limit": f"{memory_mb}MB",
            "temp_directory": str(temporary),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
        }
        self._connection = duckdb.connect(config=settings)
        self._connection.execute("set enable_progress_bar = false")  # it would be written between our own output

    def __enter__(self) -> BlockReplay:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def run(self, files: Sequence[Path], wanted: Wanted, sums: PeriodSums | None = None) -> Iterator[Found]:
        """Check the wanted entries of these block files, some files at a time.

        Corrections are checked against the entries that they refer to, which must be in one of the files too.

        Args:
            files: block files.
            wanted: which of their entries.
            sums: what the wanted requests add up to is added to it, each at the cost that counts: its correction's,
                when it has one among the wanted entries.

        Raises:
            BadInput: `broken_block`, `missing_block`.
        """
        infos = [(path, block_info(path)) for path in files]
        blocks = [(path, info) for path, info in infos if _overlaps(info, wanted)]
        if sums is not None:
            self._corrected = self._find_corrected(blocks, wanted)
        for batch in _batches(blocks):
            with _faults_named(batch):
                found = self._check(batch, wanted, sums)
            yield found
            if len(self._corrections) >= _CORRECTIONS_HELD:
                yield self._check_corrections(blocks, wanted, sums)
        if self._corrections:
            yield self._check_corrections(blocks, wanted, sums)

    # ── a batch of files ────────────────────────────────────────────────────────────────────────────────────────────

    def _check(self, blocks: _Blocks, wanted: Wanted, sums: PeriodSums | None) -> Found:
        meters = self._view(blocks, wanted)
        shapes = self._shapes(meters)
        rows = self._make_cases(shapes, meters)
        suspects = self._find_suspects(blocks, wanted, rows, meters)
        queries = []
        if suspects:
            queries.append("select * from entries semi join suspects using (filename, file_row_number)")
        if any(row.case.pricing is None for row in rows):
            queries.append("select * from entries where pricing is null")
        differences: list[EntryDifference] = []
        checked = corrections = 0
        for entry in (entry for query in queries for entry in self._entries(query, meters)):
            if entry.kind == "correction":
                corrections += 1
                self._corrections.append(entry)
                continue
            checked += 1
            again = check_usage(entry, self._card_of)
            differences += again.differences
            if sums is not None and again.event is not None and (entry.org_id, entry.seq) not in self._corrected:
                add_entry(sums, again.event, again.cost)
        if sums is not None:
            self._add_columns(sums, meters)
        return Found(sum(row.entries for row in rows), corrections, checked, tuple(differences))

    def _view(self, blocks: _Blocks, wanted: Wanted) -> list[str]:
        """Make `entries`; the meters in it."""
        groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Path]] = {}
        for path, info in blocks:
            groups.setdefault((info.meters, _conditions(info, wanted)), []).append(path)
        meters = sorted({meter for _, info in blocks for meter in info.meters})
        scans = [sql.Scan(tuple(paths), *key) for key, paths in groups.items()]
        self._connection.execute(sql.entries_view(scans, meters))
        return meters

    def _shapes(self, meters: Sequence[str]) -> dict[str, Shape]:
        texts = self._all("select distinct pricing from entries where pricing is not null")
        shapes = {text: self._cases.shape(text) for (text,) in texts}
        for shape in shapes.values():
            if not set(shape.meters) <= set(meters) or len(set(shape.meters)) < len(shape.meters):
                raise ValueError("a pricing names a meter twice, or one that the block does not have")
        return shapes

    def _make_cases(self, shapes: dict[str, Shape], meters: Sequence[str]) -> list[_CaseRow]:
        """Make `cases`, and give them."""
        constants = sorted({meter for meter in meters if meter in self._minimum_meters} | set(_constants(shapes)))
        windows = self._windows()
        self._connection.execute(sql.cases_table(meters, constants, windows))
        return [_CaseRow.of(row, constants, windows) for row in self._all("select * from cases")]

    def _windows(self) -> sql.Windows:
        models, edges = set(), set()
        for priced in self._all("select distinct rate_version, provider, model, price_context from entries"):
            found = self._cases.window_edges(*priced)
            if found:
                models.add(priced[2])
                edges |= found
        return sql.Windows(sorted(models), sorted(edges))

    # ── what is not confirmed ───────────────────────────────────────────────────────────────────────────────────────

    def _find_suspects(self, blocks: _Blocks, wanted: Wanted, rows: Sequence[_CaseRow], meters: Sequence[str]) -> bool:
        """Make `suspects`: where rows stand that neither cases nor multiplications confirm; whether there are any."""
        self._table("suspects", self._contradicted(blocks, wanted))
        regular = [row for row in rows if row.case.pricing is not None]
        doubtful = {row.number: row for row in regular if not self._cases.agrees(row.case, row.box)}
        if doubtful:
            self._look_closer(doubtful, meters)
        return bool(self._all("select 1 from suspects limit 1"))

    def _contradicted(self, blocks: _Blocks, wanted: Wanted) -> pa.Table:
        """Where the rows stand whose amounts do not follow from their quantities and prices."""
        groups = [
            (path, info, group)
            for path, info in blocks
            for group in groups_with(path, wanted.start, wanted.end, wanted.org_id)
        ]

        def rows_of(one: tuple[Path, BlockInfo, int]) -> pa.Table:
            path, info, group = one
            places = contradicted_rows(path, group, info.meters, self._cases.shape)
            return pa.table([[str(path)] * len(places), places], schema=_LOCATION)

        with ThreadPoolExecutor(self._threads) as pool:
            return pa.concat_tables([_LOCATION.empty_table(), *pool.map(rows_of, groups)])

    def _look_closer(self, doubtful: dict[int, _CaseRow], meters: Sequence[str]) -> None:
        """Ask region by region where a case's entries truly lie, and suspect those in the regions that disagree."""
        doubts = []
        for number, row in doubtful.items():
            edges = self._cases.edges(row.case)
            doubts.append((number, list(edges.times), list(edges.prompts), list(edges.minutes)))
        columns = zip(*doubts, strict=True)
        self._table("doubt", pa.table([list(one) for one in columns], schema=sql.DOUBT_SCHEMA))
        wrong = []
        for region in self._all(sql.regions(meters)):
            number, time_min, time_max, prompt_min, prompt_max, minute_min, minute_max = region[0], *region[4:10]
            row = doubtful[number]
            quantities = row.box.quantities
            box = Box(time_min, time_max, prompt_min, prompt_max, quantities, minute_min, minute_max)
            if not self._cases.agrees(row.case, box):
                wrong.append(dict(zip(_REGION, region[:4], strict=True)))
        if wrong:
            self._table("wrong", pa.Table.from_pylist(wrong))
            self._connection.execute(f"insert into suspects ({sql.rows_of_regions(meters)})")

    # ── corrections ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_corrections(self, blocks: _Blocks, wanted: Wanted, sums: PeriodSums | None) -> Found:
        """Check the corrections that were come across, against the entries that they refer to."""
        corrections, self._corrections = self._corrections, []
        found: dict[tuple[str, int], Entry] = {}
        anywhere = wanted._replace(first_seq=None, last_seq=None)
        keys = {"org_id": [one.org_id for one in corrections], "seq": [one.refers_to_seq for one in corrections]}
        self._table("referred", pa.table(keys, schema=pa.schema([("org_id", pa.string()), ("seq", pa.int64())])))
        for batch in _batches(blocks):
            with _faults_named(batch):
                meters = self._view(batch, anywhere)
                query = "select * from entries semi join referred using (org_id, seq) where kind = 'usage'"
                found |= {(entry.org_id, entry.seq): entry for entry in self._entries(query, meters)}
        differences: list[EntryDifference] = []
        for correction in corrections:
            usage = found.get((correction.org_id, correction.refers_to_seq or 0))
            again = check_correction(correction, usage, self._card_of)
            differences += again.differences
            if (
                sums is not None
                and again.event is not None
                and (correction.refers_to_seq or 0) >= (wanted.first_seq or 0)
            ):
                add_entry(sums, again.event, again.cost)
        return Found(0, 0, len(corrections), tuple(differences))

    def _find_corrected(self, blocks: _Blocks, wanted: Wanted) -> set[tuple[str, int]]:
        found: set[tuple[str, int]] = set()
        for batch in _batches(blocks):
            with _faults_named(batch):
                self._view(batch, wanted)
                found |= set(self._all("select org_id, refers_to_seq from entries where kind = 'correction'"))
        keys = {"org_id": [org for org, _ in found], "seq": [seq for _, seq in found]}
        self._table("corrected", pa.table(keys, schema=pa.schema([("org_id", pa.string()), ("seq", pa.int64())])))
        return found

    def _add_columns(self, sums: PeriodSums, meters: Sequence[str]) -> None:
        """Add what was not added row by row."""
        self._connection.execute(
            "create or replace temp table apart as select filename, file_row_number from suspects union all "
            "select filename, file_row_number from entries semi join corrected using (org_id, seq)"
        )
        add_rows(sums, self._all(sql.sums(meters)), meters)

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
    if wanted.first_seq is not None:
        conditions.append(f"seq >= {int(wanted.first_seq)}")
    if wanted.last_seq is not None:
        conditions.append(f"seq <= {int(wanted.last_seq)}")
    return tuple(conditions)


def _constants(shapes: dict[str, Shape]) -> list[str]:
    """The meters that a pricing gives a quantity which is not the event's."""
    return sorted(
        {
            meter
            for shape in shapes.values()
            for meter, quantity in zip(shape.meters, shape.quantities or (), strict=False)
            if quantity is not None
        }
    )


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
    except (msgspec.MsgspecError, pa.ArrowException, ValueError) as error:
        raise _broken(blocks, error) from error


def _broken(blocks: _Blocks, error: Exception) -> BadInput:
    named = [str(path) for path, _ in blocks if str(path) in str(error)] or [str(path) for path, _ in blocks[:1]]
    return BadInput(
        "broken_block",
        f"it cannot be replayed: {' '.join(str(error).split())[:300]}",
        next_step="`tally verify` says what is wrong; restore the file from a backup of the blocks folder",
        where=named[0],
    )
