"""Cost and usage in the columns of FOCUS, the FinOps Open Cost and Usage Specification.

The file has the columns of FOCUS 1.3, and of 1.2, which names the provider and the publisher in columns of their own.
A row is a charge: a step of a line's arithmetic, what was used and costs nothing, or a credit that was used up.
`BilledCost` adds up to the invoice's total less those credits, to the cent, within a line to its amount: its largest
row has what rounding the line took. What is carried over from another invoice is a payment, and no row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from msgspec import structs

from tallystick.core.money import format_exact
from tallystick.invoice.documents.applied import applied_label
from tallystick.invoice.documents.issue import Issue
from tallystick.invoice.documents.names import line_name, meter_title
from tallystick.invoice.model import Invoice, InvoiceLine, InvoicePeriod, InvoiceTier, UnpricedMeter
from tallystick.invoice.tables import csv_table, text_cell
from tallystick.invoice.wording import cut, tier_arithmetic
from tallystick.ledger.invoice_operations import Applied

FOCUS_COLUMNS: Final = (
    "AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency",
    "BillingPeriodEnd", "BillingPeriodStart", "CapacityReservationId", "CapacityReservationStatus", "ChargeCategory",
    "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "CommitmentDiscountUnit", "ConsumedQuantity", "ConsumedUnit",
    "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "HostProviderName", "InvoiceId", "InvoiceIssuerName",
    "ListCost", "ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit", "ProviderName",
    "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory",
    "ServiceName", "ServiceProviderName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId",
    "SubAccountId", "SubAccountName", "SubAccountType", "Tags", "x_InvoiceLine", "x_InvoiceDigest",
)  # fmt: skip
_NUMBERS: Final = frozenset(name for name in FOCUS_COLUMNS if name.endswith(("Cost", "UnitPrice", "Quantity")))
_PLACES = 18
_TIMES: Final = frozenset(name for name in FOCUS_COLUMNS if name.endswith(("PeriodStart", "PeriodEnd")))
_FREQUENCIES: Final = {"base_fee": "Recurring", "commit_true_up": "Recurring", "top_up": "One-Time"}
_UNKNOWN = "not stated"


@dataclass(frozen=True, slots=True)
class _Charge:
    """A part of a line: `units × unit_usd = exact`; without `units` it is one sum."""

    what: str
    exact: Fraction
    category: str
    units: Fraction
    unit_usd: Fraction
    unit: str
    consumed: Fraction | None
    consumed_unit: str
    price_id: str


def focus_csv(invoice: Invoice, issue: Issue) -> Iterator[str]:
    """The rows as RFC 4180 text in UTF-8, record by record, under `FOCUS_COLUMNS`; what is null is an empty cell.

    Numbers are exact decimals (shares of a month cut to 18 decimals), times are UTC, and no cell of text is taken for a
    formula.
    """
    rows = (
        tuple(row[name] if name in _NUMBERS or name in _TIMES else text_cell(row[name]) for name in FOCUS_COLUMNS)
        for row in focus_rows(invoice, issue)
    )
    yield from csv_table(FOCUS_COLUMNS, rows)


def focus_rows(invoice: Invoice, issue: Issue) -> Iterator[dict[str, str]]:
    """The rows by the names of their columns, before anything is guarded for spreadsheets."""
    common = _common(invoice, issue)
    for line in invoice.lines:
        yield from _line_rows(invoice, line, common)
    for meter in invoice.not_charged.meters:
        yield _free_row(invoice, meter, common)
    for used in issue.applied:
        if used.source != "carried":
            yield _credit_row(invoice, used, common)


def _common(invoice: Invoice, issue: Issue) -> dict[str, str]:
    seller = issue.seller.name if issue.seller is not None else _UNKNOWN
    return dict.fromkeys(FOCUS_COLUMNS, "") | {
        "BillingAccountId": invoice.org_id,
        "BillingAccountName": issue.bill_to.name,
        "BillingAccountType": "Organization",
        "BillingCurrency": invoice.currency,
        "BillingPeriodStart": invoice.period.start,
        "BillingPeriodEnd": invoice.period.end,
        "HostProviderName": seller,
        "InvoiceId": issue.number or "",
        "InvoiceIssuerName": seller,
        "PricingCurrency": invoice.currency,
        "ProviderName": seller,
        "PublisherName": seller,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": invoice.contract.name,
        "ServiceProviderName": seller,
        "ServiceSubcategory": "Generative AI",
        "x_InvoiceDigest": invoice.digest,
    }


def _line_rows(invoice: Invoice, line: InvoiceLine, common: dict[str, str]) -> Iterator[dict[str, str]]:
    kind = line.kind if line.adjusts is None else line.adjusts.kind
    charges = _charges(line, kind)
    billed = _shares(Fraction(line.amount_usd), [one.exact for one in charges])
    month = invoice.period if line.adjusts is None else invoice.adjustments[line.adjusts.adjustment - 1].period
    section = invoice.section_of(line)
    for charge, amount in zip(charges, billed, strict=True):
        is_correction = line.adjusts is not None
        row = (
            common
            | _period(month)
            | {
                "BilledCost": _decimal(amount),
                "ChargeCategory": charge.category,
                "ChargeClass": "Correction" if is_correction else "",
                "ChargeDescription": charge.what,
                "ChargeFrequency": _FREQUENCIES.get(kind, "Usage-Based"),
                "ContractedCost": _decimal(charge.exact),
                "EffectiveCost": _decimal(amount),
                "ListCost": _decimal(charge.exact),
                "PricingCurrencyEffectiveCost": _decimal(amount),
                "SkuId": _sku(section.contract, line),
                "SkuMeter": meter_title(line.meter) if line.meter is not None else "",
                "SkuPriceDetails": _details(line, section.plan, section.version),
                "SkuPriceId": charge.price_id,
                "Tags": _tags(line.plan, section.version),
                "x_InvoiceLine": str(line.number),
            }
        )
        if line.meter is not None:
            row |= {"ResourceId": line.meter, "ResourceName": meter_title(line.meter), "ResourceType": "Meter"}
        yield row | _priced(charge) | _consumed(charge)


def _charges(line: InvoiceLine, kind: str) -> list[_Charge]:
    """The line's parts, each with its exact amount."""
    unit = line.metered[0].unit if line.metered else "unit"
    name = line_name(line)
    category = "Usage" if kind in ("usage", "credits_owed") else "Purchase"
    price_id = f"{line.plan}/{kind}/{line.meter or ''}".rstrip("/")
    if line.adjusts is not None or kind in ("base_fee", "commit_true_up") or not line.tiers:
        exact = Fraction(line.exact_usd)
        units = Fraction(1)
        consumed = Fraction(line.quantity) if category == "Usage" else None
        return [_Charge(line.description, exact, category, units, exact, "Unit", consumed, _unit(unit, kind), price_id)]
    charges: list[_Charge] = []
    for tier in line.tiers:
        charges += _tier_charges(tier, name, category, _unit(unit, kind), f"{price_id}/{tier.tier}")
    return charges


