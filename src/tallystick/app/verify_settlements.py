"""Checking what settlements say that their work cost: the sum of the usage that each of them names.

What a `cost_plus` action is charged follows from that sum, so it is added up again from the entries themselves, as
those before the settlement have it. They are looked up many at a time: in the database first, then, those that have
left it, in the org's blocks. Usage is the work of one settlement, and comes after its hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tallystick.app.verify_report import Findings
from tallystick.core.errors import BadInput
from tallystick.journal.database import Connection
from tallystick.journal.sealing import blocks_of_org
from tallystick.journal.usage_costs import (
    Correction,
    UsageCost,
    read_corrections,
    read_settled_usage,
    read_usage_costs,
    usage_cost,
)
from tallystick.ledger.operations import Settle, Settled
from tallystick.ledger.usage_claims import UsageClaims

ASKED_MAX = 5000
"""How many request ids one query looks up, and settlements that name them: about so many."""
SEARCHED_MAX = 100_000
"""How many request ids are looked for in blocks at once: each time, the org's blocks are read."""


class _Said(NamedTuple):
    """A settlement.

    Attributes:
        previous_seq: the operation before it, of any kind: what is between them may be what it has brought.
        free_environments: those whose usage does not count.
        events: the request ids of its usage.
        cost_pico, priced: what it says that cost in pico-USD, and whether all of it has a price.
    """

    seq: int
    previous_seq: int
    hold_seq: int
    free_environments: frozenset[str]
    events: tuple[str, ...]
    cost_pico: int
    priced: bool


class SettledCosts:
    """The settlements of one org, in their order.

    Args:
        connection: a snapshot, an operator's.
        blocks: the folder of blocks.
        archived_seq: the org's last entry that has left the database.
        findings: where to note what is wrong.
    """

    def __init__(
        self, connection: Connection, blocks: Path, org_id: str, archived_seq: int, findings: Findings
    ) -> None:
        self._connection = connection
        self._blocks = blocks
        self._org = org_id
        self._archived_seq = archived_seq
        self._findings = findings
        self._asked: list[_Said] = []
        self._asked_ids = 0
        self._searched: list[tuple[_Said, dict[str, UsageCost]]] = []
        self._searched_ids = 0
        self._claims = UsageClaims()
        self._rows: dict[int, int] = {}  # that the table of settled usage should have
        self._is_whole = True

    def add(
        self, seq: int, previous_seq: int, free_environments: frozenset[str], request: Settle, result: Settled
    ) -> None:
        """The org's next settlement.

        Args:
            previous_seq: the place of the operation before it.
            free_environments: those whose usage does not count (`settlement_charge.free_environments`).
        """
        said = _Said(
            seq, previous_seq, request.hold_seq, free_environments, request.events, result.cost_pico, result.priced
        )
        self._asked.append(said)
        self._asked_ids += len(request.events)
        if self._asked_ids + len(self._asked) >= ASKED_MAX:
            self._ask()

    def finish(self) -> None:
        """There are no more."""
        self._ask()
        self._search()
        if self._is_whole:
            self._check_table()

    def _ask(self) -> None:
        names = list(dict.fromkeys(name for said in self._asked for name in said.events))
        stored = read_usage_costs(self._connection, self._org, names) if names else {}
        for said in self._asked:
            # An id may have come again, with other usage, since its entry has left.
            found = {name: stored[name] for name in said.events if name in stored and stored[name].seq < said.seq}
            if len(found) < len(said.events) and self._archived_seq:
                self._searched.append((said, found))
                self._searched_ids += len(said.events)
            else:
                self._compare(said, found)
        self._asked, self._asked_ids = [], 0
        if self._searched_ids >= SEARCHED_MAX:
            self._search()

    def _search(self) -> None:
        names = {name for said, found in self._searched for name in said.events if name not in found}
        try:
            archived = self._archived(names) if names else {}
        except BadInput:  # a file that cannot be read is named where the block is checked
            self._is_whole = False
        else:
            for said, found in self._searched:
                for name in said.events:
                    before = [one for one in archived.get(name, ()) if one.seq < said.seq]
                    if name not in found and before:
                        found[name] = before[-1]
                self._compare(said, found)
        self._searched, self._searched_ids = [], 0

    def _archived(self, names: set[str]) -> dict[str, list[UsageCost]]:
        from tallystick.archive.usage_rows import iterate_usage

        archived: dict[str, list[UsageCost]] = {}
        corrections: dict[int, Correction] = {}
        for block in blocks_of_org(self._connection, self._org, 1, self._archived_seq):
            path = self._blocks / block.path
            for name, seq, cost_pico, payer, environment, refers_to_seq in iterate_usage(
                path, self._org, self._archived_seq, names
            ):
                if refers_to_seq is None:
                    archived.setdefault(name, []).append(usage_cost(seq, cost_pico, payer, environment))
                else:
                    corrections[refers_to_seq] = Correction(seq, cost_pico)
        unpriced = {one.seq for costs in archived.values() for one in costs if one.cost_pico is None}
        corrections |= read_corrections(self._connection, self._org, unpriced - corrections.keys())
        return {
            name: [one._replace(correction=corrections.get(one.seq)) for one in costs]
            for name, costs in archived.items()
        }

    def _compare(self, said: _Said, found: dict[str, UsageCost]) -> None:
        missing = [name for name in said.events if name not in found]
        if missing:
            self._add(said, f"it names the usage {missing[0]!r}, of which there is no entry before it")
            return
        counted = [one for one in found.values() if one.environment not in said.free_environments]
        costs = [one.known_before(said.seq) for one in counted]
        due_pico, priced = sum([cost or 0 for cost in costs]), None not in costs
        if (due_pico, priced) != (said.cost_pico, said.priced):
            unpriced = "" if said.priced == priced else ", all with a price" if priced else ", not all with a price"
            self._add(
                said,
                f"it says that its usage cost {said.cost_pico} pico-USD, and the entries come to {due_pico}{unpriced}",
            )
        self._claim(said, found)

    def _claim(self, said: _Said, found: dict[str, UsageCost]) -> None:
        """That the usage is its hold's work, and no other's."""
        names = {one.seq: name for name, one in found.items()}
        for seq, owner in self._claims.add(said.seq, names):
            self._add(
                said, f"it names the usage {names[seq]!r}, entry {seq}, which is the work of the settlement {owner}"
            )
        for name, one in found.items():
            if one.seq < said.hold_seq:
                self._add(said, f"it names the usage {name!r}, entry {one.seq}, of before its hold {said.hold_seq}")
            if self._archived_seq < one.seq < said.previous_seq:
                self._rows.setdefault(one.seq, said.seq)

    def _check_table(self) -> None:
        """What was stored before a settlement names it has a row; what it may have brought itself may have one."""
        kept = read_settled_usage(self._connection, self._org)
        for seq in sorted(kept.keys() | self._rows.keys()):
            owner = kept.get(seq)
            due = self._claims.of(seq) if seq > self._archived_seq else None
            if owner is None:
                what = "is missing"
            elif owner != due:
                what = f"says {owner}, and the org's entries {due or 'know of none'}"
            else:
                continue
            self._findings.add("state", f"settled_usage: the settlement of the usage {seq} {what}", self._org, seq)

    def _add(self, said: _Said, what: str) -> None:
        self._findings.add("account", what, self._org, said.seq)
