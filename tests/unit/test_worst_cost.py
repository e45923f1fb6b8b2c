"""The worst cost of a request: its largest quantities at the prices of now, and no figure where there is no price."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tallystick.app.cards import load_card_history
from tallystick.app.worst_cost import worst_cost_pico
from tallystick.ledger.operations import Authorize
from tallystick.rates.pricing import RateCard

NOW = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def card() -> RateCard:
    return load_card_history(Path("/nowhere")).latest


def worst(card: RateCard, **more: Any) -> int | None:
    return worst_cost_pico(card, Authorize(feature="f", environment="production", **more), NOW)


def test_it_is_what_those_quantities_cost(card: RateCard) -> None:
    meters = {"tokens_in": 1000, "tokens_out": 200}
    assert (
        worst(card, model="gpt-4o", meters=meters)
        == card.price(None, "gpt-4o", meters, NOW).total_pico
        == 4_500_000_000
    )


@pytest.mark.parametrize("meters", [{}, {"tokens_in": 5}])
def test_a_model_that_nobody_knows_has_none(card: RateCard, meters: dict[str, int]) -> None:
    assert worst(card, model="no-such-model-anywhere", meters=meters) is None


def test_tokens_of_no_model_have_none(card: RateCard) -> None:
    assert worst(card, meters={"tokens_in": 5}) is None


def test_what_no_provider_does_costs_nothing(card: RateCard) -> None:
    assert worst(card) == 0
    assert worst(card, meters={"tool_calls": 3}) == 0
    assert worst(card, model="gpt-4o") == 0
