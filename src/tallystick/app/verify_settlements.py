"""Checking what settlements say that their work cost: the sum of the usage that each of them names.

What a `cost_plus` action is charged follows from that sum, so it is added up again from the entries themselves. They
are looked up many at a time: in the database first, then, those that have left it, in the org's blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tallystick.app.verify_report import Findings
from tallystick.core.errors import BadInput
from tallystick.journal.database import Connection
from tallystick.journal.sealing import blocks_of_org
from tallystick.journal.usage_costs import UsageCost, read_usage_costs, usage_cost
from tallystick.ledger.operations import Settle, Settled

ASKED_MAX = 5000
"""How many request ids one query looks up, and settlements that name them: about so many."""
SEARCHED_MAX = 100_000
"""How many request ids are looked for in blocks at once: each time, the org's blocks are read."""


class _Said(NamedTuple):
    """A settlement: the request ids of its usage, what it says that cost in pico-USD, whether all of it has a price."""

    seq: int
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

    def add(self, seq: int, request: Settle, result: Settled) -> None:
        """The org's next settlement."""
        self._asked.append(_Said(seq, request.events, result.cost_pico, result.priced))
        self._asked_ids += len(request.events)
        if self._asked_ids + len(self._asked) >= ASKED_MAX:
            self._ask()

    def finish(self) -> None:
        """There are no more."""
        self._ask()
        self._search()

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
        with suppress(BadInput):  # a file that cannot be read is named where the block is checked
            archived = self._archived(names) if names else {}
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
        for block in blocks_of_org(self._connection, self._org, 1, self._archived_seq):
            for name, *columns in iterate_usage(self._blocks / block.path, self._org, self._archived_seq, names):
                archived.setdefault(name, []).append(usage_cost(*columns))
        return archived

    def _compare(self, said: _Said, found: dict[str, UsageCost]) -> None:
        missing = [name for name in said.events if name not in found]
        if missing:
            self._add(said, f"it names the usage {missing[0]!r}, of which there is no entry before it")
            return
        due = _sum(found.values())
        if due != (said.cost_pico, said.priced):
            unpriced = "" if said.priced == due[1] else ", all with a price" if due[1] else ", not all with a price"
            self._add(
                said,
                f"it says that its usage cost {said.cost_pico} pico-USD, and the entries come to {due[0]}{unpriced}",
            )

    def _add(self, said: _Said, what: str) -> None:
        self._findings.add("account", what, self._org, said.seq)


def _sum(costs: Iterable[UsageCost]) -> tuple[int, bool]:
    kept = list(costs)
    return sum(one.cost_pico for one in kept), all(one.priced for one in kept)
