"""A stored fact with what the ledger says it cost, and the check that recomputes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tallystick.core.errors import TallyError
from tallystick.core.instants import format_instant
from tallystick.invoice.compare import Difference
from tallystick.ledger.encoding import fingerprint
from tallystick.rates.model import Cost, CostLine, CostStatus
from tallystick.usage.event import UsageEvent


class Card(Protocol):
    """What a check needs of a rate card: a pure price for an event."""

    def price_event(self, event: UsageEvent) -> Cost: ...


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One ledger entry: the cost of a fact, or the correction that takes its place. Amounts in pico-USD."""

    seq: int
    request_id: str
    time: datetime
    recorded_at: datetime
    rate_version: str
    status: CostStatus
    cost_pico: int | None
    lines: tuple[CostLine, ...]
    reason: str | None


@dataclass(frozen=True, slots=True)
class StoredFact:
    """One raw fact as it is stored, with its entry (None when that is gone) and its correction, if any.

    `torn` is a field that holds what no fact may hold, and its stored text; None unless something changed it from
    outside. The event has what is sound of it.
    """

    seq: int
    recorded_at: datetime
    fingerprint: bytes
    event: UsageEvent
    entry: StoredEntry | None
    correction: StoredEntry | None
    torn: tuple[str, str] | None = None

    @property
    def priced(self) -> StoredEntry | None:
        """The entry that counts: the correction when there is one."""
        return self.correction or self.entry


@dataclass(frozen=True, slots=True)
class Rechecked:
    """One fact computed again: its fingerprint, the cost that counts (None when it cannot be computed, or the
    fact has no entry), and everything that is not as stored.
    """

    fingerprint: bytes
    cost: Cost | None
    differences: tuple[Difference, ...]


def recheck(fact: StoredFact, card_of: Callable[[str], Card]) -> Rechecked:
    """Compute one fact's fingerprint and cost again, from the raw fact and the rate version that priced it.

    Args:
        fact: what is stored.
        card_of: gives the rate card of a version's name; it raises TallyError when there is none.
    """
    recomputed = fingerprint(fact.event)
    entry, correction = fact.entry, fact.correction
    whole = fact.torn is None and entry is not None and entry.recorded_at == fact.recorded_at
    if whole and entry is not None and correction is None and recomputed == fact.fingerprint:  # nearly always
        cost = _priced(fact.event, entry, card_of)
        if isinstance(cost, Cost) and _agrees(fact.event, entry, cost):
            return Rechecked(recomputed, cost, ())
    differences: list[Difference] = []
    where = f"request {fact.event.request_id}, entry {fact.seq}"
    if recomputed != fact.fingerprint:
        differences.append(Difference(where, "fingerprint of the fact", fact.fingerprint.hex(), recomputed.hex()))
    if fact.torn is not None:
        differences.append(Difference(where, *fact.torn, "what a fact may hold"))
    if entry is None:
        differences.append(Difference(where, "ledger entry", None, "one entry for the fact"))
    elif entry.recorded_at != fact.recorded_at:
        of_entry = f"{format_instant(entry.recorded_at)} in its entry"
        differences.append(Difference(where, "recorded_at", format_instant(fact.recorded_at), of_entry))
    counts: Cost | None = None
    for stored in (entry, correction):
        if stored is not None:
            named = where if stored is entry else f"{where}, correction {stored.seq}"
            again = _priced(fact.event, stored, card_of)
            counts = again if isinstance(again, Cost) else None
            if isinstance(again, TallyError):
                differences.append(Difference(named, "cost", _pico(stored.cost_pico), f"nothing: {again.detail}"))
            else:
                differences += _entry_differences(named, fact.event, stored, again)
    return Rechecked(recomputed, counts, tuple(differences))


def _priced(event: UsageEvent, entry: StoredEntry, card_of: Callable[[str], Card]) -> Cost | TallyError:
    try:
        return card_of(entry.rate_version).price_event(event)
    except TallyError as error:
        return error


def _agrees(event: UsageEvent, entry: StoredEntry, cost: Cost) -> bool:
    return (
        entry.lines == cost.lines
        and entry.cost_pico == cost.total_pico
        and entry.status == cost.status
        and entry.rate_version == cost.rate_version
        and entry.reason == cost.reason
        and entry.time == event.time
        and entry.request_id == event.request_id
    )


def _entry_differences(where: str, event: UsageEvent, entry: StoredEntry, cost: Cost) -> Iterator[Difference]:
    if entry.time != event.time:
        yield Difference(where, "time", format_instant(entry.time), format_instant(event.time))
    if entry.request_id != event.request_id:
        yield Difference(where, "request_id", entry.request_id, event.request_id)
    if entry.lines != cost.lines:
        yield from _line_differences(where, entry.lines, cost.lines)
    sides = (
        ("cost_pico", entry.cost_pico, cost.total_pico),
        ("status", entry.status, cost.status),
        ("rate_version", entry.rate_version, cost.rate_version),
        ("reason", entry.reason, cost.reason),
    )
    for field, stored, recomputed in sides:
        if stored != recomputed:
            yield Difference(where, field, _text(stored), _text(recomputed))


def _line_differences(
    where: str, stored: tuple[CostLine, ...], recomputed: tuple[CostLine, ...]
) -> Iterator[Difference]:
    for index in range(max(len(stored), len(recomputed))):
        before = stored[index] if index < len(stored) else None
        after = recomputed[index] if index < len(recomputed) else None
        if before is None or after is None or before.meter != after.meter:
            yield Difference(where, f"cost line {index + 1}", _line_text(before), _line_text(after))
            continue
        for field in ("quantity", "price_pico", "per", "amount_pico", "model"):
            old, new = getattr(before, field), getattr(after, field)
            if old != new:
                yield Difference(where, f"cost line {index + 1} ({before.meter}), {field}", _text(old), _text(new))


def _line_text(line: CostLine | None) -> str | None:
    return None if line is None else f"{line.quantity} {line.meter} for {_pico(line.amount_pico)}"


def _pico(amount: int | None) -> str:
    return "an unknown amount" if amount is None else f"{amount} pico-USD"


def _text(value: object) -> str | None:
    return None if value is None else str(value)
