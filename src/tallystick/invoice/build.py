"""Building an invoice: a period's facts, each priced by the plan that was in force when it happened. A pure function.

Requests of an environment that the contract does not charge, and failed requests elsewhere, are set aside
first; what is left is summed per plan and meter and priced by `contract.pricing.price_period`, the function that
quotes use. Closing a month, previewing one and replaying one all end here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from msgspec import structs

from tallystick.contract.model import Contract
from tallystick.contract.pricing import ChargeLine, not_charged, price_period
from tallystick.contract.shapes import TierCharge
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.core.money import PICO_PER_USD, cents_to_usd, format_decimal, format_exact, pico_to_usd
from tallystick.invoice.credit_lines import credit_lines, wallet_section
from tallystick.invoice.digest import internal_sha256, invoice_digest, invoice_id
from tallystick.invoice.model import (
    CustomerPaid,
    InForce,
    Internal,
    Invoice,
    InvoiceContract,
    InvoiceLine,
    InvoicePeriod,
    InvoiceSection,
    InvoiceTier,
    MeterUse,
    ModelCost,
    NotCharged,
    NotChargedEvents,
    NotChargedReason,
    RateUse,
    Totals,
    UnpricedMeter,
)
from tallystick.invoice.terms import Section, Terms
from tallystick.invoice.usage import MeterSum, ModelSum, PeriodFacts, PeriodSums
from tallystick.invoice.wallet import WalletMonth
from tallystick.usage.meters import METERS, meter_order

MeterSums = dict[str, MeterSum]

CENTS_MAX = 2**63 - 1
"""The largest total that the database holds (a PostgreSQL bigint): about 92 million billion USD."""


def build_invoice(terms: Terms, facts: PeriodFacts) -> Invoice:
    """The invoice of those facts under those terms; the same input gives the same bytes.

    Raises:
        BadInput: `cost_unknown`, when a price is a share of our cost and the cost of a charged request is not known;
            `credits_without_price`, when credits are to be paid for and the contract does not say what one is worth;
            `total_out_of_range`, when the sum is beyond what the database holds.
    """
    last, held = terms.last
    aside = _Aside(last.contract)
    charged = [aside.split(section.contract, sums) for section, sums in zip(terms.sections, facts.sums, strict=False)]
    aside.take_unplanned(facts.sums[terms.unplanned])
    lines = _lines(terms, charged, facts.wallet)
    invoice = Invoice(
        invoice_id=invoice_id(terms.org_id, last.contract.name, terms.period.label),
        org_id=terms.org_id,
        currency=last.contract.currency,
        period=InvoicePeriod(
            label=terms.period.label,
            start=format_instant(terms.period.start),
            end=format_instant(terms.period.end),
            time_zone=terms.time_zone,
        ),
        contract=InvoiceContract(
            name=last.contract.name,
            version=last.contract.version,
            sha256=last.contract.sha256,
            plan=last.plan.name,
            subscription=held.subscription,
            subscriptions_known=terms.subscriptions_known,
            in_force_at=format_instant(held.start),
        ),
        sections=tuple(map(_section, range(1, len(terms.sections) + 1), terms.sections)),
        rates=tuple(RateUse(rate_version=name, events=count) for name, count in sorted(facts.total.rates.items())),
        ledger=facts.ledger,
        lines=lines,
        not_charged=NotCharged(meters=tuple(_unpriced(terms, charged)), events=aside.groups()),
        customer_paid=_customer_paid(facts.total),
        wallet=wallet_section(facts.wallet),
        totals=_check_total(terms, _totals(lines)),
        internal_sha256="",
        internal=_internal(facts.total),
        digest="",
    )
    return _sealed(invoice)


def _section(number: int, section: Section) -> InvoiceSection:
    return InvoiceSection(
        number=number,
        contract=section.contract.name,
        version=section.contract.version,
        sha256=section.contract.sha256,
        plan=section.plan.name,
        kind=section.plan.kind,
        days=section.days.held,
        days_of_month=section.days.month,
        in_force=tuple(
            InForce(start=format_instant(one.start), end=format_instant(one.end), subscription=one.subscription)
            for one in section.holdings
        ),
    )


def _unpriced(terms: Terms, charged: Sequence[MeterSums]) -> Iterator[UnpricedMeter]:
    """What was counted in charged requests, and has no price in its section's plan."""
    for number, (section, found) in enumerate(zip(terms.sections, charged, strict=True), start=1):
        quantities = {name: Fraction(one.quantity) for name, one in found.items()}
        for meter in not_charged(section.plan, quantities):
            use = meter_use(section.contract, meter, found[meter])
            yield UnpricedMeter(**structs.asdict(use), section=number, plan=section.plan.name)


def _check_total(terms: Terms, totals: Totals) -> Totals:
    if Fraction(totals.total_usd) * 100 > CENTS_MAX:
        raise BadInput(
            "total_out_of_range",
            f"{terms.period.label} of {terms.org_id} comes to {totals.total_usd} USD, more than an invoice can hold",
            next_step=f"check the prices of plan {terms.last[0].plan.name} and the quantities; one is probably wrong",
            where=terms.org_id,
        )
    return totals


def _sealed(invoice: Invoice) -> Invoice:
    """The invoice with its two hashes filled in."""
    sealed = structs.replace(invoice, internal_sha256=internal_sha256(invoice.document()["internal"]))
    return structs.replace(sealed, digest=invoice_digest(sealed.document()))


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
        return tuple(
            NotChargedEvents(
                reason=reason,
                environment=environment,
                events=self._counts[environment, reason],
                meters=tuple(_uses(self._contract, self._meters.get((environment, reason), {}))),
            )
            for environment, reason in sorted(self._counts)
        )

    def _count(self, environment: str, reason: NotChargedReason, events: int) -> None:
        self._counts[environment, reason] = self._counts.get((environment, reason), 0) + events


def _reason(contract: Contract, environment: str, failed: bool) -> NotChargedReason | None:
    if not contract.charges(environment):
        return "environment"
    return "failure" if failed else None


def _lines(terms: Terms, charged: Sequence[MeterSums], wallet: WalletMonth) -> tuple[InvoiceLine, ...]:
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


def _internal(sums: PeriodSums) -> Internal:
    return Internal(
        cost_usd=pico_to_usd(sum(found.cost_pico for found in sums.models.values())),
        unpriced_events=sum(found.unpriced for found in sums.models.values()),
        models=_models(sums.models),
    )


def _customer_paid(sums: PeriodSums) -> CustomerPaid:
    models = sums.customer_models.values()
    return CustomerPaid(
        events=sum(found.events for found in models),
        cost_usd=pico_to_usd(sum(found.cost_pico for found in models)),
        unpriced_events=sum(found.unpriced for found in models),
        models=_models(sums.customer_models),
    )


def _models(models: Mapping[tuple[str | None, str], ModelSum]) -> tuple[ModelCost, ...]:
    return tuple(
        ModelCost(
            provider=provider,
            model=model,
            events=found.events,
            unpriced_events=found.unpriced,
            cost_usd=pico_to_usd(found.cost_pico),
        )
        for (provider, model), found in sorted(models.items(), key=lambda item: (item[0][0] or "", item[0][1]))
    )


def _totals(lines: tuple[InvoiceLine, ...]) -> Totals:
    amount = sum((Fraction(line.amount_usd) for line in lines), Fraction(0))
    exact = sum((Fraction(line.exact_usd) for line in lines), Fraction(0))
    return Totals(
        total_usd=cents_to_usd(round(amount * 100)),
        exact_total_usd=format_exact(exact),
        residue_usd=format_exact(exact - amount),
    )
