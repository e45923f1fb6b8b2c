"""How amounts, quantities and prices are written for a person: exact, with thousands set apart."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from typing import assert_never

from tallystick.contract.model import Price
from tallystick.contract.shapes import CostPlus, Graduated, Package, PerUnit, Tier, Volume
from tallystick.core.money import format_decimal


def number(value: Fraction | int) -> str:
    """An exact number, such as 1,200,000.5; a fraction without a finite decimal is written as a fraction."""
    value = Fraction(value)
    try:
        text = format_decimal(abs(value))
    except ValueError:
        text = str(abs(value))
        return f"-{text}" if value < 0 else text
    whole, _, decimals = text.partition(".")
    grouped = f"{int(whole):,}{'.' if decimals else ''}{decimals}"
    return f"-{grouped}" if value < 0 else grouped


def usd(value: Fraction) -> str:
    """An exact amount of USD with at least two decimals, such as 0.10 USD or 0.0015 USD."""
    text = number(value)
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.ljust(2, '0')} USD"


def percent(share: Fraction) -> str:
    """A share in percent, such as 30 %."""
    return f"{number(share * 100)} %"


def rate(unit_usd: Fraction, per: Fraction) -> str:
    """A unit price, such as 0.10 USD per 1,000,000; `each` for a price of one."""
    return f"{usd(unit_usd)} {'each' if per == 1 else f'per {number(per)}'}"


def duration(value: timedelta) -> str:
    """A length of time in its largest whole unit, such as 30 days."""
    seconds = int(value.total_seconds())
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds % size == 0:
            count = seconds // size
            return f"{count} {unit}{'' if count == 1 else 's'}"
    raise AssertionError("every whole number of seconds divides by one")


def price_words(price: Price) -> str:
    """A price in one phrase, such as "0.10 USD per 1,000,000"."""
    match price.shape:
        case PerUnit(unit_usd, per):
            text = rate(unit_usd, per)
        case Package(size, price_usd, free):
            first = f"{number(free)} free, then " if free else ""
            text = f"{first}{usd(price_usd)} per package of {number(size)}"
        case Graduated(tiers):
            text = "graduated: " + _tiers(tiers)
        case Volume(tiers):
            text = "volume: " + _tiers(tiers)
        case CostPlus(share):
            text = f"our cost plus {percent(share)}" if share else "our cost"
        case unknown:
            assert_never(unknown)
    return f"{text}, {', '.join(price.includes)} included" if price.includes else text


def _tiers(tiers: tuple[Tier, ...]) -> str:
    parts: list[str] = []
    for tier in tiers:
        flat = f" and {usd(tier.flat_usd)} flat" if tier.flat_usd else ""
        bound = "above that" if tier.up_to is None and len(tiers) > 1 else "any quantity"
        if tier.up_to is not None:
            bound = f"up to {number(tier.up_to)}"
        parts.append(f"{bound} {rate(tier.unit_usd, tier.per)}{flat}")
    return "; ".join(parts)
