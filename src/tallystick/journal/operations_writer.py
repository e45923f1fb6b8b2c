"""The writer of operations: many of many orgs in one transaction, each exactly once, decided in the order they came.

    before any lock   which orgs there are                                  (those seen once are remembered)
    one transaction   lock the heads, in order of org, and read what the group is decided from (`operations.loaded`)
                      the state machine, operation by operation, in memory (`operations.decided`)
                      COPY the entries, usage of settlements among them (`operations.copied`); then transfers,
                      balances, heads, lots, holds, counters; commit, durably (`operations.committed`)
    after the commit  answers

The same operation again has the answer that it had first, which stands in its entry. What an operation is refused for
is an answer, too: it moves nothing, and harms none of the others. Before the first decision on an org in a group, what
is over ends: holds and lots whose life is over, each by an entry of its own; and the month's included credits come in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import NamedTuple

import psycopg

from tallystick.core.errors import TallyError
from tallystick.core.instants import Clock
from tallystick.journal.audit import record_operations, with_actor
from tallystick.journal.database import Connection
from tallystick.journal.disputes_group import DisputeGroup
from tallystick.journal.group_writer import GroupWriter, WriterState
from tallystick.journal.invoice_group import InvoiceGroup
from tallystick.journal.operations_asked import known_orgs, unknown_org
from tallystick.journal.operations_count import count_in_steps
from tallystick.journal.operations_counted import FarBehind
from tallystick.journal.operations_decide import Decider
from tallystick.journal.operations_load import ENDED_HOLDS_MAX, HoldCache
from tallystick.journal.operations_read import ManyEnded, Reader
from tallystick.journal.operations_save import save
from tallystick.journal.operations_usage import NotLookedFor
from tallystick.journal.steps import reached
from tallystick.journal.test_clocks import clocks_of
from tallystick.ledger.operations import Operation, Recorded
from tallystick.rates.pricing import RateCard

_INDEXES = ("ledger_entries_request", "ledger_entries_operation", "ledger_entries_resolved_once")
_OF_HOLDS = frozenset(("hold", "settlement", "release"))
_ORGS_REMEMBERED_MAX = 1_000_000
BUSY_CALLERS = 12
"""With fewer at once, handing an operation to another process takes longer than writers wait for each other."""


class Upkeep(NamedTuple):
    """Nobody's operation: end what is over in the org's account, and give what its plan includes this month."""

    org_id: str


class KeptUp(NamedTuple):
    """What came of it: how many entries were appended."""

    entries: int


Item = Operation | Upkeep
Answer = Recorded | KeptUp | TallyError
"""A `TallyError` is why an operation was refused."""


class OperationWork:
    """Writes groups of operations; see `journal.group_writer.Work`.

    Args:
        clock: the present instant: a group's operations are all recorded at one, but those of test orgs, which have
            clocks of their own.
        card: the newest rate card.
        random_bytes: where salts come from.
        retention: for how long entries stay in the database; None for ever.
    """

    name = "operations"

    def __init__(
        self,
        clock: Clock,
        card: Callable[[], RateCard],
        random_bytes: Callable[[int], bytes],
        retention: timedelta | None = None,
    ) -> None:
        self._clock = clock
        self._card = card
        self._random_bytes = random_bytes
        self._retention = retention
        self._cache = HoldCache()
        self._reader = Reader(self._cache)
        self._known: set[str] = set()
        self._tests: set[str] = set()

    def taken(self) -> None:
        reached("operations.taken")

    def answered(self) -> None:
        reached("operations.answered")

    def size(self, item: Item, /) -> int:
        return 1 + len(item.events) if isinstance(item, Operation) else 1

    def callers(self, _item: Item, /) -> int:
        return 1

    def nothing(self) -> Answer:
        raise RuntimeError("no operation comes to nothing")

    def stored_already(self, error: psycopg.Error, /) -> bool:
        return isinstance(error, psycopg.errors.UniqueViolation) and error.diag.constraint_name in _INDEXES

    def has_repeats(self, answers: Sequence[Answer], /) -> bool:
        return any(
            isinstance(answer, Recorded) and any(receipt.status != "accepted" for receipt in answer.usage)
            for answer in answers
        )

    def write(self, connection: Connection, items: Sequence[Item], /, *, probe: bool) -> list[Answer]:
        """Decide and store the items, in order; an answer for each.

        Args:
            connection: the writer's, outside of a transaction.
            items: in the order in which they came.
            probe: look for usage events that are stored already; operations are always looked for.

        Raises:
            psycopg.Error: nothing of the last transaction is known to be stored; writing the same again is safe.
        """
        orgs = self._existing(connection, {item.org_id for item in items})
        tests = orgs & self._tests
        if not tests:
            return self._write_parts(connection, items, self._clock(), probe=probe)
        clocks = clocks_of(connection, sorted(tests))
        connection.rollback()
        answers: dict[int, Answer] = {}
        for clock in (None, *sorted(set(clocks.values()))):  # what happens at one instant is written together
            places = [place for place, item in enumerate(items) if clocks.get(item.org_id) == clock]
            if places:
                at_once = [items[place] for place in places]
                now = self._clock() if clock is None else clock
                answers |= zip(places, self._write_parts(connection, at_once, now, probe=probe), strict=True)
        return [answers[place] for place in range(len(items))]

    def _write_parts(
        self, connection: Connection, items: Sequence[Item], now: datetime, *, probe: bool
    ) -> list[Answer]:
        answers: list[Answer] = []
        for part in _parts(items):
            answers += self._write(connection, part, now, probe=probe)
        return answers

    def _write(self, connection: Connection, items: Sequence[Item], now: datetime, *, probe: bool) -> list[Answer]:
        orgs = self._existing(connection, {item.org_id for item in items})
        if not orgs:
            connection.rollback()
            return [unknown_org(item.org_id) for item in items]
        existing = [item for item in items if item.org_id in orgs]
        try:
            found = self._reader.read(connection, existing, now, probe=probe)
        except FarBehind as far:
            connection.rollback()
            count_in_steps(connection, self._reader, far.org_id, now)
            return self._write(connection, items, now, probe=probe)
        except ManyEnded as many:
            connection.rollback()
            self._end_holds(connection, many.org_id, now)
            return self._write(connection, items, now, probe=probe)
        reached("operations.loaded")
        others = [one for one in existing if isinstance(one, Operation) and one.kind not in _OF_HOLDS]
        invoices = InvoiceGroup(connection, others, now)
        disputes = DisputeGroup(connection, others, now, invoices.left_of)
        common = (found, now, self._card(), self._random_bytes, self._cache, invoices, disputes)
        decider = Decider(*common, known_since=self._since(now))
        decider.prepare(items)
        try:
            answers = [_answer(decider, item) if item.org_id in orgs else unknown_org(item.org_id) for item in items]
        except NotLookedFor:
            connection.rollback()
            return self._write(connection, items, now, probe=True)
        reached("operations.decided")
        changed = [org for _, org in sorted(found.orgs.items()) if org.is_changed]
        if changed:
            invoices.save(connection)
            disputes.save(connection)
            record_operations(connection, _new_acts(items, answers), self._clock())
            save(connection, changed, decider.rows, now)
        else:
            connection.rollback()
        decider.remember()
        self._reader.keep(found)
        reached("operations.committed")
        return answers

    def _end_holds(self, connection: Connection, org_id: str, now: datetime) -> None:
        """End what is over in an org's account, some at a time, each a transaction of its own."""
        entries = ENDED_HOLDS_MAX
        while entries >= ENDED_HOLDS_MAX:
            (done,) = self._write(connection, [Upkeep(org_id)], now, probe=False)
            entries = done.entries if isinstance(done, KeptUp) else 0

    def _existing(self, connection: Connection, orgs: set[str]) -> set[str]:
        unseen = sorted(orgs - self._known)
        if unseen:
            if len(self._known) > _ORGS_REMEMBERED_MAX:
                self._known.clear()
                self._tests.clear()
                unseen = sorted(orgs)  # those of this group that were seen before, too
            found = known_orgs(connection, unseen)
            self._tests |= clocks_of(connection, sorted(found)).keys()  # an org is a test org from its beginning
            self._known |= found
            connection.rollback()
        return orgs & self._known

    def _since(self, now: datetime) -> datetime | None:
        return None if self._retention is None else now - self._retention


