"""Replay of blocks finds exactly what pricing entry by entry finds, whatever the events, the cards and the damage."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from replay_helpers import DAMAGE, DRAWN, MODELS, START, histories, one_by_one, replayed, rows_of
from tallystick.rates.card import CardHistory
from tallystick.rates.cardfile import CardVersion, Header, ModelLine, ProviderLine, RateLine
from tallystick.usage.event import UsageEvent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blocks")


@settings(max_examples=examples(15))
@given(histories(), DRAWN, st.lists(st.booleans(), min_size=12, max_size=12))
def test_sound_history_replays_without_a_difference(
    folder: Path, history: CardHistory, drawn: list[UsageEvent], corrected: list[bool]
) -> None:
    rows = rows_of(history, drawn, corrected)
    if rows:
        assert replayed(folder, rows, history) == (set(), len(rows))


@settings(max_examples=examples(20))
@given(histories(), DRAWN, st.lists(st.booleans(), min_size=12, max_size=12), st.randoms(use_true_random=False))
def test_damage_is_found_as_pricing_each_entry_finds_it(
    folder: Path, history: CardHistory, drawn: list[UsageEvent], corrected: list[bool], dice: random.Random
) -> None:
    rows = rows_of(history, drawn, corrected)
    for row in rows:
        if dice.random() < 0.4:
            dice.choice(DAMAGE)(row, dice)
    if rows:
        assert replayed(folder, rows, history)[0] == one_by_one(rows, history)


def _card() -> CardHistory:
    """A model with every kind of price: exact and not, with tiers, a minimum, times of day, a fee, a batch price."""
    rates = [
        RateLine(provider="p", model="m0", meter="tokens_in", per=1, price_pico=7, tiers=((5, 9),)),
        RateLine(provider="p", model="m0", meter="tokens_out", per=3, price_pico=10),
        RateLine(provider="p", model="m0", meter="tokens_out", per=3, price_pico=5, window="16:30-00:30"),
        RateLine(provider="p", model="m0", meter="cache_read_tokens", per=1, price_pico=0),
        RateLine(provider="p", model="m0", meter="audio_in_ms", per=8, price_pico=4, quantity_min=10),
        RateLine(provider="p", model="m0", meter="tokens_in", per=2, price_pico=6, context={"service_tier": "batch"}),
        RateLine(provider="p", model="m1", meter="requests", per=1, price_pico=50),
        RateLine(provider="p", model="m1", meter="tokens_in", per=1, price_pico=3, valid_from=START + timedelta(1)),
    ]
    models = tuple(ModelLine("p", model, {"equals": model}) for model in MODELS[:2])
    header = Header(1, "v0", START, "test", None, None)
    return CardHistory([CardVersion(header, "0" * 64, (ProviderLine("p"),), models, (), (), tuple(rates))])


def _every_kind() -> list[UsageEvent]:
    meters: list[dict[str, int]] = [
        {"tokens_in": 4, "tokens_out": 5},
        {"tokens_in": 6, "tokens_out": 4, "cache_read_tokens": 0},
        {"tokens_in": 2, "cache_read_tokens": 3, "tool_calls": 2},
        {"audio_in_ms": 4},
        {"audio_in_ms": 41, "tokens_out": 2},
        {"pages_in": 2, "tokens_in": 4},
        {"tool_calls": 1},
        {},
    ]
    return [
        UsageEvent(
            org_id="a",
            request_id="r",
            time=START + timedelta(days=2, hours=hours),
            user_id="u",
            session_id="s",
            feature="f",
            environment="e",
            model=model,
            provider="p",
            meters=counted,
            price_context=context,
            provider_cost_pico=stated,
        )
        for counted in meters
        for model in MODELS
        for hours, context, stated in ((2, {}, None), (20, {}, None), (2, {"service_tier": "batch"}, None), (2, {}, 35))
    ]


@pytest.mark.parametrize("kind", range(len(DAMAGE)))
def test_each_kind_of_damage_is_found_in_each_kind_of_entry(folder: Path, kind: int) -> None:
    history, every = _card(), _every_kind()
    rows = rows_of(history, every + every, [])
    for row in rows[: len(every)]:  # the others stay sound
        DAMAGE[kind](row, random.Random(f"{kind} {row['seq']}"))
    expected = one_by_one(rows, history)
    assert expected
    assert replayed(folder, rows, history)[0] == expected
