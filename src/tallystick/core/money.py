"""Exact money: integers of pico-units inside, decimal strings outside, no float anywhere.

One USD is 10**12 pico-USD, so that one token at 0.000001 USD per million is still a whole number.
Amounts that are not yet rounded (a price times a fractional quantity) are `Fraction`; they are rounded
once, half to even, at the invoice line (`to_cents`).
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction

from tallystick.core.errors import BadInput

PICO_PER_USD = 10**12
PICO_MAX = 2**63 - 1
"""The largest amount one ledger entry can hold (a PostgreSQL bigint): about 9.2 million USD."""


_DECIMAL_CHARS_MAX = 100
"""The longest decimal string that is read: the time that it takes grows with the square of its digits, and millions of
them would take minutes. No amount or quantity has half as many."""


def parse_decimal(text: object, *, where: str | None = None) -> Fraction:
    """An exact number from a plain decimal string such as "0.10" or "-3"; no exponents, NaN or infinities.

    Raises:
        BadInput: `invalid_decimal`.
    """
    try:
        if not isinstance(text, str) or len(text) > _DECIMAL_CHARS_MAX or set(text) - set("0123456789.+-"):
            raise ValueError
        return Fraction(Decimal(text))
    except (InvalidOperation, ValueError):
        raise BadInput(
            "invalid_decimal",
            _not_a_decimal(text),
            next_step='write it as a string of digits, such as "0.10"',
            where=where,
        ) from None


def _not_a_decimal(text: object) -> str:
    if isinstance(text, str) and len(text) > _DECIMAL_CHARS_MAX:
        return f"a text of {len(text):,} characters is not read as a decimal number"
    return f"{text!r:.{_DECIMAL_CHARS_MAX}} is not a decimal number"


def usd_to_pico(text: str, *, where: str | None = None) -> int:
    """Pico-USD from a decimal string of USD.

    Raises:
        BadInput: `invalid_decimal`, or `amount_too_fine` below 10**-12 USD.
    """
    pico = parse_decimal(text, where=where) * PICO_PER_USD
    if pico.denominator != 1:
        raise BadInput(
            "amount_too_fine",
            f"{text} USD has more than 12 decimal places",
            next_step="round it to 12 decimal places or fewer",
            where=where,
        )
    return pico.numerator


def format_decimal(value: Fraction | int) -> str:
    """The shortest plain decimal string of an exact value ("0.1", "12", "-0.000001").

    Raises:
        ValueError: the value has no finite decimal expansion (the denominator has a factor besides 2 and 5).
    """
    value = Fraction(value)
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        raise ValueError(f"{value} has no finite decimal expansion")
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"


def format_exact(value: Fraction | int) -> str:
    """The exact value: a decimal string where there is a finite one, else a fraction in its lowest terms ("170/31")."""
    try:
        return format_decimal(value)
    except ValueError:
        value = Fraction(value)
        return f"{value.numerator}/{value.denominator}"


def pico_to_usd(pico: int) -> str:
    """USD as the shortest plain decimal string: `pico_to_usd(1_500_000) == "0.0000015"`."""
    if 0 < pico < PICO_PER_USD:  # as of nearly every event
        return f"0.{pico:012d}".rstrip("0")
    if not pico % PICO_PER_USD:  # as nearly every amount of credits
        return str(pico // PICO_PER_USD)
    sign = "-" if pico < 0 else ""
    whole, rest = divmod(abs(pico), PICO_PER_USD)
    return f"{sign}{whole}.{rest:012d}".rstrip("0")


def cents_to_usd(cents: int) -> str:
    """USD with exactly two places: `cents_to_usd(-5) == "-0.05"`."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def to_cents(usd: Fraction) -> int:
    """Whole cents, half to even: the one declared rounding of an invoice line."""
    return round(usd * 100)


def divide_half_even(numerator: int, denominator: int) -> int:
    """`numerator / denominator` to the nearest integer, half to even; `denominator` > 0."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient
