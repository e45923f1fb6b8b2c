"""Checking entries as they come, in runs of one org's sequence: every row against its own leaf, and against the next.

A `RunChecker` is given Arrow batches in the order of (org, sequence) and gives one `Run` for each org and range, with
what only its neighbours can tell: whether runs continue each other is for `verify_orgs`. Rows are checked in bulk;
only where something differs is it looked at row by row, to name it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tallystick.app.verify_form import malformed
from tallystick.app.verify_report import Findings
from tallystick.archive.fingerprints import leaves_and_fingerprints, personal_is_gone
from tallystick.archive.leaves import batch_entries
from tallystick.archive.org_rows import iterate_org
from tallystick.archive.paths import people_path
from tallystick.core.errors import BadInput
from tallystick.journal.database import Database
from tallystick.journal.sealing import OrgRange, blocks_of_org
from tallystick.journal.verify_rows import (
    ReferredRow,
    TransferRow,
    read_entries_at,
    read_erasures,
    read_transfers,
)
from tallystick.ledger.accounts import PROVIDER_PAYABLE, PROVIDER_USAGE_COST, USD
from tallystick.ledger.adjustment import ADJUSTMENT, Adjust
from tallystick.ledger.operation_body import read_body

Integers = npt.NDArray[np.int64]
Place = tuple[str, int]
_EXPECTED = (PROVIDER_USAGE_COST, PROVIDER_PAYABLE, USD)
_TURNED = (PROVIDER_PAYABLE, PROVIDER_USAGE_COST, USD)


@dataclass(slots=True)
class OpenTransfer:
    """A transfer that reaches out of a run: what of it lies in the run adds up to `sum_pico`."""

    first_seq: int
    seq: int
    amount_pico: int
    sum_pico: int


@dataclass(slots=True)
class Run:
    """What a checked run of one org's entries says to the runs before and after it. Times in microseconds.

    Attributes:
        leaves: of every entry as it is stored, one after another.
        whole: whether no entry of the range is missing; else the leaves cannot give the tree's root.
        operations: how many of the entries have a body.
        marked_time_max: that of the entry that was marked, when it is in the run.
    """

    org_id: str
    first_seq: int
    last_seq: int
    leaves: bytearray = field(default_factory=bytearray)
    whole: bool = True
    first_time: int | None = None
    first_time_max: int = 0
    last_time_max: int = 0
    marked_time_max: int | None = None
    open_transfers: list[OpenTransfer] = field(default_factory=list)
    erased: int = 0
    operations: int = 0
    _next_seq: int = 0
    _costs: list[int] = field(default_factory=list)
    _recorded: dict[int, datetime] = field(default_factory=dict)


@dataclass(slots=True)
class Correction:
    """A correction, and what it says of the entry that it takes the place of."""

    org_id: str
    seq: int
    refers_to_seq: int
    request_id: str
    time: datetime
    payer: str | None


class RunChecker:
    """Checks the entries of some ranges, in the order of orgs.

    Args:
        database: for what belongs to them: transfers, erasures, what corrections refer to.
        blocks: the folder of blocks.
        ranges: which entries will come.
        findings: where to note what is wrong.
        file: where the entries are read from, relative to `blocks`; None for the database.
        marks: of some orgs an entry whose `time_max` is wanted.
    """

    def __init__(
        self,
        database: Database,
        blocks: Path,
        ranges: Sequence[OrgRange],
        findings: Findings,
        *,
        file: str | None = None,
        marks: Mapping[str, int] | None = None,
    ) -> None:
        self._database = database
        self._blocks = blocks
        self._findings = findings
        self._file = file
        self._people = None if file is None else str(people_path(Path(file)))
        self._marks = marks or {}
        self._expected = {one.org_id: Run(one.org_id, one.first_seq, one.last_seq) for one in ranges}
        self._order = [one.org_id for one in ranges]
        with database.operator() as connection:
            self._erased = read_erasures(connection, ranges)
            self._transfers: dict[str, list[TransferRow]] = defaultdict(list)
            for one in read_transfers(connection, ranges):
                self._transfers[one.org_id].append(one)
        for run in self._expected.values():
            run._next_seq = run.first_seq

    def take(self, batch: pa.RecordBatch) -> None:
        """Check the next entries."""
        if not batch.num_rows:
            return
        leaves, fingerprints = leaves_and_fingerprints(batch)
        stored = batch.column("leaf").to_pylist()
        if leaves != stored:
            self._name_differences(
                "leaf", "its leaf is not that of its row: the row was changed", batch, leaves, stored
            )
        self._check_fingerprints(batch, fingerprints)
        self._check_form(batch)
        self._check_corrections(batch)
        self._check_adjustments(batch)
        orgs = batch.column("org_id")
        start = 0
        for org, count in _runs(orgs):
            self._take_run(org, batch.slice(start, count), stored[start : start + count])
            start += count

    def finish(self) -> list[Run]:
        """The runs, once every entry was taken."""
        for run in self._expected.values():
            self._expect_through(run, run.last_seq + 1)
            self._check_transfers(run)
        return [self._expected[org] for org in self._order]

    # ── one org ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take_run(self, org: str, batch: pa.RecordBatch, leaves: Sequence[bytes | None]) -> None:
        run = self._expected.get(org)
        seqs: Integers = batch.column("seq").to_numpy()
        if run is None or seqs[0] < run._next_seq or seqs[-1] > run.last_seq:
            self._add("sequence", "there are entries that do not belong here, or are not in order", org, int(seqs[0]))
            return
        times = _microseconds(batch.column("time"))
        latest = _microseconds(batch.column("time_max"))
        if run.first_time is None:
            corrects = batch.column("kind")[0].as_py() == "correction"
            run.first_time = int(latest[0]) if corrects else int(times[0])
            run.first_time_max = int(latest[0])
        else:
            self._expect_latest(run, int(seqs[0]), int(times[0]), int(latest[0]), batch.column("kind")[0].as_py())
        if len(seqs) != seqs[-1] - run._next_seq + 1 or (np.diff(seqs) != 1).any():
            for seq in seqs.tolist():
                self._expect_through(run, seq)
                run._next_seq = seq + 1
        run._next_seq = int(seqs[-1]) + 1
        counts = pc.not_equal(batch.column("kind"), "correction").to_numpy(zero_copy_only=False)
        seen = np.where(counts, times, np.iinfo(np.int64).min)
        seen[0] = latest[0]
        wrong = np.flatnonzero(np.maximum.accumulate(seen) != latest)
        if len(wrong):
            self._add("time_max", "its time_max is not the latest time so far", org, int(seqs[wrong[0]]))
        run.last_time_max = int(latest[-1])
        place = np.searchsorted(seqs, self._marks.get(org, 0))
        if place < len(seqs) and seqs[place] == self._marks.get(org):
            run.marked_time_max = int(latest[place])
        run.operations += len(seqs) - batch.column("body").null_count
        run.leaves += b"".join(leaf or bytes(32) for leaf in leaves)
        ours = pc.if_else(pc.is_null(batch.column("payer")), batch.column("cost_pico"), 0)
        costs = pc.fill_null(ours, 0).to_pylist()
        adjusts = pc.equal(batch.column("kind"), ADJUSTMENT).to_numpy(zero_copy_only=False)
        for at in np.flatnonzero(adjusts).tolist():
            request = _adjustment(batch.column("body")[at].as_py())
            costs[at] = 0 if request is None else request.our_cost_pico
        run._costs += costs
        self._note_recorded(run, batch.column("recorded_at"), seqs)

    def _note_recorded(self, run: Run, column: pa.Array, seqs: Integers) -> None:
        """When the last entry of each transfer was recorded."""
        ends = np.array([one.seq for one in self._transfers.get(run.org_id, ())], dtype=np.int64)
        places = np.searchsorted(seqs, ends)
        sound = (places < len(seqs)) & (seqs[np.minimum(places, len(seqs) - 1)] == ends)
        for seq, at in zip(ends[sound].tolist(), column.take(pa.array(places[sound])).to_pylist(), strict=True):
            run._recorded[seq] = at.replace(tzinfo=UTC)

    def _expect_latest(self, run: Run, seq: int, time: int, latest: int, kind: str) -> None:
        due = run.last_time_max if kind == "correction" else max(run.last_time_max, time)
        if latest != due:
            self._add("time_max", "its time_max is not the latest time so far", run.org_id, seq)

    def _expect_through(self, run: Run, seq: int) -> None:
        """Everything before `seq` must have been there."""
        missing = seq - run._next_seq
        if missing > 0:
            which = "it is missing" if missing == 1 else f"it and the {missing - 1:,} after it are missing"
            self._add("sequence", which, run.org_id, run._next_seq)
            run.whole = False
            run._costs += [0] * missing

    def _check_transfers(self, run: Run) -> None:
        """Transfers tile the sequence, and each is the sum of its entries' costs."""
        covered, costs = run.first_seq - 1, run._costs
        for one in self._transfers.get(run.org_id, ()):
            amount_pico = _signed(one)
            if amount_pico is None:
                what = f"it has a transfer from {one.credit_account} to {one.debit_account} in {one.asset}"
                self._add("transfer", what, run.org_id, one.seq)
                continue
            if one.first_seq != covered + 1 and (one.first_seq >= run.first_seq or covered >= run.first_seq):
                what = (
                    f"a transfer covers entries {one.first_seq} to {one.seq}, and the one before it ends at {covered}"
                )
                self._add("transfer", what, run.org_id, min(one.first_seq, covered + 1))
            begin, end = max(one.first_seq, run.first_seq), min(one.seq, run.last_seq)
            covered = max(covered, end)
            total = sum(costs[begin - run.first_seq : end - run.first_seq + 1])
            if one.first_seq < run.first_seq or one.seq > run.last_seq:
                run.open_transfers.append(OpenTransfer(one.first_seq, one.seq, amount_pico, total))
            elif total != amount_pico and run.whole:
                what = f"entries {one.first_seq} to {one.seq} cost {total} pico-USD, their transfer is {amount_pico}"
                self._add("transfer", what, run.org_id, one.seq)
            recorded = run._recorded.get(one.seq)
            if recorded is not None and recorded != one.recorded_at:
                self._add("transfer", "its transfer was not recorded when it was", run.org_id, one.seq)
        if covered < run.last_seq:
            self._add("transfer", "it is in no transfer", run.org_id, covered + 1)
        run._costs, run._recorded = [], {}

    # ── rows by themselves ──────────────────────────────────────────────────────────────────────────────────────────

    def _check_fingerprints(self, batch: pa.RecordBatch, computed: list[bytes | None]) -> None:
        stored = batch.column("fingerprint").to_pylist()
        if computed == stored and not self._erased:
            return
        gone = personal_is_gone(batch).to_pylist()
        orgs, seqs = batch.column("org_id").to_pylist(), batch.column("seq").to_pylist()
        for place, fingerprint in enumerate(computed):
            org, seq = orgs[place], seqs[place]
            recorded = (org, seq) in self._erased
            if fingerprint == stored[place]:
                if recorded:
                    what = "its erasure is recorded and its personal data is here; erase the person again"
                    self._findings.add("erasure", what, org, seq, self._people)
            elif fingerprint is not None or not gone[place]:
                self._findings.add(
                    "fingerprint",
                    "its fingerprint does not open: the fact or the person was changed",
                    org,
                    seq,
                    self._people,
                )
            elif not recorded:
                self._findings.add(
                    "erasure", "its personal data is gone and no erasure is recorded", org, seq, self._people
                )
            else:
                self._expected[org].erased += 1

    def _check_form(self, batch: pa.RecordBatch) -> None:
        """What the hashes do not cover, because it has one form only: members that are always there, or never."""
        for place in np.flatnonzero(malformed(batch)).tolist():
            org, seq = batch.column("org_id")[place].as_py(), batch.column("seq")[place].as_py()
            self._add("form", "it is not written as an entry of its kind is: a column was changed", org, seq)

    def _check_corrections(self, batch: pa.RecordBatch) -> None:
        mask = pc.equal(batch.column("kind"), "correction")
        if not pc.any(mask).as_py():
            return
        rows = batch.select(["org_id", "seq", "refers_to_seq", "request_id", "time", "payer"]).filter(mask)
        corrections = [Correction(*row.values()) for row in rows.to_pylist()]
        referred_to = self._referred_to([(one.org_id, one.refers_to_seq) for one in corrections])
        for one in corrections:
            referred = referred_to[one.org_id, one.refers_to_seq]
            if referred is None:
                what = f"it corrects entry {one.refers_to_seq}, which is neither in the database nor in a block"
                self._add("correction", what, one.org_id, one.seq)
            else:
                self._expect_original(one, referred)

    def _expect_original(self, one: Correction, referred: ReferredRow) -> None:
        mine = (one.request_id, one.time.astimezone(UTC), one.payer)
        same = mine == (referred.request_id, referred.time.astimezone(UTC), referred.payer)
        if (referred.kind, referred.status) != ("usage", "unpriced") or not same or one.refers_to_seq >= one.seq:
            what = f"it corrects entry {one.refers_to_seq}, which is not an unpriced one of the same request"
            self._add("correction", what, one.org_id, one.seq)

    def _check_adjustments(self, batch: pa.RecordBatch) -> None:
        """Those that refer to an entry: that it is usage of the same time, and paid by the same."""
        mask = pc.and_(pc.equal(batch.column("kind"), ADJUSTMENT), pc.is_valid(batch.column("refers_to_seq")))
        if not pc.any(mask).as_py():
            return
        columns = ("org_id", "refers_to_seq", "seq", "time", "body")
        rows = [batch.filter(mask).column(name).to_pylist() for name in columns]
        referred_to = self._referred_to(list(zip(*rows[:2], strict=True)))
        for org_id, refers_to_seq, seq, time, body in zip(*rows, strict=True):
            referred, request = referred_to[org_id, refers_to_seq], _adjustment(body)
            if referred is None:
                what = f"it adjusts entry {refers_to_seq}, which is neither in the database nor in a block"
                self._add("adjustment", what, org_id, seq)
                continue
            mine = ("usage", time.astimezone(UTC), None if request is None else request.payer)
            theirs = (referred.kind, referred.time.astimezone(UTC), referred.payer or "seller")
            if mine != theirs or refers_to_seq >= seq:
                what = f"it adjusts entry {refers_to_seq}, which is not usage of the same time and payer"
                self._add("adjustment", what, org_id, seq)

    def _referred_to(self, places: Sequence[Place]) -> dict[Place, ReferredRow | None]:
        """The entries at these places, from the database or their blocks; None of one that is in neither."""
        with self._database.operator() as connection:
            found = read_entries_at(connection, places)
        return {place: found.get(place) or self._archived(*place) for place in places}

    def _archived(self, org_id: str, seq: int) -> ReferredRow | None:
        """An entry that has left the database, from its block."""
        with self._database.operator() as connection:
            blocks = blocks_of_org(connection, org_id, seq, seq)
        for block in blocks:
            with suppress(BadInput):  # a file that cannot be read is named where the block is checked
                main = self._blocks / block.path
                for batch in iterate_org(main, people_path(main), org_id, seq, seq):
                    for entry in batch_entries(batch):
                        return ReferredRow(entry.kind, entry.status, entry.request_id, entry.time, entry.payer)
        return None

    def _name_differences(
        self, check: str, what: str, batch: pa.RecordBatch, computed: Sequence[Any], stored: Sequence[Any]
    ) -> None:
        for place in range(batch.num_rows):
            if computed[place] != stored[place]:
                self._add(check, what, batch.column("org_id")[place].as_py(), batch.column("seq")[place].as_py())

    def _add(self, check: str, detail: str, org_id: str, seq: int) -> None:
        self._findings.add(check, detail, org_id, seq, self._file)


def _runs(orgs: pa.Array) -> Iterable[tuple[str, int]]:
    """Each run of one org and its length."""
    encoded = pc.run_end_encode(orgs)
    start = 0
    for org, end in zip(encoded.values.to_pylist(), encoded.run_ends.to_pylist(), strict=True):
        yield org, end - start
        start = end


def _adjustment(body: str | None) -> Adjust | None:
    """What an adjustment's body says; None where it cannot be read, which is named where accounts are checked."""
    try:
        request: Adjust = read_body(ADJUSTMENT, body or "")[0]
    except ValueError:
        return None
    return request


def _signed(transfer: TransferRow) -> int | None:
    """What a transfer says that its entries cost: below nothing where it is turned round. None of any other."""
    accounts = (transfer.debit_account, transfer.credit_account, transfer.asset)
    if accounts == _TURNED and transfer.amount_pico > 0:
        return -transfer.amount_pico
    return transfer.amount_pico if accounts == _EXPECTED else None


def _microseconds(column: pa.Array) -> Integers:
    found: Integers = column.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    return found
