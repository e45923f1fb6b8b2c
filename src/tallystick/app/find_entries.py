"""The entries of one org that belong to one story: a request, its hold, what became of it, and what refers to that.

    hold ── settlement, release, expiry ── refunds ── credits granted again
      │         └── usage that it names ── corrections
      └── further attempts and denials under the same request id

Each round reads what the entries of the round before point to, by indexes; where some of them have left the database,
from the org's blocks too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, Final

from tallystick.app.entries import stream_entries
from tallystick.app.gateway_calls import ATTEMPTS_MAX, attempt_id
from tallystick.app.history import FOR_EVER, SINCE_EVER
from tallystick.app.runtime import Runtime
from tallystick.app.seal import block_store
from tallystick.journal.accounts import entries_referring
from tallystick.journal.find import blocks_left, entries_at, head_of, named, settlements_of
from tallystick.ledger.entry import Entry
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.request_checks import SETTLE_EVENTS_MAX

ENTRIES_MAX: Final = 5_000
"""A settlement of as many events as it may bring, each corrected, has two thousand."""
_PARTS_MAX = 20
"""Into how many samplings that are billed by themselves an answer is taken apart at most, where nothing names them."""
_ATTEMPT = re.compile(r"~[0-9]+$")
_PART = re.compile(r"/[0-9]+$")
_Progress = Callable[[int], object]


class StoryEntries:
    """See the module. Entries stay as they were when they were read; each round is a transaction of its own."""

    def __init__(self, runtime: Runtime, org_id: str, advance: _Progress = lambda _: None) -> None:
        self.entries: dict[int, Entry] = {}
        self._runtime = runtime
        self._org_id = org_id
        self._advance = advance
        self._seeds: set[int] = set()
        self._seen: set[int] = set()
        self._referred: set[int] = set()
        self._families: set[str] = set()
        self._alone: set[str] = set()
        self._usage_ids: set[str] = set()
        self._grant_ids: set[str] = set()
        self._last_seq, self._kept_from = 0, 1
        self._scanned: tuple[set[str], set[int]] = (set(), set())

    def gather(self, seeds: Collection[int]) -> list[Entry]:
        """All that belongs to these entries, they themselves included, in the order of the ledger.

        Raises:
            Conflict: `entries_missing`.
            BadInput: `missing_block`, `broken_block`.
            Unavailable: `database_unreachable`.
        """
        with self._runtime.database.org(self._org_id) as connection:
            self._last_seq, self._kept_from = head_of(connection, self._org_id)
        self._seeds |= set(seeds)
        next_seqs = {seq for seq in seeds if 1 <= seq <= self._last_seq}
        while next_seqs and len(self.entries) < ENTRIES_MAX:
            next_seqs = self._round(sorted(next_seqs)[:ENTRIES_MAX])
        return [self.entries[seq] for seq in sorted(self.entries)]

    # ── a round ─────────────────────────────────────────────────────────────────────────────────

    def _round(self, seqs: list[int]) -> set[int]:
        self._seen |= set(seqs)
        new = [entry for entry in self.read(seqs) if self._belongs(entry)]
        self.entries |= {entry.seq: entry for entry in new}
        self._referred |= {entry.refers_to_seq for entry in new if entry.refers_to_seq is not None}
        usage = [entry for entry in new if entry.kind == "usage"]
        settled = self._settlements(usage)
        # Usage that a settlement names is found with its hold; else its own id is all that there is.
        alone = {entry.request_id for entry in usage if entry.seq not in settled}
        self._alone |= alone
        ids = set[str]().union(*(self._family(_base(one)) for one in alone), *map(self._ids_of, new), self._parts())
        refers = {entry.seq for entry in new}
        found = self._found(ids, refers, with_blocks=any(entry.seq < self._kept_from for entry in new))
        return (self._referred | set(settled.values()) | found) - self._seen

    def _parts(self) -> set[str]:
        """The ids of the parts of answers whose holds were over: no settlement names them."""
        held = {entry.request_id for entry in self.entries.values() if entry.kind == "hold"} & self._alone
        self._alone -= held
        return {f"{one}/{number}" for one in held for number in range(2, _PARTS_MAX + 1)}

    def _belongs(self, entry: Entry) -> bool:
        """Whether an entry that bears a name we looked for is one that we looked for."""
        if entry.seq in self._seeds or entry.refers_to_seq is not None or entry.seq in self._referred:
            return True
        match entry.kind:
            case "usage":
                return entry.request_id in self._usage_ids or _base(_PART.sub("", entry.request_id)) in self._families
            case "hold" | "denial":
                return _base(entry.request_id) in self._families
            case "grant":
                return entry.request_id in self._grant_ids
        return False

    def _ids_of(self, entry: Entry) -> set[str]:
        """Under which request ids more of the story may stand."""
        match entry.kind:
            case "hold" | "denial":
                return self._family(_base(entry.request_id))
            case "settlement" | "release" | "expiry" | "refund":
                request, result = read_body(entry.kind, entry.body or "")
                events = set(getattr(request, "events", ()))
                self._usage_ids |= events
                again: set[str] = set()
                if getattr(result, "expired_pico", 0):
                    own = operation_id(entry.kind, entry.seq)
                    again = {f"{own}.{operation_id('grant', lot.grant_seq)}" for lot in result.returned}
                    self._grant_ids |= again
                return events | again
        return set()

    def _family(self, base: str) -> set[str]:
        """The ids under which the gateway takes a request, however often it was attempted."""
        if base in self._families:
            return set()
        self._families.add(base)
        return {attempt_id(base, number) for number in range(1, ATTEMPTS_MAX + 1)}

    # ── reading ─────────────────────────────────────────────────────────────────────────────────

    def read(self, seqs: list[int]) -> list[Entry]:
        """These entries, wherever they are; raises as `gather`."""
        with self._runtime.database.org(self._org_id) as connection:
            found = entries_at(connection, self._org_id, seqs)
        here = {entry.seq for entry in found}
        for seq in seqs:
            if seq not in here:
                found += stream_entries(self._runtime, self._org_id, seq, seq)
        return found

    def _found(self, ids: set[str], refers: set[int], *, with_blocks: bool) -> set[int]:
        with self._runtime.database.operator() as connection:
            seqs = {seq for _, seq in named(connection, [self._org_id], ids)} if ids else set()
        with self._runtime.database.org(self._org_id) as connection:
            seqs |= {entry.seq for entry in entries_referring(connection, self._org_id, sorted(refers))}
        return seqs | (self._in_blocks(ids, refers) if with_blocks else set())

    def _in_blocks(self, ids: set[str], refers: set[int]) -> set[int]:
        from tallystick.archive.find_rows import rows_named

        asked_ids, asked_refers = self._scanned
        ids, refers = ids - asked_ids, refers - asked_refers
        asked_ids |= ids
        asked_refers |= refers
        if not ids and not refers:
            return set()
        with self._runtime.database.operator() as connection:
            blocks = blocks_left(connection, self._org_id, SINCE_EVER, FOR_EVER)
        store = block_store(self._runtime.settings)
        found: set[int] = set()
        for block in blocks:
            found |= {seq for _, seq in rows_named(store.main(block.path), self._org_id, ids, refers)}
            self._advance(block.entries)
        return found

    def _settlements(self, usage: list[Entry]) -> dict[int, int]:
        """The settlement whose work each of these events is, of those that are any's."""
        here = {entry.seq: entry for entry in usage if entry.seq >= self._kept_from}
        found: dict[int, int] = {}
        if here:
            with self._runtime.database.org(self._org_id) as connection:
                near = settlements_of(connection, self._org_id, list(here))
                maybe = {seq for seq, is_sure in near.values() if seq is not None and not is_sure}
                bodies = {one.seq: one for one in entries_at(connection, self._org_id, maybe)}
            for seq, (settlement, is_sure) in near.items():
                if settlement is not None and (is_sure or _names(bodies.get(settlement), here[seq].request_id)):
                    found[seq] = settlement
        for entry in usage:
            if entry.seq not in here:
                follows = self._next_operation(entry.seq)
                if follows is not None and _names(follows, entry.request_id):
                    found[entry.seq] = follows.seq
        return found

    def _next_operation(self, seq: int) -> Entry | None:
        last = min(self._last_seq, seq + 2 * SETTLE_EVENTS_MAX)
        if seq >= last:
            return None
        following = stream_entries(self._runtime, self._org_id, seq + 1, last)
        return next((one for one in following if one.body is not None), None)


def _base(request_id: str) -> str:
    """The id of a request's first attempt."""
    return _ATTEMPT.sub("", request_id)


def _names(entry: Entry | None, request_id: str) -> bool:
    if entry is None or entry.kind != "settlement":
        return False
    request: Any = read_body("settlement", entry.body or "")[0]
    return request_id in request.events
