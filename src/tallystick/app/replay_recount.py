"""Every entry of a month once more, one at a time: its leaf, its fingerprint and its cost, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache

from tallystick.app.period_source import PeriodSource
from tallystick.app.replay_report import ReplayReport
from tallystick.app.runtime import Runtime
from tallystick.core.errors import NotFound
from tallystick.core.instants import format_instant
from tallystick.invoice.adjusted import add_operation
from tallystick.invoice.compare import Difference
from tallystick.invoice.digest import EntriesHash
from tallystick.invoice.facts import Corrections, Rechecked, StoredFact, name_of, recheck, recheck_leaf
from tallystick.invoice.model import AdjustmentPin
from tallystick.invoice.terms import Terms
from tallystick.invoice.usage import MonthCount, empty_sums
from tallystick.invoice.wallet import WalletMonth
from tallystick.journal.database import Connection
from tallystick.journal.period_entries import unrecorded_erasures
from tallystick.journal.period_scope import Scope
from tallystick.ledger.entry import Entry
from tallystick.rates.card import RateCard

_PROGRESS_EVENTS = 1000
_ERASED_AT_ONCE = 10_000


class RecheckedMonth:
    """What a month's entries up to `through_seq` come to when each is computed again.

    Args:
        start, end: the half-open month.
        terms: its sections, by which to sum up; None to sum up everything together.
        through_seq: entries after it are not counted, nor are their corrections.
        after_seq: entries up to it are counted, and are none of those that came late.
    """

    def __init__(
        self, start: datetime, end: datetime, terms: Terms | None, through_seq: int, *, after_seq: int = 0
    ) -> None:
        self._start, self._end, self._through, self._after = start, end, through_seq, after_seq
        self._section_of = terms.section_of if terms else lambda _: 0
        self._hash = EntriesHash()
        self.sums = empty_sums(len(terms.sections) if terms else 0)
        self.wallet = WalletMonth()
        self.entries = self.events = 0
        self._arrived: tuple[datetime, datetime] | None = None

    def takes(self, entry: Entry) -> bool:
        """Whether the entry is one of those that are counted."""
        return entry.seq <= self._through and self._start <= entry.time < self._end

    def add_entry(self, entry: Entry, leaf: bytes) -> None:
        """An entry that it takes, with the leaf that its columns make."""
        if entry.seq <= self._after:
            return
        self._hash.add(entry.seq, leaf)
        self.entries += 1
        self.events += entry.kind == "usage"
        first, last = self._arrived or (entry.recorded_at, entry.recorded_at)
        self._arrived = min(first, entry.recorded_at), max(last, entry.recorded_at)

    def add_request(self, fact: StoredFact, again: Rechecked, card_of: Callable[[str], RateCard]) -> None:
        """A request that it takes. A correction that came after `through_seq` has no say in its cost."""
        if fact.correction is not None and fact.correction.seq > self._through:
            again = recheck(StoredFact(fact.entry, None), card_of)
        sums = self.sums[self._section_of(fact.entry.time)]
        if again.cost is None:
            sums.add_uncosted(again.event)
        else:
            sums.add_request(again.event, again.cost)

    def add_operation(self, entry: Entry) -> list[Difference]:
        """An operation that it takes; what to say when it cannot be read."""
        section = self._section_of(entry.time)
        try:
            add_operation(self.sums[section], self.wallet, entry.kind, entry.body, section)
        except ValueError as error:
            return [Difference(name_of(entry), "body", str(error), f"that of a {entry.kind}")]
        return []

    def count(self) -> MonthCount:
        """What they add up to."""
        return MonthCount(self.sums, self.wallet)

    def hexdigest(self) -> str:
        """The hash over the entries after `after_seq`."""
        return self._hash.hexdigest()

    def pin(self, first_seq: int) -> AdjustmentPin | None:
        """The entries that came late, as an adjustment states them; None when there are none."""
        if self._arrived is None:
            return None
        return AdjustmentPin(
            first_seq=first_seq,
            billed_through_seq=self._after,
            through_seq=self._through,
            entries=self.entries,
            events=self.events,
            first_arrived=format_instant(self._arrived[0]),
            last_arrived=format_instant(self._arrived[1]),
            entries_sha256=self.hexdigest(),
        )


class _Once:
    """Adds to a report what it does not have yet: an entry that lies in two months is looked at twice."""

    def __init__(self, report: ReplayReport) -> None:
        self._report, self._known = report, set(report.differences)

    def add(self, *differences: Difference) -> None:
        """Add those that are new."""
        self._report.add(*(one for one in differences if one not in self._known))


class Recount:
    """Reads the entries of months and reports what is not as it was stored."""

    def __init__(
        self,
        runtime: Runtime,
        connection: Connection,
        report: ReplayReport,
        progress: Callable[[int], object] | None,
    ) -> None:
        self._connection, self._report, self._progress = connection, report, progress
        self._card_of = _cards(runtime)

    def run(self, source: PeriodSource, scope: Scope, months: Sequence[RecheckedMonth]) -> None:
        """Every entry of the scope once more, one at a time, to those of the months that take it.

        The months are all of that scope's time; the first takes every entry of it.
        """
        report = _Once(self._report)
        corrections = Corrections(source.corrections())
        erased: list[int] = []
        for entry in source.entries():
            inside = scope.start <= entry.time < scope.end
            taking = [month for month in months if month.takes(entry)]
            if inside and entry.kind == "usage":
                fact = StoredFact(entry, corrections.of(entry.seq))
                again = recheck(fact, self._card_of)
                leaf = again.leaf
                report.add(*again.differences)
                for month in taking:
                    month.add_request(fact, again, self._card_of)
                self._tell()
                if entry.salt is None:
                    self._report.erased += 1
                    erased.append(entry.seq)
                    if len(erased) == _ERASED_AT_ONCE:
                        report.add(*self._unrecorded(scope, erased))
                        erased.clear()
            else:  # a correction, priced again with its request; or an entry that lies between those of the period
                leaf, differs = recheck_leaf(entry)
                if differs is not None:
                    report.add(differs)
                if inside and entry.kind != "correction":
                    found = [month.add_operation(entry) for month in taking]
                    report.add(*(found[0] if found else ()))
            for month in taking:
                month.add_entry(entry, leaf)
        report.add(*self._unrecorded(scope, erased))
        for astray in corrections.finish():
            report.add(
                Difference(name_of(astray), "refers_to_seq", str(astray.refers_to_seq), "a request of the period")
            )

    def _tell(self) -> None:
        self._report.events += 1
        if self._progress is not None and self._report.events % _PROGRESS_EVENTS == 0:
            self._progress(_PROGRESS_EVENTS)

    def _unrecorded(self, scope: Scope, erased: list[int]) -> list[Difference]:
        """What to say of personal data that went in another way than by erasing a person."""
        return [
            Difference(f"entry {seq}", "personal data", None, "there, or recorded as erased")
            for seq in (unrecorded_erasures(self._connection, scope.org_id, erased) if erased else ())
        ]


def _cards(runtime: Runtime) -> Callable[[str], RateCard]:
    """Gives the card of each version once; one that another process has loaded since is read from the database."""

    @cache
    def card_of(version: str) -> RateCard:
        try:
            return runtime.cards.at(version)
        except NotFound:
            runtime.reload_cards()
            return runtime.cards.at(version)

    return card_of


def missing(source: PeriodSource) -> list[Difference]:
    """What the ledger should hold and does not."""
    return [
        Difference(f"entry {first}" if first == last else f"entries {first} to {last}", "ledger", None, "in the ledger")
        for first, last in source.gaps()
    ]