def _tier_charges(tier: InvoiceTier, name: str, category: str, unit: str, price_id: str) -> Iterator[_Charge]:
    flat, price = Fraction(tier.flat_usd), Fraction(tier.unit_usd)
    without = structs.replace(tier, flat_usd="0", amount_usd=format_exact(Fraction(tier.amount_usd) - flat))
    what = f"{name}: {tier_arithmetic(without)}{'' if _is_free(without) else ' USD'}"
    per = Fraction(tier.per)
    units = Fraction(tier.billed) / per
    pricing_unit = "USD of cost" if tier.basis == "cost_usd" else unit if per == 1 else f"{format_exact(per)} {unit}"
    consumed = Fraction(tier.quantity) if category == "Usage" else None
    yield _Charge(
        what, Fraction(tier.amount_usd) - flat, category, units, price, pricing_unit, consumed, unit, price_id
    )
    if flat:
        fee = f"{name}: fee for reaching tier {tier.tier}"
        yield _Charge(fee, flat, "Purchase", Fraction(1), flat, "Unit", None, "", f"{price_id}/flat")


def _is_free(tier: InvoiceTier) -> bool:
    return tier.basis == "units" and tier.unit_usd == "0"


def _shares(amount: Fraction, exact: list[Fraction]) -> list[Fraction]:
    """What each part bears of the line's rounded amount: its own, and the largest one what rounding took or gave."""
    largest = max(range(len(exact)), key=lambda place: abs(exact[place]))
    rounding = amount - sum(exact, Fraction(0))
    return [one + rounding if place == largest else one for place, one in enumerate(exact)]


