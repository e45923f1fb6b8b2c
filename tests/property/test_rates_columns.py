"""Prices of columns are the prices of events, to the last bit, whatever is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.app.cards import load_card_history
from tallystick.core.money import divide_half_even
from tallystick.rates.columns import PricedColumns
from tallystick.usage.meters import QUANTITY_MAX

CARD = load_card_history().latest
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MODELS: list[tuple[str | None, str]] = [
    ("openai", "gpt-4o"),
    ("anthropic", "claude-sonnet-4-5"),  # tiers
    ("google", "gemini-2.5-pro"),  # tiers and history
    ("deepseek", "deepseek-chat"),  # times of day
    ("perplexity", "sonar-pro"),  # a fee for each request
    ("groq", "whisper-large-v3"),  # a minimum
    ("anthropic", "claude-opus-4-6"),
    ("openai", "unknown"),
    (None, "tool"),
]
CONTEXTS: list[dict[str, str]] = [{}, {"service_tier": "batch"}, {"inference_geo": "us"}]
METERS = ("tokens_in", "cache_read_tokens", "tokens_out", "audio_in_ms", "pages_in", "tool_calls")
QUANTITIES = st.one_of(st.just(0), st.integers(0, 400_000), st.integers(0, QUANTITY_MAX))
EVENTS = st.lists(
    st.tuples(
        st.integers(0, len(MODELS) - 1),
        st.integers(0, len(CONTEXTS) - 1),
        st.integers(1_700_000_000_000_000, 1_830_000_000_000_000),
        st.tuples(*(QUANTITIES for _ in METERS)),
    ),
    max_size=60,
)


def columns(events: list[tuple[int, int, int, tuple[int, ...]]]) -> PricedColumns:
    return CARD.price_columns(
        MODELS,
        np.array([event[0] for event in events], dtype=np.int64),
        np.array([event[2] for event in events], dtype=np.int64),
        {meter: np.array([event[3][at] for event in events], dtype=np.int64) for at, meter in enumerate(METERS)},
        CONTEXTS,
        np.array([event[1] for event in events], dtype=np.int64),
    )


@settings(max_examples=150)
@given(EVENTS)
def test_columns_and_events_agree_to_the_last_bit(events: list[tuple[int, int, int, tuple[int, ...]]]) -> None:
    priced = columns(events)
    for index, (model, context, time_us, quantities) in enumerate(events):
        meters = dict(zip(METERS, quantities, strict=True))
        cost = CARD.price(*MODELS[model], meters, EPOCH + timedelta(microseconds=time_us), CONTEXTS[context])
        assert bool(priced.unpriced[index]) == (cost.total_pico is None)
        assert int(priced.totals[index]) == (cost.total_pico or 0)
        lines = {} if cost.total_pico is None else {line.meter: line.amount_pico for line in cost.lines}
        amounts = {meter: int(column[index]) for meter, column in priced.amounts.items()}
        assert {meter: amount for meter, amount in amounts.items() if amount} == {
            meter: amount for meter, amount in lines.items() if amount
        }


def test_amounts_larger_than_64_bits_stay_exact() -> None:
    events = [(0, 0, 1_790_000_000_000_000, (QUANTITY_MAX, 0, QUANTITY_MAX, 0, 0, 0))] * 2
    priced = columns(events)
    assert [int(total) for total in priced.totals] == [QUANTITY_MAX * (2_500_000 + 10_000_000)] * 2
    assert int(priced.totals[0]) > 2**63


def test_no_events_are_priced_as_none() -> None:
    assert len(columns([]).totals) == 0


@given(st.dictionaries(st.sampled_from(METERS), st.integers(0, QUANTITY_MAX)), st.sampled_from(MODELS[:7]))
def test_lines_follow_from_their_own_numbers_and_add_up(meters: dict[str, int], model: tuple[str, str]) -> None:
    cost = CARD.price(*model, meters, EPOCH + timedelta(days=20_700))
    for line in cost.lines:
        if line.amount_pico is not None:
            assert line.amount_pico == divide_half_even(line.quantity * line.price_pico, line.per)
    if cost.total_pico is not None:
        assert cost.total_pico == sum(line.amount_pico for line in cost.lines)
    assert (cost.total_pico is None) == any(line.amount_pico is None for line in cost.lines)
    assert cost == CARD.price(*model, dict(reversed(meters.items())), EPOCH + timedelta(days=20_700))
