"""The entries that would set right what differs: offered, and written by somebody who says so.

Where estimates are the only possible cause, and of one org, the difference is theirs: for each class, the provider's
figure less what was stated for the other requests is shared out among the estimated ones in proportion to what was
estimated of each meter, in whole units; what is left over goes one each to those with the largest remainders, the
earliest first. The cost of each is its own, by the rate card that priced it. Anything else is booked to an org only
where somebody names it, as one adjustment of the day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

import msgspec

from tallystick.ledger.adjustment import Adjust, AdjustedMeter
from tallystick.ledger.entry import entry_event
from tallystick.rates.card import RateCard
from tallystick.rates.pricing import ADJUSTMENT
from tallystick.reconcile.compare import ALL, Asked, Cell, CostGap, Key
from tallystick.reconcile.explain import is_shifted
from tallystick.reconcile.ledger_days import Estimate, Group, LedgerDays, group_of
from tallystick.reconcile.model import Classes, day_start

CardAt = Callable[[str], RateCard]

_SAMPLE = 1000
"""So many units are priced at a time where a day is: a day's sum is no long prompt."""
_ID_CHARS_MAX = 512


@dataclass(frozen=True, slots=True)
class Offer:
    """An adjustment that would set something right.

    Attributes:
        key: the day and model.
        request_id: known from what it adjusts, so that it is written once.
        time: the instant that it is of: that of its entry, or noon of the day in UTC.
        adjust: what it says; its author and reason are for whoever writes it to say.
    """

    key: Key
    org_id: str
    request_id: str
    time: datetime
    adjust: Adjust


@dataclass(frozen=True, slots=True)
class Booking:
    """Where what is of no one request may be booked; `org_id` None for nowhere."""

    org_id: str | None = None
    environment: str = "production"


@dataclass(frozen=True, slots=True)
class Offered:
    """What is offered for one day and model, and, where that is not all that is needed, why there is no more."""

    offers: tuple[Offer, ...]
    why_not: str | None


class Offering:
    """Makes offers.

    Args:
        ledger: what was compared.
        asked: how.
        provider: the card's id of the provider.
        classes: those of the export.
        source_sha256: the hash over the export.
        card_at: the card of a version's name.
        newest: the newest card.
        booking: where to book what is of no one request.
    """

    def __init__(
        self,
        ledger: LedgerDays,
        asked: Asked,
        provider: str,
        classes: Classes,
        source_sha256: str,
        card_at: CardAt,
        newest: RateCard,
        booking: Booking,
    ) -> None:
        self._ledger, self._asked, self._provider, self._classes = ledger, asked, provider, classes
        self._sha256, self._card_at, self._newest, self._booking = source_sha256, card_at, newest, booking
        self._estimated: dict[Group, list[Estimate]] = {}
        for one in ledger.estimates.values():
            self._estimated.setdefault(group_of(one.entry), []).append(one)

    def of(self, cell: Cell, cells: dict[Key, Cell]) -> Offered:
        """What would set that day and model right."""
        if cell.is_equal:
            return Offered((), None)
        reason = self._hindrance(cell, cells)
        if reason is not None:
            return Offered((), reason)
        estimates = self._estimates(cell)
        why_not = self._ambiguous(cell, estimates)
        entries: list[Offer] | str = why_not or self._of_estimates(cell, estimates)
        if isinstance(entries, str):
            booked = self._of_day(cell, 0, with_quantities=True)
            if isinstance(booked, str):
                return Offered((), f"{entries}; {booked}" if estimates else booked)
            return Offered((booked,), None)
        changed_pico = sum(offer.adjust.cost_pico for offer in entries)
        if cell.cost is None or self._is_small(cell.cost, cell.cost.gap_pico - changed_pico):
            return Offered(tuple(entries), None)
        rest = self._of_day(cell, changed_pico, with_quantities=False)
        return Offered((*entries, rest), None) if isinstance(rest, Offer) else Offered(tuple(entries), rest)

    def _hindrance(self, cell: Cell, cells: dict[Key, Cell]) -> str | None:
        if cell.key.model == ALL:
            return "the export does not tell models apart; export it by model"
        if cell.missing:
            return "the export is not of the whole day"
        if is_shifted(cell, cells):
            return "the neighbouring day has the opposite difference; nothing is missing"
        return None

    def _is_small(self, cost: CostGap, gap_pico: Fraction) -> bool:
        """Whether a difference in cost needs no entry."""
        share = self._asked.tolerance * abs(cost.theirs_pico)
        return abs(gap_pico) <= max(cost.slack_pico, share, Fraction(self._asked.tolerance_pico))

    # ── estimates ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _estimates(self, cell: Cell) -> list[Estimate]:
        found = [one for group in cell.groups for one in self._estimated.get(group, ())]
        return sorted(found, key=lambda one: (one.entry.org_id, one.entry.seq))

    def _ambiguous(self, cell: Cell, estimates: list[Estimate]) -> str | None:
        """Why the difference cannot be told to be that of the estimates; None when it can."""
        if not estimates or not any(gap.gap for gap in cell.meters):
            return "estimates are not the cause"
        if cell.requests is None and not self._asked.is_complete:
            return "the export does not count calls, so that some may be missing (--complete says that none are)"
        if cell.requests is not None and cell.requests.gap:
            return "the number of calls differs, too"
        if len({one.entry.org_id for one in estimates}) > 1:
            return "estimates of several orgs may be the cause (--map tells orgs apart)"
        if any(one.priced.cost_pico is None or one.entry.provider_cost_pico is not None for one in estimates):
            return "an estimate has no price of a card"
        return self._too_much(cell, estimates)

    def _too_much(self, cell: Cell, estimates: list[Estimate]) -> str | None:
        for gap in cell.meters:
            held = sum(one.meters.get(meter, 0) for one in estimates for meter in self._classes[gap.name])
            if held + gap.gap < 0:
                return f"the estimates hold {held:,} {gap.name}, and {-gap.gap:,} would have to go"
        return None

    def _of_estimates(self, cell: Cell, estimates: list[Estimate]) -> list[Offer] | str:
        meters = [dict(one.meters) for one in estimates]
        for gap in cell.meters:
            if gap.gap:
                _share(gap.name, self._classes[gap.name], gap.gap, meters)
        offers = []
        for one, quantities in zip(estimates, meters, strict=True):
            lines = self._lines(one, quantities)
            if lines is None:
                return f"the rate card {one.priced.rate_version} has no price for what entry {one.entry.seq} would hold"
            if lines:
                offers.append(self._of_entry(cell.key, one, lines))
        return offers

    def _lines(self, one: Estimate, quantities: dict[str, int]) -> tuple[AdjustedMeter, ...] | None:
        """What changes of one request: its cost is priced again as a whole, since prices may depend on its size."""
        event = entry_event(one.entry)
        if event is None:
            return None
        card = self._card_at(one.priced.rate_version)
        before = card.price_event(msgspec.structs.replace(event, meters=_used(one.meters)))
        after = card.price_event(msgspec.structs.replace(event, meters=_used(quantities)))
        if before.total_pico is None or after.total_pico is None:
            return None
        costs: dict[str, int] = {}
        for sign, cost in ((-1, before), (1, after)):
            for line in cost.lines:
                costs[line.meter] = costs.get(line.meter, 0) + sign * (line.amount_pico or 0)
        changes = {
            meter: (quantities.get(meter, 0) - one.meters.get(meter, 0), costs.get(meter, 0))
            for meter in sorted(quantities.keys() | one.meters.keys() | costs.keys())
        }
        return tuple(AdjustedMeter(meter, *change) for meter, change in changes.items() if any(change))

    def _of_entry(self, key: Key, one: Estimate, lines: tuple[AdjustedMeter, ...]) -> Offer:
        entry = one.entry
        adjust = Adjust(
            of_seq=entry.seq,
            provider=entry.provider,
            model=entry.model or "",
            environment=entry.environment or "",
            feature=entry.feature,
            api_key_id=entry.api_key_id,
            action=entry.action,
            outcome=entry.outcome or "success",  # type: ignore[arg-type]
            payer="seller" if entry.payer is None else "customer",
            lines=lines,
            source=self._provider,
            source_sha256=self._sha256,
            author="",
            reason="",
        )
        request_id = f"reconcile:{self._provider}:{entry.seq}:{one.adjusted}"
        return Offer(key, entry.org_id, request_id, entry.time, adjust)

    # ── a day ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _of_day(self, cell: Cell, changed_pico: int, *, with_quantities: bool) -> Offer | str:
        """One adjustment of the day for the org that is named; else why there is none."""
        org_id = self._booking.org_id
        if org_id is None:
            return "it is of no one request: --book-to ORG books it as an adjustment of the day"
        if cell.key.org_id not in ("", org_id):
            return f"it is of {cell.key.org_id}, and not of {org_id}, which it would be booked to"
        if cell.cost is not None and cell.ours.unpriced:
            return "first give what has no price one: tally reprice"
        used = self._quantities(cell, org_id, self._booking.environment) if with_quantities else {}
        lines = used if isinstance(used, str) else self._day_lines(cell, used, changed_pico)
        if isinstance(lines, str):
            return lines
        return self._booked(cell, org_id, lines) if lines else "no adjustment changes the number of calls"

    def _booked(self, cell: Cell, org_id: str, lines: list[AdjustedMeter]) -> Offer | str:
        environment = self._booking.environment
        model, day = cell.key.model, cell.key.day
        count = self._ledger.booked[org_id, day, self._provider, model, environment]
        request_id = f"reconcile:{self._provider}:{day}:{model}:{environment}:{count}"
        if len(request_id) > _ID_CHARS_MAX:
            return "the model's name is too long to be booked"
        adjust = Adjust(
            of_seq=None,
            provider=self._provider,
            model=model,
            environment=environment,
            payer="customer" if self._asked.payers == {"customer"} else "seller",
            lines=tuple(sorted(lines, key=lambda line: line.meter)),
            source=self._provider,
            source_sha256=self._sha256,
            author="",
            reason="",
        )
        return Offer(cell.key, org_id, request_id, day_start(day) + timedelta(hours=12), adjust)

    def _quantities(self, cell: Cell, org_id: str, environment: str) -> dict[str, int] | str:
        """By how much each meter changes: what is too much is taken from what the org has of it."""
        found: dict[str, int] = {}
        for gap in cell.meters:
            if gap.gap > 0:
                found[gap.name] = gap.gap
            elif gap.gap < 0:
                held = {meter: self._held(cell, org_id, environment, meter) for meter in self._classes[gap.name]}
                left = sum(held.values()) + gap.gap
                if left < 0:
                    return (
                        f"{org_id} has {sum(held.values()):,} {gap.name} of it in {environment}, and {-gap.gap:,} "
                        "would have to go"
                    )
                for meter, share in zip(held, apportion(left, list(held.values())), strict=True):
                    if share != held[meter]:
                        found[meter] = share - held[meter]
        return found

    def _held(self, cell: Cell, org_id: str, environment: str, meter: str) -> int:
        return max(
            0,
            sum(
                sums.quantities[meter]
                for group, sums in cell.groups.items()
                if (group.org_id, group.environment, group.failed) == (org_id, environment, False)
            ),
        )

    def _day_lines(self, cell: Cell, used: dict[str, int], changed_pico: int) -> list[AdjustedMeter] | str:
        """The meters with what they cost at the card's prices, and what is left of the provider's figure."""
        prices = {meter: self._price(cell, meter, quantity) for meter, quantity in used.items()}
        if cell.cost is None:
            unknown = [meter for meter, price in prices.items() if price is None]
            if unknown:
                return f"there is no price for {', '.join(unknown)}; export the costs, too"
            return [AdjustedMeter(meter, used[meter], price or 0) for meter, price in prices.items()]
        rest = round(cell.cost.gap_pico) - changed_pico
        is_small = self._is_small(cell.cost, cell.cost.gap_pico - changed_pico)
        if None in prices.values():
            prices = dict.fromkeys(prices, 0)
        rest = 0 if is_small and not used else rest - sum(price or 0 for price in prices.values())
        lines = [AdjustedMeter(meter, used[meter], price or 0) for meter, price in prices.items()]
        return [*lines, AdjustedMeter(ADJUSTMENT, 0, rest)] if rest else lines

    def _price(self, cell: Cell, meter: str, quantity: int) -> int | None:
        at = day_start(cell.key.day) + timedelta(hours=12)
        cost = self._newest.price(self._provider, cell.key.model, {meter: _SAMPLE}, at)
        return None if cost.total_pico is None else round(Fraction(cost.total_pico * quantity, _SAMPLE))


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Share out a total in proportion to weights, in whole units that add up to it exactly.

    Each gets the whole part of its share; what is left over goes one each to the largest remainders, the first of equal
    ones first. Where all weights are nothing, all shares are equal. Nothing is shared out among none.
    """
    if not any(weights):
        weights = [1] * len(weights)
    whole = sum(weights)
    shares = [divmod(total * weight, whole) for weight in weights]
    left = total - sum(share for share, _ in shares)
    order = sorted(range(len(weights)), key=lambda place: -shares[place][1])
    extra = set(order[:left])
    return [share + (place in extra) for place, (share, _) in enumerate(shares)]


def _share(name: str, members: tuple[str, ...], gap: int, meters: list[dict[str, int]]) -> None:
    """Make the estimates hold `gap` more of a class: each meter of it in proportion to what it holds."""
    places = list(_places(members, meters))
    if not places:  # none of it was estimated at all: in proportion to all that was
        places = [(number, name) for number in range(len(meters))]
        weights = [sum(one.values()) for one in meters]
        total = gap
    else:
        weights = [meters[number][meter] for number, meter in places]
        total = sum(weights) + gap
    for (number, meter), share in zip(places, apportion(total, weights), strict=True):
        meters[number][meter] = share


def _places(members: tuple[str, ...], meters: list[dict[str, int]]) -> Iterator[tuple[int, str]]:
    for number, one in enumerate(meters):
        for meter in members:
            if one.get(meter, 0) > 0:
                yield number, meter


def _used(meters: dict[str, int]) -> dict[str, int]:
    return {meter: quantity for meter, quantity in meters.items() if quantity}
