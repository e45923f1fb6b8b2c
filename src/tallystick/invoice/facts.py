"""Ledger entries as they are stored, and the check that recomputes one: its leaf, its fingerprint, its cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Protocol

import msgspec

from tallystick.core.errors import TallyError
from tallystick.core.instants import format_instant
from tallystick.invoice.compare import Difference
from tallystick.ledger.encoding import event_fingerprint
from tallystick.ledger.entry import ERASED, Entry, entry_leaf
from tallystick.rates.model import Cost, CostLine
from tallystick.usage.event import UsageEvent

NO_LEAF = bytes(32)
"""In the place of the leaf of a row that holds what no entry may hold."""


class Card(Protocol):
    """What a check needs of a rate card: a pure price for an event."""

    def price_event(self, event: UsageEvent) -> Cost: ...


@dataclass(frozen=True, slots=True)
class StoredFact:
    """One request as it is stored: its entry, and the correction that takes the place of its cost, if any."""

    entry: Entry
    correction: Entry | None

    @property
    def priced(self) -> Entry:
        """The entry whose cost counts: the correction when there is one."""
        return self.correction or self.entry

    @property
    def is_erased(self) -> bool:
        """Whether the personal data was removed; its salt went with it."""
        return self.entry.salt is None

    def uses(self, meters: Collection[str], uncharged: Collection[str]) -> bool:
        """Whether it is charged, that is no failure and in none of the `uncharged` environments, and used a meter."""
        if self.entry.outcome == "failure" or self.entry.environment in uncharged:
            return False
        used = self.meters
        return any(used.get(meter) for meter in meters)

    @property
    def meters(self) -> dict[str, int]:
        """The raw quantities; only the sound ones, should something have changed them from outside."""
        return sound_meters(self.entry)[0]


class Corrections:
    """Finds the correction of each entry, as entries are gone through in ascending sequence.

    Args:
        corrections: in the order of the entries that they refer to; read as far as is needed.
    """

    def __init__(self, corrections: Iterable[Entry]) -> None:
        self._rest = iter(corrections)
        self._next = next(self._rest, None)
        self.astray: list[Entry] = []
        """Corrections passed over, which refer to none of the entries that were asked about."""

    def of(self, seq: int) -> Entry | None:
        """The correction of that entry. `seq` must rise from call to call."""
        while self._next is not None and (self._next.refers_to_seq or 0) < seq:
            self._pass_over(self._next)
        found = self._next
        if found is None or found.refers_to_seq != seq:
            return None
        self._next = next(self._rest, None)
        return found

    def finish(self) -> list[Entry]:
        """Pass over what is left; all that were."""
        while self._next is not None:
            self._pass_over(self._next)
        return self.astray

    def _pass_over(self, correction: Entry) -> None:
        self.astray.append(correction)
        self._next = next(self._rest, None)


@dataclass(frozen=True, slots=True)
class Rechecked:
    """One request computed again.

    Attributes:
        event: what is sound of the raw fact.
        leaf: the leaf that its entry's columns make; `NO_LEAF` when they hold what no entry may hold.
        cost: the cost that counts; None when it cannot be computed.
        differences: everything that is not as stored.
    """

    event: UsageEvent
    leaf: bytes
    cost: Cost | None
    differences: tuple[Difference, ...]


def recheck(fact: StoredFact, card_of: Callable[[str], Card]) -> Rechecked:
    """Compute one request's leaf, fingerprint and cost again, from the raw fact and the rate version that priced it.

    Where personal data was erased, the fingerprint cannot be computed again; all else is, the fingerprint's own place
    in the leaf included.

    Args:
        fact: what is stored.
        card_of: gives the rate card of a version's name; it raises TallyError when there is none.
    """
    entry, correction = fact.entry, fact.correction
    where = name_of(entry)
    event, torn = _event(entry)
    leaf, differs = recheck_leaf(entry)
    differences = [] if differs is None else [differs]
    if entry.salt is not None:
        again = _fingerprint(event, entry.salt)
        if again != entry.fingerprint:
            differences.append(
                Difference(where, "fingerprint of the fact", _hex(entry.fingerprint), _hex(again) or "nothing")
            )
    if torn is not None:
        differences.append(Difference(where, *torn, "what a fact may hold"))
    counts: Cost | None = None
    for stored in (entry, correction):
        if stored is not None:
            cost = _priced(event, stored, card_of)
            counts = cost if isinstance(cost, Cost) else None
            if counts is not None and _agrees(event, stored, counts):  # nearly always
                continue
            named = where if stored is entry else f"{where}, correction {stored.seq}"
            if isinstance(cost, TallyError):
                differences.append(Difference(named, "cost", _pico(stored.cost_pico), f"nothing: {cost.detail}"))
            else:
                differences += _entry_differences(named, event, stored, cost)
    return Rechecked(event, leaf, counts, tuple(differences))


def recheck_leaf(entry: Entry) -> tuple[bytes, Difference | None]:
    """The leaf that the entry's columns make, and how it differs from the stored one."""
    try:
        leaf = entry_leaf(entry)
    except (TypeError, ValueError, AttributeError, OverflowError, msgspec.MsgspecError):
        return NO_LEAF, Difference(name_of(entry), "leaf", _hex(entry.leaf), "what no entry may hold")
    if leaf == entry.leaf:
        return leaf, None
    return leaf, Difference(name_of(entry), "leaf", _hex(entry.leaf), leaf.hex())


