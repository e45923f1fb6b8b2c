"""Putting checked runs together: each org's sequence from 1 to its head, its tree, its times and its transfers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tallystick.app.verify_entries import OpenTransfer, Run
from tallystick.app.verify_report import Findings
from tallystick.invoice.proof_entries import TIME_MAX_FIRST
from tallystick.journal.sealing import SealedRange
from tallystick.journal.verify_rows import HeadRow
from tallystick.ledger.merkle import HASH_BYTES, Frontier

_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class OrgState:
    """How far an org's entries were checked. It is not `whole` once an entry was missing: no root can match then."""

    tree: Frontier = field(default_factory=Frontier)
    whole: bool = True
    seq: int = 0
    sealed: int = 0
    time_max: int = (TIME_MAX_FIRST - _EPOCH) // _MICROSECOND
    forgotten_time_max: int | None = None
    transfer: OpenTransfer | None = None


class OrgChecker:
    """Takes runs in the order in which blocks were sealed, then those of unsealed entries.

    Args:
        heads: where each org stands, at the moment of which the check speaks.
        findings: where to note what is wrong.
        roots: of each org the roots that something states of its tree, by size; `wanted` says by whom.
    """

    def __init__(self, heads: Iterable[HeadRow], findings: Findings) -> None:
        self._heads = {head.org_id: head for head in heads}
        self._findings = findings
        self._states: dict[str, OrgState] = defaultdict(OrgState)
        self._wanted: dict[str, dict[int, list[tuple[bytes, str]]]] = defaultdict(dict)

    def want_root(self, org_id: str, size: int, root: bytes, by: str) -> None:
        """Something states the root of the org's tree at that size; `by` names it in a sentence."""
        self._wanted[org_id].setdefault(size, []).append((root, by))

    def sealed_until(self, org_id: str) -> int:
        """The org's last sealed entry, as far as blocks were taken."""
        return self._states[org_id].sealed

    def expect_range(self, block: int, path: str, sealed: SealedRange) -> None:
        """A block's range continues where the org's last one ended."""
        state = self._states[sealed.org_id]
        if sealed.first_seq != state.sealed + 1:
            what = f"block {block} begins at entry {sealed.first_seq}, and sealing had come to {state.sealed}"
            self._findings.add("block_orgs", what, sealed.org_id, sealed.first_seq, path)
        state.sealed = sealed.last_seq

    def take(self, run: Run, sealed: SealedRange | None, file: str | None) -> None:
        """The next run of an org, and what its block says of it."""
        state = self._states[run.org_id]
        if run.first_seq != state.seq + 1:
            state.whole = False
        self._expect_times(state, run, file)
        self._join_transfers(state, run)
        state.whole &= run.whole and len(run.leaves) == HASH_BYTES * (run.last_seq - run.first_seq + 1)
        if state.whole:
            self._grow(state, run)
        state.seq = run.last_seq
        if run.marked_time_max is not None:
            state.forgotten_time_max = run.marked_time_max
        if sealed is not None and state.whole:
            frontier = state.tree.to_bytes()
            if (state.tree.root(), frontier) != (sealed.root, sealed.frontier):
                what = f"the tree of its first {run.last_seq} entries does not have the root recorded for its block"
                self._findings.add("tree_root", what, run.org_id, run.last_seq, file)

    def finish(self) -> None:
        """Every run was taken: each org must have come to its head."""
        for org, head in self._heads.items():
            state = self._states[org]
            if state.seq != head.last_seq:
                what = f"its entries end at {state.seq}, and its head says {head.last_seq}"
                self._findings.add("head", what, org, min(state.seq, head.last_seq) + 1)
            elif _micros(head.time_max) != state.time_max:
                self._findings.add("head", "its head's time_max is not that of its last entry", org, head.last_seq)
            self._expect_forgotten(head, state)
            if head.last_kept is not None and head.last_kept > head.last_seq:
                what = f"there are entries up to {head.last_kept}, and its head says {head.last_seq}"
                self._findings.add("head", what, org, head.last_seq + 1)
            if state.transfer is not None:
                what = f"a transfer covers entries up to {state.transfer.seq}, which are not there"
                self._findings.add("transfer", what, org, state.transfer.seq)
        for org, sizes in self._wanted.items():
            for size, stated in sizes.items():
                for _, by in stated:
                    if self._states[org].seq < size:
                        self._findings.add("tree_root", f"{by} states a tree of {size} entries", org, size)

    def _expect_times(self, state: OrgState, run: Run, file: str | None) -> None:
        if run.first_time is None:
            return
        if run.first_time_max != max(state.time_max, run.first_time) and state.whole:
            self._findings.add(
                "time_max", "its time_max is not the latest time so far", run.org_id, run.first_seq, file
            )
        state.time_max = run.last_time_max

    def _join_transfers(self, state: OrgState, run: Run) -> None:
        """Put together the transfers that reach over the end of a run."""
        for one in run.open_transfers:
            begun = state.transfer
            if one.first_seq < run.first_seq and begun is not None and begun.seq == one.seq:
                one.sum_pico += begun.sum_pico
            state.transfer = one if one.seq > run.last_seq else None
            if state.transfer is None and one.sum_pico != one.amount_pico and state.whole and run.whole:
                what = (
                    f"entries {one.first_seq} to {one.seq} cost {one.sum_pico} pico-USD, "
                    f"their transfer is {one.amount_pico}"
                )
                self._findings.add("transfer", what, run.org_id, one.seq)

    def _grow(self, state: OrgState, run: Run) -> None:
        """Add the run's leaves, stopping where a root is stated."""
        leaves = memoryview(run.leaves)
        wanted = self._wanted.get(run.org_id, {})
        sizes = sorted(size for size in wanted if run.first_seq <= size < run.last_seq)
        begin = run.first_seq - 1
        for size in [*sizes, run.last_seq]:
            first = begin - run.first_seq + 1
            part = leaves[first * HASH_BYTES : (size - run.first_seq + 1) * HASH_BYTES]
            state.tree.extend(bytes(part[at : at + HASH_BYTES]) for at in range(0, len(part), HASH_BYTES))
            begin = size
            for root, by in wanted.get(size, ()):
                if state.tree.root() != root:
                    what = f"the tree of its first {size} entries does not have the root that {by} states"
                    self._findings.add("tree_root", what, run.org_id, size)

    def _expect_forgotten(self, head: HeadRow, state: OrgState) -> None:
        """What has left the database is sealed, and the head knows until when."""
        first = head.first_kept if head.first_kept is not None else head.last_seq + 1
        if first > state.sealed + 1:
            what = f"its entries before {first} are not in the database, and sealing had come to {state.sealed}"
            self._findings.add("sequence", what, head.org_id, state.sealed + 1)
        due = TIME_MAX_FIRST if first == 1 else _instant((state.forgotten_time_max or 0) + 1)
        if head.forgotten_until != due and (first == 1 or state.forgotten_time_max is not None):
            what = (
                "rows were taken away: its first entries are not in the database, and it was not retention that did it"
                if head.forgotten_until < due
                else "its head says that entries have left the database, and they are there"
            )
            self._findings.add("head", what, head.org_id, 1)


def last_forgotten(heads: Iterable[HeadRow]) -> Mapping[str, int]:
    """Of each org whose first entries have left the database, the last one that has."""
    first = {head.org_id: head.last_seq + 1 if head.first_kept is None else head.first_kept for head in heads}
    return {org: seq - 1 for org, seq in first.items() if seq > 1}


def _micros(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND


def _instant(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND
