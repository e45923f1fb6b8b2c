"""The lines of a month: what is charged of its facts, plan by plan, and what is set aside first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from msgspec import structs

from tallystick.contract.model import Contract
from tallystick.contract.pricing import ChargeLine, not_charged, price_period
from tallystick.contract.shapes import TierCharge
from tallystick.core.money import PICO_PER_USD, cents_to_usd, format_decimal, format_exact
from tallystick.invoice.credit_lines import credit_lines
from tallystick.invoice.line_model import InvoiceLine, InvoiceTier, MeterUse
from tallystick.invoice.parts import NotCharged, NotChargedEvents, NotChargedReason, Totals, UnpricedMeter
from tallystick.invoice.terms import Section, Terms
from tallystick.invoice.usage import MeterSum, PeriodSums
from tallystick.invoice.wallet import WalletMonth
from tallystick.usage.meters import METERS, meter_order

MeterSums = dict[str, MeterSum]


class _Aside:
    """What is metered and not charged, by reason and environment; what is charged goes through."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract  # it says in which units its own meters are shown
        self._meters: dict[tuple[str, NotChargedReason], MeterSums] = {}
        self._counts: dict[tuple[str, NotChargedReason], int] = {}

    def split(self, contract: Contract, sums: PeriodSums) -> MeterSums:
        """Set aside what the contract does not charge, and failures; the rest, by meter."""
        charged: MeterSums = {}
        for (environment, failed), events in sums.events.items():
            reason = _reason(contract, environment, failed)
            if reason is not None:
                self._count(environment, reason, events)
        for (environment, failed, meter), found in sums.meters.items():
            reason = _reason(contract, environment, failed)
            into = charged if reason is None else self._meters.setdefault((environment, reason), {})
            into.setdefault(meter, MeterSum()).add(found)
        return charged

    def take_unplanned(self, sums: PeriodSums) -> None:
        """Set all of it aside: there was no plan."""
        for (environment, _), events in sums.events.items():
            self._count(environment, "no_plan", events)
        for (environment, _, meter), found in sums.meters.items():
            self._meters.setdefault((environment, "no_plan"), {}).setdefault(meter, MeterSum()).add(found)

    def groups(self) -> tuple[NotChargedEvents, ...]:
        """All that was set aside."""
        found = (
            NotChargedEvents(
                reason=reason,
                environment=environment,
                events=self._counts.get((environment, reason), 0),
                meters=tuple(_uses(self._contract, self._meters.get((environment, reason), {}))),
            )
            for environment, reason in sorted(self._counts.keys() | self._meters.keys())
        )
        return tuple(one for one in found if one.events or one.meters)

    def _count(self, environment: str, reason: NotChargedReason, events: int) -> None:
        self._counts[environment, reason] = self._counts.get((environment, reason), 0) + events


def _reason(contract: Contract, environment: str, failed: bool) -> NotChargedReason | None:
    if not contract.charges(environment):
        return "environment"
    return "failure" if failed else None


class Sorted:
    """A month's facts, sorted: what is charged, by section and meter, and what is not, with the reason."""

    def __init__(self, terms: Terms, sums: Sequence[PeriodSums]) -> None:
        self._terms = terms
        self._aside = _Aside(terms.last[0].contract)
        sections = zip(terms.sections, sums, strict=False)
        self.charged = [self._aside.split(section.contract, found) for section, found in sections]
        self._aside.take_unplanned(sums[terms.unplanned])

    def lines(self, wallet: WalletMonth) -> tuple[InvoiceLine, ...]:
        """See `charge_lines`."""
        return charge_lines(self._terms, self.charged, wallet)

    def not_charged(self) -> NotCharged:
        """Everything that costs the customer nothing."""
        return NotCharged(meters=tuple(_unpriced(self._terms, self.charged)), events=self._aside.groups())


def charge_lines(terms: Terms, charged: Sequence[MeterSums], wallet: WalletMonth) -> tuple[InvoiceLine, ...]:
    """The lines of every section, then those of credits.

    Raises:
        BadInput: `cost_unknown`, `credits_without_price`.
    """
    lines: list[InvoiceLine] = []
    for number, (section, found) in enumerate(zip(terms.sections, charged, strict=True), start=1):
        quantities = {name: Fraction(one.quantity) for name, one in found.items() if one.quantity}
        if not section.days.held and not quantities:
            continue  # in force for a part of a day, and not used: not even a flat fee is due
        costs = {name: Fraction(one.cost_pico, PICO_PER_USD) for name, one in found.items() if not one.cost_unknown}
        for charge in price_period(section.plan, quantities, costs, section.days):
            lines.append(_line(section, number, len(lines) + 1, charge, found))
    return (*lines, *credit_lines(terms, wallet, len(lines) + 1))


def _line(section: Section, of_section: int, number: int, charge: ChargeLine, charged: MeterSums) -> InvoiceLine:
    return InvoiceLine(
        number=number,
        section=of_section,
        plan=section.plan.name,
        kind=charge.kind,
        meter=charge.meter,
        quantity=format_decimal(charge.quantity),
        price=charge.price,
        metered=tuple(meter_use(section.contract, meter, charged[meter]) for meter, _ in charge.parts),
        tiers=tuple(map(_tier, charge.tiers)),
        amount_usd=cents_to_usd(charge.amount_cents),
        exact_usd=format_exact(charge.exact_usd),
        residue_usd=format_exact(charge.residue_usd),
        description=charge.description,
    )


def _tier(tier: TierCharge) -> InvoiceTier:
    return InvoiceTier(
        tier=tier.tier,
        quantity=format_decimal(tier.quantity),
        basis=tier.basis,
        billed=format_decimal(tier.billed),
        up_to=None if tier.up_to is None else format_decimal(tier.up_to),
        unit_usd=format_decimal(tier.unit_usd),
        per=format_decimal(tier.per),
        flat_usd=format_decimal(tier.flat_usd),
        amount_usd=format_decimal(tier.amount_usd),
    )


def _uses(contract: Contract, meters: Mapping[str, MeterSum]) -> Iterable[MeterUse]:
    return [
        meter_use(contract, name, meters[name]) for name in sorted(meters, key=meter_order) if meters[name].quantity
    ]


def meter_use(contract: Contract, meter: str, found: MeterSum) -> MeterUse:
    """How much of a meter, in the unit that the contract gives it."""
    known = METERS.get(meter) or contract.meters.get(meter)
    unit = "unit" if known is None else known.unit
    return MeterUse(meter=meter, unit=unit, quantity=str(found.quantity), events=found.events)


def _unpriced(terms: Terms, charged: Sequence[MeterSums]) -> Iterator[UnpricedMeter]:
    """What was counted in charged requests, and has no price in its section's plan."""
    for number, (section, found) in enumerate(zip(terms.sections, charged, strict=True), start=1):
        quantities = {name: Fraction(one.quantity) for name, one in found.items()}
        for meter in not_charged(section.plan, quantities):
            use = meter_use(section.contract, meter, found[meter])
            yield UnpricedMeter(**structs.asdict(use), section=number, plan=section.plan.name)


def totals_of(lines: Iterable[InvoiceLine]) -> Totals:
    """The sums over these lines."""
    lines = tuple(lines)
    amount = sum((Fraction(line.amount_usd) for line in lines), Fraction(0))
    exact = sum((Fraction(line.exact_usd) for line in lines), Fraction(0))
    return Totals(
        total_usd=cents_to_usd(round(amount * 100)),
        exact_total_usd=format_exact(exact),
        residue_usd=format_exact(exact - amount),
    )
