"""Building an invoice: a period's facts, priced by one plan of one contract version. A pure function.

Requests of an environment that the contract does not charge, and failed requests elsewhere, are set aside
first; what is left is summed per meter and priced by `contract.pricing.price_period`, the function that
quotes use. Closing a month, previewing one and replaying one all end here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from msgspec.structs import replace

from tallystick.contract.model import Contract, Plan
from tallystick.contract.pricing import ChargeLine, not_charged, price_period
from tallystick.contract.shapes import TierCharge
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.core.money import PICO_PER_USD, cents_to_usd, format_decimal, pico_to_usd
from tallystick.core.periods import Period
from tallystick.invoice.digest import internal_sha256, invoice_digest, invoice_id
from tallystick.invoice.model import (
    Internal,
    Invoice,
    InvoiceContract,
    InvoiceLine,
    InvoicePeriod,
    InvoiceTier,
    MeterUse,
    ModelCost,
    NotCharged,
    NotChargedEvents,
    NotChargedReason,
    RateUse,
    Totals,
)
from tallystick.invoice.usage import MeterSum, PeriodFacts, PeriodSums
from tallystick.usage.meters import METERS, meter_order

CENTS_MAX = 2**63 - 1
"""The largest total that the database holds (a PostgreSQL bigint): about 92 million billion USD."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Whose month is billed, and under what.

    Attributes:
        period: the half-open month, on the clocks of `time_zone`.
        contract: the version in force.
        plan: the name of the plan in it.
        subscription: the ordinal of the subscription that chose contract and plan.
        subscriptions_known: how many subscriptions the org had when they were chosen.
        in_force_at: the instant at which version and plan were looked up: the period's start, or the first
            instant in it at which the org had both.
    """

    org_id: str
    period: Period
    time_zone: str
    contract: Contract
    plan: str
    subscription: int
    subscriptions_known: int
    in_force_at: datetime


def build_invoice(terms: Terms, facts: PeriodFacts) -> Invoice:
    """The invoice of those facts under those terms; the same input gives the same bytes.

    Raises:
        BadInput: `unknown_plan`, when the contract version has no such plan; `cost_unknown`, when a price is a
            share of our cost and the cost of a charged request is not known; `total_out_of_range`, when the sum
            is beyond what the database holds.
    """
    plan = terms.contract.plans.get(terms.plan)
    if plan is None:
        raise BadInput(
            "unknown_plan",
            f"contract {terms.contract.name} {terms.contract.version} has no plan {terms.plan!r}",
            next_step=f"move {terms.org_id} to one of {', '.join(terms.contract.plans)}",
            where="plan",
        )
    charged, set_aside = _split(terms.contract, facts.sums)
    lines = _lines(terms.contract, plan, charged)
    internal = _internal(facts.sums)
    invoice = Invoice(
        invoice_id=invoice_id(terms.org_id, terms.contract.name, terms.period.label),
        org_id=terms.org_id,
        currency=terms.contract.currency,
        period=InvoicePeriod(
            label=terms.period.label,
            start=format_instant(terms.period.start),
            end=format_instant(terms.period.end),
            time_zone=terms.time_zone,
        ),
        contract=InvoiceContract(
            name=terms.contract.name,
            version=terms.contract.version,
            sha256=terms.contract.sha256,
            plan=terms.plan,
            subscription=terms.subscription,
            subscriptions_known=terms.subscriptions_known,
            in_force_at=format_instant(terms.in_force_at),
        ),
        rates=tuple(RateUse(rate_version=name, events=count) for name, count in sorted(facts.sums.rates.items())),
        ledger=facts.ledger,
        lines=lines,
        not_charged=NotCharged(
            meters=tuple(
                _use(terms.contract, meter, charged[meter])
                for meter in not_charged(plan, {name: Fraction(found.quantity) for name, found in charged.items()})
            ),
            events=set_aside,
        ),
        totals=_check_total(terms, _totals(lines)),
        internal_sha256="",
        internal=internal,
        digest="",
    )
    return _sealed(invoice)


def _check_total(terms: Terms, totals: Totals) -> Totals:
    if Fraction(totals.total_usd) * 100 > CENTS_MAX:
        raise BadInput(
            "total_out_of_range",
            f"{terms.period.label} of {terms.org_id} comes to {totals.total_usd} USD, more than an invoice can hold",
            next_step=f"check the prices of plan {terms.plan} and the quantities; one of them is probably wrong",
            where=terms.org_id,
        )
    return totals


def _sealed(invoice: Invoice) -> Invoice:
    """The invoice with its two hashes filled in."""
    sealed = replace(invoice, internal_sha256=internal_sha256(invoice.document()["internal"]))
    return replace(sealed, digest=invoice_digest(sealed.document()))


def _split(contract: Contract, sums: PeriodSums) -> tuple[dict[str, MeterSum], tuple[NotChargedEvents, ...]]:
    """What is charged, by meter, and what is not, by environment and reason."""
    charged: dict[str, MeterSum] = {}
    aside: dict[tuple[str, NotChargedReason], dict[str, MeterSum]] = {}
    counts: dict[tuple[str, NotChargedReason], int] = {}
    for (environment, failed), events in sums.events.items():
        key = _reason(contract, environment, failed)
        if key is not None:
            counts[key] = counts.get(key, 0) + events
            aside.setdefault(key, {})
    for (environment, failed, meter), found in sums.meters.items():
        key = _reason(contract, environment, failed)
        _merge(charged if key is None else aside[key], meter, found)
    groups = tuple(
        NotChargedEvents(
            reason=reason,
            environment=environment,
            events=counts[environment, reason],
            meters=tuple(_uses(contract, aside[environment, reason])),
        )
        for environment, reason in sorted(counts)
    )
    return charged, groups


def _reason(contract: Contract, environment: str, failed: bool) -> tuple[str, NotChargedReason] | None:
    if not contract.charges(environment):
        return (environment, "environment")
    return (environment, "failure") if failed else None


def _merge(into: dict[str, MeterSum], meter: str, found: MeterSum) -> None:
    total = into.setdefault(meter, MeterSum())
    total.quantity += found.quantity
    total.events += found.events
    total.cost_pico += found.cost_pico
    total.cost_unknown += found.cost_unknown


def _lines(contract: Contract, plan: Plan, charged: Mapping[str, MeterSum]) -> tuple[InvoiceLine, ...]:
    quantities = {name: Fraction(found.quantity) for name, found in charged.items() if found.quantity}
    costs = {name: Fraction(found.cost_pico, PICO_PER_USD) for name, found in charged.items() if not found.cost_unknown}
    charges = price_period(plan, quantities, costs)
    return tuple(_line(contract, number, charge, charged) for number, charge in enumerate(charges, start=1))


def _line(contract: Contract, number: int, charge: ChargeLine, charged: Mapping[str, MeterSum]) -> InvoiceLine:
    return InvoiceLine(
        number=number,
        kind=charge.kind,
        meter=charge.meter,
        quantity=format_decimal(charge.quantity),
        price=charge.price,
        metered=tuple(_use(contract, meter, charged[meter]) for meter, _ in charge.parts),
        tiers=tuple(map(_tier, charge.tiers)),
        amount_usd=cents_to_usd(charge.amount_cents),
        exact_usd=format_decimal(charge.exact_usd),
        residue_usd=format_decimal(charge.residue_usd),
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
    return [_use(contract, name, meters[name]) for name in sorted(meters, key=meter_order) if meters[name].quantity]


def _use(contract: Contract, meter: str, found: MeterSum) -> MeterUse:
    known = METERS.get(meter) or contract.meters.get(meter)
    unit = "unit" if known is None else known.unit
    return MeterUse(meter=meter, unit=unit, quantity=str(found.quantity), events=found.events)


def _internal(sums: PeriodSums) -> Internal:
    models = sorted(sums.models.items(), key=lambda item: (item[0][0] or "", item[0][1]))
    return Internal(
        cost_usd=pico_to_usd(sum(found.cost_pico for _, found in models)),
        unpriced_events=sum(found.unpriced for _, found in models),
        models=tuple(
            ModelCost(
                provider=provider,
                model=model,
                events=found.events,
                unpriced_events=found.unpriced,
                cost_usd=pico_to_usd(found.cost_pico),
            )
            for (provider, model), found in models
        ),
    )


def _totals(lines: tuple[InvoiceLine, ...]) -> Totals:
    amount = sum((Fraction(line.amount_usd) for line in lines), Fraction(0))
    exact = sum((Fraction(line.exact_usd) for line in lines), Fraction(0))
    return Totals(
        total_usd=cents_to_usd(round(amount * 100)),
        exact_total_usd=format_decimal(exact),
        residue_usd=format_decimal(exact - amount),
    )
