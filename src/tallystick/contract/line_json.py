"""Charge lines as plain JSON members: every amount and quantity a decimal string."""

from __future__ import annotations

from tallystick.contract.pricing import ChargeLine
from tallystick.contract.shapes import TierCharge
from tallystick.core.money import cents_to_usd, format_decimal


def line_members(line: ChargeLine) -> dict[str, object]:
    """One line; `amount_usd` is rounded to the cent as on an invoice, `exact_usd` is not."""
    return {
        "kind": line.kind,
        "meter": line.meter,
        "quantity": format_decimal(line.quantity),
        "amount_usd": cents_to_usd(line.amount_cents),
        "exact_usd": format_decimal(line.exact_usd),
        "residue_usd": format_decimal(line.residue_usd),
        "price": line.price,
        "parts": {name: format_decimal(quantity) for name, quantity in line.parts},
        "tiers": [tier_members(tier) for tier in line.tiers],
        "description": line.description,
    }


def tier_members(tier: TierCharge) -> dict[str, object]:
    """One tier's part of a line: `billed` × `unit_usd` / `per` + `flat_usd` = `amount_usd`."""
    return {
        "tier": tier.tier,
        "quantity": format_decimal(tier.quantity),
        "up_to": None if tier.up_to is None else format_decimal(tier.up_to),
        "basis": tier.basis,
        "billed": format_decimal(tier.billed),
        "unit_usd": format_decimal(tier.unit_usd),
        "per": format_decimal(tier.per),
        "flat_usd": format_decimal(tier.flat_usd),
        "amount_usd": format_decimal(tier.amount_usd),
    }
