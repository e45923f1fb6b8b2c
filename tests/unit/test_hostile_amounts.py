"""Amounts and times that are absurdly long are refused at once, in a sentence that is not."""

from __future__ import annotations

import time

import pytest

from tallystick.core.errors import BadInput
from tallystick.core.instants import parse_instant
from tallystick.core.money import parse_decimal


@pytest.mark.parametrize("text", ["9" * 4_000_000, "0." + "9" * 4_000_000, "-" * 4_000_000, ["9"] * 1_000_000])
def test_millions_of_digits_are_refused_at_once(text: object) -> None:
    began = time.perf_counter()
    with pytest.raises(BadInput) as refused:
        parse_decimal(text, where="credits")
    assert time.perf_counter() - began < 5
    assert refused.value.code == "invalid_decimal"
    assert len(refused.value.detail) < 200


def test_the_longest_amounts_there_are_are_read() -> None:
    assert parse_decimal("9" * 38 + "." + "9" * 18) * 10**18 == int("9" * 56)


def test_what_is_no_instant_is_not_repeated_at_length() -> None:
    with pytest.raises(BadInput) as refused:
        parse_instant("x" * 1_000_000, where="expires_at")
    assert refused.value.code == "invalid_time"
    assert len(refused.value.detail) < 200
