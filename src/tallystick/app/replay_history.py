"""Replay of the sealed history: every cost in the blocks of a time computed again, and compared to the last bit.

A block whose file is not the sealed one, byte for byte, is refused: what it says is of no interest. What no block
holds yet is not looked at; `tally verify` and the replay of an invoice read the database too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from tallystick.app.orgs import find_org
from tallystick.app.runtime import Runtime
from tallystick.app.seal import block_store
from tallystick.archive.store import file_sha256
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.instants import format_instant
from tallystick.journal.sealing import blocks_of_org, list_blocks

if TYPE_CHECKING:
    from tallystick.archive.replay import BlockReplay, Wanted
    from tallystick.archive.replay_rows import EntryDifference
    from tallystick.rates.card import RateCard

DIFFERENCES_MAX = 1000
"""How many differences a report spells out; all are counted."""
_MEMORY_MB = 1024
_SEQ_MAX = 2**63 - 1

Progress = Callable[[int], object]


class HistoryBlock(NamedTuple):
    """A sealed block that may hold wanted entries."""

    path: Path
    file_sha256: bytes
    entries: int


class RefusedBlock(NamedTuple):
    """A block that was not replayed, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class HistoryReport:
    """What a replay of the history found; `identical` only when nothing differs and no block was refused.

    Attributes:
        start: the first instant of the time, in UTC.
        end: the first instant after it.
        org_id: the one org that was looked at; None for all.
        blocks: how many blocks were replayed.
        entries: how many entries of them were, corrections and operations included.
        corrections: how many of them are corrections.
        operations: how many of them are operations on orgs' accounts: they have no price, and none was computed.
        one_by_one: how many had to be priced one by one.
        refused: the blocks that were not replayed.
        difference_count: how many differences there are.
        differences: the first `DIFFERENCES_MAX` of them.
    """

    start: datetime
    end: datetime
    org_id: str | None
    blocks: int = 0
    entries: int = 0
    corrections: int = 0
    operations: int = 0
    one_by_one: int = 0
    refused: list[RefusedBlock] = field(default_factory=list)
    difference_count: int = 0
    differences: list[EntryDifference] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether everything was replayed, and nothing differs."""
        return not self.difference_count and not self.refused

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return {
            "from": format_instant(self.start),
            "to": format_instant(self.end),
            "org_id": self.org_id,
            "identical": self.identical,
            "blocks": self.blocks,
            "entries": self.entries,
            "corrections": self.corrections,
            "operations": self.operations,
            "one_by_one": self.one_by_one,
            "refused": [one._asdict() for one in self.refused],
            "difference_count": self.difference_count,
            "differences": [
                {name: getattr(one, name) for name in one.__dataclass_fields__} for one in self.differences
            ],
        }


def history_blocks(runtime: Runtime, start: datetime, end: datetime, org_id: str | None = None) -> list[HistoryBlock]:
    """The sealed blocks with entries of the time [start, end), of one org or of all.

    Raises:
        BadInput: `invalid_period`.
        NotFound: `unknown_org`.
        Unavailable: `database_unreachable`.
    """
    if start >= end:
        raise BadInput(
            "invalid_period",
            f"{format_instant(start)} is not before {format_instant(end)}",
            next_step="give the first instant of the time, and the first one after it",
            where="--to",
        )
    if org_id is not None:
        find_org(runtime, org_id)
    store = block_store(runtime.settings)
    with runtime.database.operator() as connection:
        blocks = [one for one in list_blocks(connection) if one.time_min < end and start <= one.time_max]
        if org_id is not None:
            of_org = {one.block for one in blocks_of_org(connection, org_id, 1, _SEQ_MAX)}
            blocks = [one for one in blocks if one.block in of_org]
    return [HistoryBlock(store.main(one.path), one.file_sha256, one.entries) for one in blocks]


def replay_history(
    runtime: Runtime,
    start: datetime,
    end: datetime,
    org_id: str | None = None,
    *,
    blocks: Sequence[HistoryBlock] | None = None,
    hashed: Progress | None = None,
    progress: Progress | None = None,
) -> HistoryReport:
    """Compute every sealed cost of the time [start, end) again, and report each that is not as recorded.

    Args:
        start: the first instant.
        end: the first instant after the time.
        org_id: only this org's entries.
        blocks: what `history_blocks` gave for the same time and org, when it is known already.
        hashed: called with the number of blocks whose files were hashed since the last call.
        progress: called with the number of entries replayed since the last call.

    Raises:
        NotFound: `unknown_org`.
        BadInput: `invalid_period`; `broken_block`: a block is as it was sealed, and yet no block.
        Unavailable: `database_unreachable`.
    """
    from tallystick.archive.replay import Wanted
    from tallystick.archive.replay_memory import keep_freed_memory

    keep_freed_memory()
    report = HistoryReport(start, end, org_id)
    found = history_blocks(runtime, start, end, org_id) if blocks is None else blocks
    files = _sound(found, report, hashed)
    report.blocks = len(files)
    with _engine(runtime) as engine:
        _run(engine, files, Wanted(start, end, org_id), report, progress)
    return report


def _run(
    engine: BlockReplay,
    files: Sequence[Path],
    wanted: Wanted,
    report: HistoryReport,
    progress: Progress | None,
) -> None:
    for part in engine.run(files, wanted):
        report.entries += part.entries
        report.corrections += part.corrections
        report.operations += part.operations
        report.one_by_one += part.one_by_one
        report.difference_count += len(part.differences)
        report.differences += part.differences[: DIFFERENCES_MAX - len(report.differences)]
        if progress is not None:
            progress(part.entries)


def _sound(blocks: Sequence[HistoryBlock], report: HistoryReport, hashed: Progress | None) -> list[Path]:
    """The blocks whose files are the sealed ones; the others are refused."""

    def fault(block: HistoryBlock) -> str | None:
        try:
            found = file_sha256(block.path)
        except FileNotFoundError:
            return "the file is missing"
        if found != block.file_sha256:
            return f"its SHA-256 is {found.hex()}, and {block.file_sha256.hex()} was sealed"
        return None

    files = []
    with ThreadPoolExecutor(_threads()) as pool:
        for block, reason in zip(blocks, pool.map(fault, blocks), strict=True):
            if reason is None:
                files.append(block.path)
            else:
                report.refused.append(RefusedBlock(str(block.path), reason))
            if hashed is not None:
                hashed(1)
    return files


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _engine(runtime: Runtime) -> Iterator[BlockReplay]:
    from tallystick.archive.replay import BlockReplay

    @cache
    def known(version: str) -> RateCard | NotFound:
        try:
            return runtime.cards.at(version)
        except NotFound:
            runtime.reload_cards()  # another process may have loaded it since
        try:
            return runtime.cards.at(version)
        except NotFound as error:
            return error

    def card_of(version: str) -> RateCard:
        found = known(version)
        if isinstance(found, NotFound):
            raise found
        return found

    meters = runtime.cards.minimum_meters()
    with (
        TemporaryDirectory(prefix="tally-replay-") as folder,
        BlockReplay(card_of, meters, threads=_threads(), memory_mb=_MEMORY_MB, temporary=Path(folder)) as replay,
    ):
        yield replay