def _new_acts(items: Sequence[Item], answers: Sequence[Answer]) -> list[tuple[Operation, Recorded]]:
    """Which of the items have become entries now, and are acts of somebody's."""
    return [
        (item, answer)
        for item, answer in zip(items, answers, strict=True)
        if isinstance(item, Operation) and item.by is not None and isinstance(answer, Recorded) and answer.is_new
    ]


def _answer(decider: Decider, item: Item) -> Answer:
    return decider.answer(item) if isinstance(item, Operation) else KeptUp(decider.keep_up(item.org_id))


def _parts(items: Sequence[Item]) -> Iterable[Sequence[Item]]:
    """The items in transactions: what comes after a change of budgets is counted otherwise than what came before."""
    start = 0
    for place, item in enumerate(items):
        if isinstance(item, Operation) and item.kind == "budget":
            yield items[start : place + 1]
            start = place + 1
    if start < len(items):
        yield items[start:]


class Operations:
    """Takes operations for all callers of a process; make one, and close it in the end.

    Args:
        connect: opens a connection of the writer's role, or raises psycopg.Error within a few seconds.
        work: decides and writes them.
        check: refuses with an `Unavailable` what cannot be written now; asked before each.
        linger_seconds, group_events_max, queue_events_max: see `GroupWriter`; operations and the usage events of
            settlements count alike.

    Attributes:
        elsewhere: where set, hands an operation to another process that writes for its org; None for one that is to be
            written here.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        work: OperationWork,
        *,
        check: Callable[[], None] | None = None,
        linger_seconds: float,
        group_events_max: int,
        queue_events_max: int,
    ) -> None:
        self._check = check
        self.elsewhere: Callable[[Operation], Future[Recorded] | None] | None = None
        self._writer = GroupWriter[Item, Answer](
            connect,
            work,
            linger_seconds=linger_seconds,
            group_events_max=group_events_max,
            queue_events_max=queue_events_max,
        )

    def submit(self, operation: Operation) -> Future[Recorded]:
        """Have an operation decided and written; it never waits, and may be called from an event loop.

        The future gives its entry once that is on disk; the same operation again, however it comes, the same entry. It
        raises what the operation is refused for, a `TallyError`: nothing has moved then. Or it raises `Unavailable`
        (`database_unreachable`, `storage_full`): nothing is known to be stored, and sending it again is safe.

        Raises:
            Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`.
        """
        operation = with_actor(operation)
        future = None
        if self.elsewhere is not None and self._writer.callers_under_way >= BUSY_CALLERS:
            future = self.elsewhere(operation)
        return self.submit_here(operation) if future is None else future

    def submit_here(self, operation: Operation) -> Future[Recorded]:
        """As `submit`, by this process's own writer."""
        if self._check is not None:
            self._check()
        return self._writer.submit(with_actor(operation))  # type: ignore[return-value]

    def keep_up(self, org_id: str) -> Future[KeptUp]:
        """Have what is over in an org's account ended, and the month's included credits given; as `submit`."""
        return self._writer.submit(Upkeep(org_id))  # type: ignore[return-value]

    def state(self) -> WriterState:
        """How the writer is doing."""
        return self._writer.state()

    def close(self) -> None:
        """Write what waits, then stop. What comes later is refused."""
        self._writer.close()
