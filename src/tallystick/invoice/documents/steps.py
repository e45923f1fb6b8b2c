"""The arithmetic of a line as rows that add up to it: what was counted, at which price, what that comes to."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from tallystick.core.money import format_decimal, format_exact
from tallystick.invoice.documents.locales import Writer
from tallystick.invoice.documents.names import meter_title
from tallystick.invoice.model import AdjustedStep, Invoice, InvoiceLine, InvoiceTier

Row = dict[str, str]


def line_rows(invoice: Invoice, line: InvoiceLine, writer: Writer) -> list[Row]:
    """The rows under a line, each with `label`, `quantity`, `price` and `amount`; amounts are exact."""
    if line.adjusts is not None:
        return _adjusted_rows(line.adjusts, writer)
    if line.kind == "base_fee":
        return []
    return [row for place in range(len(line.tiers)) for row in _tier_rows(line.tiers, place, writer)]


def line_notes(invoice: Invoice, line: InvoiceLine, writer: Writer) -> list[str]:
    """What is to be said of a line that is no arithmetic: its share of the month, what its quantity is made of."""
    notes = []
    section = invoice.section_of(line)
    kind = line.kind if line.adjusts is None else line.adjusts.kind
    if kind in ("base_fee", "commit_true_up") and section.days != section.days_of_month:
        notes.append(f"for {section.days} of the month's {section.days_of_month} days")
    if kind == "commit_true_up" and line.adjusts is None:
        notes.append("the committed minimum, less what is charged above")
    if len(line.metered) > 1:
        parts = [f"{writer.number(use.quantity)} {meter_title(use.meter).lower()}" for use in line.metered]
        notes.append("made of " + " and ".join(parts))
    if line.adjusts is not None and kind == "usage":
        adjusts = line.adjusts
        notes.append(f"{writer.number(adjusts.now_quantity)} instead of {writer.number(adjusts.billed_quantity)}")
    return notes


def _adjusted_rows(adjusts: AdjustedStep, writer: Writer) -> list[Row]:
    before, after = adjusts.before, adjusts.after
    if before is None and after is None:
        return [
            _row("As it is now", "", "", writer.amount(adjusts.now_usd)),
            _row("As billed before", "", "", writer.amount(_negative(adjusts.billed_usd))),
        ]
    rows = []
    if after is not None:
        bounds = _alone(after, adjusts.now_quantity, writer)
        rows.append(_row(_said("As it is now", bounds), *_sum(after, writer)))
    if before is not None:
        quantity, price, _ = _sum(before, writer)
        amount = writer.amount(_negative(before.amount_usd))
        bounds = _alone(before, adjusts.billed_quantity, writer)
        rows.append(_row(_said("As billed before", bounds), quantity, price, amount))
    return rows


def _tier_rows(tiers: tuple[InvoiceTier, ...], place: int, writer: Writer) -> list[Row]:
    """A tier, and a row for the flat fee of entering it where it has one."""
    tier = tiers[place]
    label = _bounds(tier, tiers[place - 1] if place else None, writer)
    quantity, price, amount = _sum(tier, writer)
    if tier.flat_usd == "0":
        return [_row(label, quantity, price, amount)]
    without = format_exact(Fraction(tier.amount_usd) - Fraction(tier.flat_usd))
    return [
        _row(label, quantity, price, writer.amount(without)),
        _row("Fee for reaching this tier", "", "", writer.amount(tier.flat_usd)),
    ]


def _alone(tier: InvoiceTier, quantity: str, writer: Writer) -> str:
    """Which units of a quantity a tier is for, in words, where the tier before it is not at hand."""
    if tier.tier == 1 or tier.quantity == quantity:
        return _bounds(tier, None, writer)
    end = f", up to {writer.number(tier.up_to)}" if tier.up_to is not None else ""
    return f"What exceeds tier {tier.tier - 1}{end}"


def _bounds(tier: InvoiceTier, before: InvoiceTier | None, writer: Writer) -> str:
    """Which units a tier is for, in words."""
    low = before.up_to if before is not None else None
    if tier.up_to is not None:
        if low is None:
            first = "First" if tier.tier == 1 else "Up to"
            return f"{first} {writer.number(tier.up_to)}"
        return f"Above {writer.number(low)}, up to {writer.number(tier.up_to)}"
    if low is not None:
        return f"Above {writer.number(low)}"
    return f"All of it at the price of tier {tier.tier}" if tier.tier > 1 else ""


def _sum(tier: InvoiceTier, writer: Writer) -> tuple[str, str, str]:
    """Quantity, price and amount of a tier."""
    amount = writer.amount(tier.amount_usd)
    if tier.basis == "cost_usd":
        return f"cost {writer.amount(tier.billed)}", f"× {writer.number(tier.unit_usd)}", amount
    if tier.basis == "packages":
        packages = Fraction(tier.billed) / Fraction(tier.per)
        many = f"{writer.number(format_decimal(packages))} × {writer.number(tier.per)}"
        return many, f"{writer.amount(tier.unit_usd)} per package", amount
    if tier.unit_usd == "0" and tier.flat_usd == "0":
        return writer.number(tier.billed), "free", amount
    per = "each" if tier.per == "1" else f"per {writer.number(tier.per)}"
    return writer.number(tier.billed), f"{writer.amount(tier.unit_usd)} {per}", amount


def _said(label: str, bounds: str) -> str:
    return f"{label}: {bounds[0].lower()}{bounds[1:]}" if bounds else label


def _negative(amount: str) -> str:
    return format_exact(-Fraction(amount))


def _row(label: str, quantity: str, price: str, amount: str) -> dict[str, Any]:
    return {"label": label, "quantity": quantity, "price": price, "amount": amount}