def name_of(entry: Entry) -> str:
    """What a difference calls the entry."""
    if entry.kind == "correction":
        return f"request {entry.request_id}, entry {entry.refers_to_seq}, correction {entry.seq}"
    return f"request {entry.request_id}, entry {entry.seq}"


def stored_lines(entry: Entry) -> tuple[CostLine, ...]:
    """The lines of the entry's cost. Arrays of other lengths were changed from outside: what is missing is null."""
    arrays: list[Any] = [
        entry.line_meters,
        entry.line_quantities,
        entry.line_price_pico,
        entry.line_per,
        entry.line_amount_pico,
    ]
    arrays.append([None] * len(entry.line_meters) if entry.line_models is None else entry.line_models)
    return tuple(CostLine(*values) for values in zip_longest(*arrays))


def sound_meters(entry: Entry) -> tuple[dict[str, int], tuple[str, str] | None]:
    """The meters of a request, and how they are out of step: what was changed from outside may hold anything."""
    names: Sequence[Any] = entry.meter_names or ()
    quantities: Sequence[Any] = entry.meter_quantities or ()
    try:
        meters: dict[str, int] = dict(zip(names, quantities, strict=True))
        if len(meters) == len(names) and None not in meters and None not in meters.values():
            return meters, None
    except (TypeError, ValueError):  # other lengths, or lists in lists
        pass
    pairs = zip(names, quantities, strict=False)
    sound = {name: quantity for name, quantity in pairs if isinstance(name, str) and isinstance(quantity, int)}
    return sound, ("meters", f"{names} with quantities {quantities}")


def _event(entry: Entry) -> tuple[UsageEvent, tuple[str, str] | None]:
    """What is sound of the raw fact, and a field of it that holds what no fact may hold."""
    meters, torn = sound_meters(entry)
    tables: dict[str, dict[str, str]] = {}
    for name in ("price_context", "attributes"):
        value: Any = getattr(entry, name)
        sound = isinstance(value, dict) and all(isinstance(member, str) for member in value.values())
        tables[name] = value if sound else {}
        if not sound and (value is not None or name == "price_context"):
            torn = (name, str(value))
    event = UsageEvent(
        org_id=entry.org_id,
        request_id=entry.request_id,
        time=entry.time,
        user_id=ERASED if entry.user_id is None else entry.user_id,
        session_id=ERASED if entry.session_id is None else entry.session_id,
        feature=entry.feature or "",
        environment=entry.environment or "",
        model=entry.model or "",
        meters=meters,
        provider=entry.provider,
        api_key_id=entry.api_key_id,
        action=entry.action,
        latency_ms=entry.latency_ms,
        outcome=entry.outcome,  # type: ignore[arg-type]
        usage_status=entry.usage_status,  # type: ignore[arg-type]
        price_context=tables["price_context"],
        provider_cost_pico=entry.provider_cost_pico,
        payer="seller" if entry.payer is None else entry.payer,  # type: ignore[arg-type]
        attributes=tables["attributes"],
    )
    return event, torn


def _fingerprint(event: UsageEvent, salt: bytes) -> bytes | None:
    try:
        return event_fingerprint(event, salt)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return None


def _priced(event: UsageEvent, entry: Entry, card_of: Callable[[str], Card]) -> Cost | TallyError:
    try:
        return card_of(entry.rate_version).price_event(event)
    except TallyError as error:
        return error


def _agrees(event: UsageEvent, entry: Entry, cost: Cost) -> bool:
    return (
        stored_lines(entry) == cost.lines
        and entry.cost_pico == cost.total_pico
        and entry.status == cost.status
        and entry.rate_version == cost.rate_version
        and entry.reason == cost.reason
        and entry.time == event.time
        and entry.request_id == event.request_id
    )


def _entry_differences(where: str, event: UsageEvent, entry: Entry, cost: Cost) -> Iterator[Difference]:
    if entry.time != event.time:
        yield Difference(where, "time", format_instant(entry.time), format_instant(event.time))
    if entry.request_id != event.request_id:
        yield Difference(where, "request_id", entry.request_id, event.request_id)
    lines = stored_lines(entry)
    if lines != cost.lines:
        yield from _line_differences(where, lines, cost.lines)
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


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
