"""The entries of a proof: that they are all there, and what those of the period add up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from tallystick.core.instants import format_instant
from tallystick.core.periods import Period
from tallystick.invoice.adjusted import add_operation
from tallystick.invoice.digest import EntriesHash
from tallystick.invoice.terms import Terms
from tallystick.invoice.usage import PeriodSums, empty_sums
from tallystick.invoice.wallet import WalletMonth
from tallystick.ledger.entry import OPERATION_KINDS, Entry, entry_event, entry_lines
from tallystick.ledger.preimage import read_preimage
from tallystick.rates.model import Cost, CostLine
from tallystick.usage.event import UsageEvent

TIME_MAX_FIRST = datetime.fromisoformat("2000-01-01T00:00:00Z")
"""What a new org's latest time begins with; no event is older."""
_PROGRESS_ENTRIES = 1000


@dataclass(slots=True)
class EntriesFound:
    """What the entries of a proof are.

    Attributes:
        first_seq: the sequence of the first; 1 when there are none.
        leaves: the hash of each, in their order.
        period_from_seq: the first entry at which the ledger had reached the period, 0 when there is none.
        events: how many requests of the period there are.
        entries_sha256: the hash over the period's entries, as the invoice states it.
        sums: what they add up to by section of the terms, corrections in the place of what they correct.
        wallet: what the period's operations did.
        problems: what is wrong with them, a sentence each.
    """

    first_seq: int = 1
    leaves: list[bytes] = field(default_factory=list)
    period_from_seq: int = 0
    events: int = 0
    entries_sha256: str = ""
    sums: tuple[PeriodSums, ...] = ()
    wallet: WalletMonth = field(default_factory=WalletMonth)
    problems: list[str] = field(default_factory=list)


def read_entries(
    raws: Sequence[bytes | msgspec.Raw],
    org_id: str,
    period: Period,
    through_seq: int,
    terms: Terms | None,
    progress: Callable[[int], object],
) -> EntriesFound:
    """Read a dense run of one org's entries and sum up those of the period.

    That nothing of the period is missing follows from three things: the sequence is dense; it ends at
    `through_seq`; and it begins at entry 1, or with an entry at which the ledger, in all its history, had not
    reached the period yet (`time_max`, which rises with the sequence and is part of each leaf).

    Args:
        raws: the preimages of the entries.
        org_id, period, through_seq: what the invoice says of them.
        terms: its sections, by which to sum up; None to sum up everything together.
        progress: called with the number of entries read since the last call.

    Raises:
        BadInput: `invalid_entry`.
        ValueError: they are not a dense run of that org's entries up to `through_seq`.
    """
    found, running = EntriesFound(sums=empty_sums(len(terms.sections) if terms else 0)), EntriesHash()
    section_of = terms.section_of if terms else lambda _: 0
    unpriced: dict[int, tuple[UsageEvent, Cost]] = {}
    before: Entry | None = None
    for number, raw in enumerate(raws):
        entry = read_preimage(raw)
        _expect_next(entry, before, org_id)
        if before is None:
            found.first_seq = entry.seq
            _expect_beginning(entry, period)
        if not found.period_from_seq and entry.time_max >= period.start:
            found.period_from_seq = entry.seq
        found.leaves.append(entry.leaf)
        if entry.time in period:
            running.add(entry.seq, entry.leaf)
            _count(found, section_of(entry.time), entry, unpriced)
        before = entry
        if number % _PROGRESS_ENTRIES == _PROGRESS_ENTRIES - 1:
            progress(_PROGRESS_ENTRIES)
    last = before.seq if before else 0
    if last != through_seq:
        raise ValueError(f"the entries end at {last}, and the invoice covers all up to {through_seq}")
    for event, cost in unpriced.values():
        found.sums[section_of(event.time)].add_request(event, cost)
    found.entries_sha256 = running.hexdigest()
    return found


def _expect_next(entry: Entry, before: Entry | None, org_id: str) -> None:
    """The entry is the org's next one, and its `time_max` the latest time so far."""
    if entry.org_id != org_id:
        raise ValueError(f"entry {entry.seq} belongs to {entry.org_id}, the invoice to {org_id}")
    if before is not None and entry.seq != before.seq + 1:
        raise ValueError(f"entry {before.seq + 1} is missing: {entry.seq} follows {before.seq}")
    if before is not None or entry.seq == 1:
        latest = before.time_max if before is not None else TIME_MAX_FIRST
        due = latest if entry.kind == "correction" else max(latest, entry.time)
        if entry.time_max != due:
            raise ValueError(
                f"entry {entry.seq} says that the latest time was {format_instant(entry.time_max)}, "
                f"and it was {format_instant(due)}"
            )


def _expect_beginning(entry: Entry, period: Period) -> None:
    if entry.seq < 1 or (entry.seq > 1 and entry.time_max >= period.start):
        raise ValueError(
            f"the entries begin at {entry.seq}, when the ledger had reached the period already: "
            "entries of the period may be missing before it"
        )


def _count(found: EntriesFound, section: int, entry: Entry, unpriced: dict[int, tuple[UsageEvent, Cost]]) -> None:
    """One entry of the period. What has no price waits for its correction; of operations only adjustments count."""
    if entry.kind in OPERATION_KINDS:
        try:
            add_operation(found.sums[section], found.wallet, entry.kind, entry.body, section)
        except ValueError as error:
            found.problems.append(f"entry {entry.seq} is no {entry.kind}: {error}")
        return
    sums = found.sums[section]
    lines = entry_lines(entry)
    if not _adds_up(entry, lines):
        total = sum(line.amount_pico or 0 for line in lines)
        found.problems.append(f"entry {entry.seq} costs {entry.cost_pico} pico-USD, and its lines {total}")
    event = entry_event(entry)
    if event is not None:
        cost = _cost(event, entry, lines)
        found.events += 1
        if entry.status == "unpriced":
            unpriced[entry.seq] = event, cost
        else:
            sums.add_request(event, cost)
        return
    waiting = unpriced.pop(entry.refers_to_seq or 0, None)
    if waiting is None:
        found.problems.append(f"entry {entry.seq} corrects {entry.refers_to_seq}, which needs no correction")
        return
    corrected = waiting[0]
    if (corrected.request_id, corrected.time) != (entry.request_id, entry.time):
        found.problems.append(f"entry {entry.seq} corrects {entry.refers_to_seq}, and is of another request")
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
