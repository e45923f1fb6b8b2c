"""Amounts in cases: how they are read from the file, and the one way in which they are written to be compared."""

from __future__ import annotations

from tallystick.contract.fields import Place
from tallystick.core.money import format_decimal, pico_to_usd
from tallystick.ledger.operations import CREDIT, CREDITS_PICO_MAX

UNKNOWN = "unknown"
"""A cost that nobody knows, because there is no price."""


def credits(pico: int) -> str:
    """Pico-credits as the shortest decimal of credits."""
    return pico_to_usd(pico)


def read_pico(place: Place) -> int:
    """Credits or USD as integers of pico-units; never negative.

    Raises:
        BadInput: it is no decimal, is negative (`negative_amount`), too fine or too large.
    """
    pico = place.decimal() * CREDIT
    if pico.denominator != 1:
        raise place.refusal("amount_too_fine", f"{format_decimal(pico / CREDIT)} has more than 12 decimal places")
    if pico > CREDITS_PICO_MAX:
        raise place.refusal("too_large", f"{format_decimal(pico / CREDIT)} is more than is ever moved at once")
    return pico.numerator


def read_credits(place: Place) -> int:
    """An amount to be moved: more than nothing."""
    pico = read_pico(place)
    if not pico:
        raise place.refusal("too_small", "zero is not possible here; it must be more")
    return pico


def read_cost(place: Place) -> int | None:
    """USD in pico-USD; None for `unknown`."""
    return None if place.scalar('USD such as "0.10", or unknown').text == UNKNOWN else read_pico(place)


def pico_of(text: str) -> int:
    """Pico-units of an amount as `credits` writes it; never negative."""
    whole, _, decimals = text.partition(".")
    return int(whole) * CREDIT + int(decimals.ljust(12, "0"))
