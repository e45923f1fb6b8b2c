"""Money is exact: what goes in as text comes out as the same text, and only the cent is ever rounded."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import BadInput
from tallystick.core.money import (
    PICO_PER_USD,
    cents_to_usd,
    divide_half_even,
    format_decimal,
    parse_decimal,
    pico_to_usd,
    to_cents,
    usd_to_pico,
)

pico = st.integers(min_value=-(10**30), max_value=10**30)


@given(pico)
def test_every_pico_amount_survives_the_way_through_text(amount: int) -> None:
    assert usd_to_pico(pico_to_usd(amount)) == amount


@given(pico)
def test_the_text_of_an_amount_is_its_exact_value_and_the_shortest_one(amount: int) -> None:
    text = pico_to_usd(amount)
    assert Fraction(Decimal(text)) == Fraction(amount, PICO_PER_USD)
    assert "e" not in text.lower()
    assert "." not in text or not text.endswith(("0", "."))


@given(st.integers(-(10**24), 10**24), st.integers(1, 10**12))
def test_division_rounds_to_the_nearest_and_ties_to_even(numerator: int, denominator: int) -> None:
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=7))
def test_cents_are_rounded_half_to_even(amount: Decimal) -> None:
    expected = int(amount.quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN) * 100)
    assert to_cents(Fraction(amount)) == expected
    assert Decimal(cents_to_usd(expected)) * 100 == expected


@given(st.integers(-(10**9), 10**9), st.integers(0, 20), st.integers(0, 20))
def test_finite_decimals_are_written_in_full(numerator: int, twos: int, fives: int) -> None:
    value = Fraction(numerator, 2**twos * 5**fives)
    assert parse_decimal(format_decimal(value)) == value


def test_a_value_without_a_finite_expansion_is_refused_rather_than_rounded() -> None:
    with pytest.raises(ValueError, match="no finite decimal"):
        format_decimal(Fraction(1, 3))


@pytest.mark.parametrize(
    "text", ["", " ", "1e3", "NaN", "Infinity", "0x10", "1_000", "1,0", "١", "--1", "1.2.3", None, 1, 1.5, True]
)
def test_what_is_not_a_plain_decimal_is_refused(text: object) -> None:
    with pytest.raises(BadInput) as caught:
        parse_decimal(text, where="price")
    assert (caught.value.code, caught.value.where) == ("invalid_decimal", "price")


def test_more_than_twelve_places_are_refused_rather_than_lost() -> None:
    with pytest.raises(BadInput) as caught:
        usd_to_pico("0.0000000000001")
    assert caught.value.code == "amount_too_fine"
