"""Counting a month from its entries, one by one in ascending sequence, up to some entry: sums, credits and a hash."""

from __future__ import annotations

from datetime import datetime

from tallystick.core.instants import format_instant
from tallystick.core.periods import Period
from tallystick.invoice.adjusted import add_operation
from tallystick.invoice.digest import EntriesHash
from tallystick.invoice.model import AdjustmentPin
from tallystick.invoice.terms import Terms
from tallystick.invoice.usage import MonthCount, empty_sums
from tallystick.invoice.wallet import WalletMonth
from tallystick.ledger.entry import OPERATION_KINDS, Entry, entry_event, entry_lines
from tallystick.rates.model import Cost, CostLine
from tallystick.usage.event import UsageEvent


class EntryCount:
    """What a month's entries up to `through_seq` add up to. Costs are those that the entries state.

    Args:
        period: which month.
        through_seq: entries after it are not counted.
        terms: its sections, by which to sum up; None to sum up everything together.
        after_seq: entries up to it are counted, but are none of those that came late.

    Attributes:
        first_seq: the first entry at which the ledger had reached the month; 0 when there is none.
        entries, events: of those that came after `after_seq`, how many are of the month, and how many are requests.
        problems: what is wrong with the entries, a sentence each.
    """

    def __init__(self, period: Period, through_seq: int, terms: Terms | None, *, after_seq: int = 0) -> None:
        self._period, self._through, self._after = period, through_seq, after_seq
        self._section_of = terms.section_of if terms else lambda _: 0
        self._hash = EntriesHash()
        self._arrived: list[datetime] = []
        self._unpriced: dict[int, tuple[UsageEvent, Cost]] = {}
        self._sums = empty_sums(len(terms.sections) if terms else 0)
        self._wallet = WalletMonth()
        self.first_seq = self.entries = self.events = 0
        self.problems: list[str] = []

    def add(self, entry: Entry) -> None:
        """The next entry of the org, of the month or not."""
        if entry.seq > self._through:
            return
        if not self.first_seq and entry.time_max >= self._period.start:
            self.first_seq = entry.seq
        if entry.time not in self._period:
            return
        if entry.seq > self._after:
            self._hash.add(entry.seq, entry.leaf)
            self.entries += 1
            self.events += entry.kind == "usage"
            self._arrived = [
                min([entry.recorded_at, *self._arrived[:1]]),
                max([entry.recorded_at, *self._arrived[1:]]),
            ]
        self._count(entry)

    def count(self) -> MonthCount:
        """The sums, once all entries were added; what has no price yet is counted as such."""
        for event, cost in self._unpriced.values():
            self._sums[self._section_of(event.time)].add_request(event, cost)
        self._unpriced.clear()
        return MonthCount(self._sums, self._wallet)

    def hexdigest(self) -> str:
        """The hash over the month's entries after `after_seq`."""
        return self._hash.hexdigest()

    def pin(self) -> AdjustmentPin | None:
        """The entries that came late, as an adjustment states them; None when there are none."""
        if not self._arrived:
            return None
        return AdjustmentPin(
            first_seq=self.first_seq,
            billed_through_seq=self._after,
            through_seq=self._through,
            entries=self.entries,
            events=self.events,
            first_arrived=format_instant(self._arrived[0]),
            last_arrived=format_instant(self._arrived[-1]),
            entries_sha256=self.hexdigest(),
        )

    def _count(self, entry: Entry) -> None:
        """One entry of the month. What has no price waits for its correction; of operations only adjustments count."""
        section = self._section_of(entry.time)
        sums = self._sums[section]
        if entry.kind in OPERATION_KINDS:
            try:
                add_operation(sums, self._wallet, entry.kind, entry.body, section)
            except ValueError as error:
                self.problems.append(f"entry {entry.seq} is no {entry.kind}: {error}")
            return
        lines = entry_lines(entry)
        if not _adds_up(entry, lines):
            total = sum(line.amount_pico or 0 for line in lines)
            self.problems.append(f"entry {entry.seq} costs {entry.cost_pico} pico-USD, and its lines {total}")
        event = entry_event(entry)
        if event is not None:
            cost = _cost(event, entry, lines)
            if entry.status == "unpriced":
                self._unpriced[entry.seq] = event, cost
            else:
                sums.add_request(event, cost)
            return
        waiting = self._unpriced.pop(entry.refers_to_seq or 0, None)
        if waiting is None:
            self.problems.append(f"entry {entry.seq} corrects {entry.refers_to_seq}, which needs no correction")
            return
        corrected = waiting[0]
        if (corrected.request_id, corrected.time) != (entry.request_id, entry.time):
            self.problems.append(f"entry {entry.seq} corrects {entry.refers_to_seq}, and is of another request")
        sums.add_request(corrected, _cost(corrected, entry, lines))


def _adds_up(entry: Entry, lines: tuple[CostLine, ...]) -> bool:
    """Its cost is the sum of its lines. An unpriced one has none, even where its lines have: its model is unknown."""
    if entry.status == "unpriced":
        return entry.cost_pico is None
    amounts = [line.amount_pico for line in lines if line.amount_pico is not None]
    return len(amounts) == len(lines) and entry.cost_pico == sum(amounts)


def _cost(event: UsageEvent, entry: Entry, lines: tuple[CostLine, ...]) -> Cost:
    return Cost(
        provider=event.provider,
        model=event.model,
        lines=lines,
        total_pico=entry.cost_pico,
        status=entry.status,  # type: ignore[arg-type]
        rate_version=entry.rate_version,
        reason=entry.reason,
    )