def _priced(charge: _Charge) -> dict[str, str]:
    price = _decimal(charge.unit_usd)
    return {
        "ContractedUnitPrice": price,
        "ListUnitPrice": price,
        "PricingCategory": "Standard",
        "PricingCurrencyContractedUnitPrice": price,
        "PricingCurrencyListUnitPrice": price,
        "PricingQuantity": _decimal(charge.units),
        "PricingUnit": charge.unit,
    }


def _consumed(charge: _Charge) -> dict[str, str]:
    if charge.consumed is None:
        return {}
    return {"ConsumedQuantity": _decimal(charge.consumed), "ConsumedUnit": charge.consumed_unit}


def _free_row(invoice: Invoice, meter: UnpricedMeter, common: dict[str, str]) -> dict[str, str]:
    section = invoice.sections[meter.section - 1]
    unit = _unit(meter.unit, "usage")
    quantity = Fraction(meter.quantity)
    charge = _Charge(
        f"{meter_title(meter.meter)}: included in plan {meter.plan}", Fraction(0), "Usage", quantity, Fraction(0), unit,
        quantity, unit, f"{meter.plan}/usage/{meter.meter}",
    )  # fmt: skip
    costs = dict.fromkeys(
        ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost", "PricingCurrencyEffectiveCost"), "0"
    )
    return (
        common
        | _period(invoice.period)
        | costs
        | {
            "ChargeCategory": "Usage",
            "ChargeDescription": charge.what,
            "ChargeFrequency": "Usage-Based",
            "ResourceId": meter.meter,
            "ResourceName": meter_title(meter.meter),
            "ResourceType": "Meter",
            "SkuId": f"{section.contract}/{meter.meter}",
            "SkuMeter": meter_title(meter.meter),
            "SkuPriceId": charge.price_id,
            "Tags": _tags(meter.plan, section.version),
        }
        | _priced(charge)
        | _consumed(charge)
    )


def _credit_row(invoice: Invoice, used: Applied, common: dict[str, str]) -> dict[str, str]:
    """A credit lowers what is billed; it is of the month that is billed, and of no meter."""
    amount = _decimal(Fraction(-used.amount_cents, 100))
    costs = dict.fromkeys(
        ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost", "PricingCurrencyEffectiveCost"), amount
    )
    said = {
        "ChargeCategory": "Credit",
        "ChargeDescription": applied_label(used),
        "ChargeFrequency": "One-Time",
        "Tags": _object({"credit": used.source}),
    }
    return common | _period(invoice.period) | costs | said


def _period(period: InvoicePeriod) -> dict[str, str]:
    return {"ChargePeriodStart": period.start, "ChargePeriodEnd": period.end}


def _sku(contract: str, line: InvoiceLine) -> str:
    kind = line.kind if line.adjusts is None else line.adjusts.kind
    return f"{contract}/{line.meter or kind}"


def _details(line: InvoiceLine, plan: str, version: str) -> str:
    return _object({"x_Price": line.price, "x_Plan": plan, "x_ContractVersion": version})


def _tags(plan: str, version: str) -> str:
    return _object({"plan": plan, "contract_version": version})


def _object(members: dict[str, str]) -> str:
    return json.dumps(members, ensure_ascii=False, sort_keys=True)


def _unit(unit: str, kind: str) -> str:
    return "Credit" if kind in ("top_up", "credits_owed") else unit.capitalize()


def _decimal(value: Fraction) -> str:
    return cut(format_exact(value), _PLACES)
