"""How an invoice writes numbers and lists for a person. Nothing here rounds."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tallystick.core.money import format_decimal, format_exact
from tallystick.invoice.model import InvoiceTier


def grouped(value: str | int) -> str:
    """A decimal with its thousands set apart: `grouped("-1234567.50") == "-1,234,567.50"`."""
    text = str(value)
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, point, fraction = digits.partition(".")
    return f"{sign}{int(whole):,}{point}{fraction}"


def usd(value: str) -> str:
    """An exact amount of USD with two decimals at least: `usd("1234.5") == "1,234.50"`.

    A fraction stays one, and what it comes to is said to six decimals: `usd("170/31") == "170/31 (about 5.483871)"`.
    """
    if "/" in value:
        return f"{value} (about {cut(value, 6)})"
    whole, _, decimals = grouped(value).partition(".")
    return f"{whole}.{decimals.ljust(2, '0')}"


def cut(value: str, places: int) -> str:
    """An exact number, to so many decimals, half to even; as it is when it has no more."""
    if "/" not in value:
        return value
    return format_decimal(Fraction(round(Fraction(value) * 10**places), 10**places))


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: `counted(1, "request") == "1 request"`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed(items: Sequence[str]) -> str:
    """A list in a sentence: "a", "a and b", "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "nothing"


def added(amounts: Sequence[str]) -> str:
    """The exact sum of amounts."""
    return format_exact(sum(map(Fraction, amounts), Fraction(0)))


def tier_label(tier: InvoiceTier, tiers: int) -> str:
    """Which of a price's tiers it is: "up to 1,000"; empty when the price has one tier only."""
    if tier.up_to is not None:
        return f"tier {tier.tier}, up to {grouped(tier.up_to)}"
    return f"tier {tier.tier}, open-ended" if tiers > 1 or tier.tier > 1 else ""


def tier_arithmetic(tier: InvoiceTier) -> str:
    """The step written out: "1,000,000,000 × 0.10 per 1,000,000 = 100"."""
    if tier.basis == "cost_usd":
        product = f"our cost of {usd(tier.billed)} USD × {grouped(tier.unit_usd)}"
    elif tier.basis == "packages":
        packages = format_decimal(Fraction(tier.billed) / Fraction(tier.per))
        what = "package" if packages == "1" else "packages"
        product = f"{grouped(packages)} {what} of {grouped(tier.per)} × {usd(tier.unit_usd)}"
    elif tier.unit_usd == tier.flat_usd == "0":
        return f"{grouped(tier.billed)} free"
    else:
        price = usd(tier.unit_usd) if tier.per == "1" else f"{usd(tier.unit_usd)} per {grouped(tier.per)}"
        product = f"{grouped(tier.billed)} × {price}"
    flat = "" if tier.flat_usd == "0" else f" + {usd(tier.flat_usd)} flat"
    return f"{product}{flat} = {usd(tier.amount_usd)}"


def tier_sentence(tier: InvoiceTier, tiers: int) -> str:
    """The step as a sentence, with its tier where there are several."""
    label = tier_label(tier, tiers)
    arithmetic = tier_arithmetic(tier)
    arithmetic += " USD." if "=" in arithmetic else "."
    return f"{label[0].upper()}{label[1:]}: {arithmetic}" if label else arithmetic[0].upper() + arithmetic[1:]
