"""Pricing: one event at a time against genai-prices in the same run, columns of events, and start-up."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from time import perf_counter

import numpy as np
from genai_prices import Usage, calc_price

from bench.report import Row
from tallystick.app.cards import load_card_history

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
SCALAR_EVENTS, BASELINE_EVENTS, COLUMN_EVENTS, ROUNDS = 40_000, 800, 1_000_000, 3
MODELS = (
    ("openai", "gpt-4o-2024-08-06"),
    ("openai", "gpt-5-mini"),
    ("anthropic", "claude-opus-4-7"),
    ("google", "gemini-2.5-flash"),
)
METERS = {"tokens_in": 1200, "cache_read_tokens": 800, "tokens_out": 350, "reasoning_tokens": 120}
START_UP = """
from time import perf_counter
start = perf_counter()
from datetime import datetime, UTC
from tallystick.app.cards import load_card_history
load_card_history().latest.price("openai", "gpt-4o", {"tokens_in": 1}, datetime.now(UTC))
print(perf_counter() - start)
"""


def run() -> list[Row]:
    ours = min(_scalar_seconds() for _ in range(ROUNDS))
    theirs = min(_baseline_seconds() for _ in range(ROUNDS))
    columns = min(_column_seconds() for _ in range(ROUNDS))
    start_up = min(_start_up_seconds() for _ in range(ROUNDS))
    return [
        Row(
            "price one event of 4 meters",
            f"{ours * 1e6:.2f} µs",
            f"genai-prices {theirs * 1e6:.1f} µs: {theirs / ours:.0f} times",
            "2.3 µs or less, 20 times or more",
            ours <= 2.3e-6 and theirs / ours >= 20,
        ),
        Row(
            "price columns of 4 meters",
            f"{1 / columns / 1e6:.1f} M events/s",
            f"one at a time {1 / ours / 1e6:.2f} M events/s",
            "1 M events/s or more",
            columns <= 1e-6,
        ),
        Row(
            "import, load all rate cards, price once", f"{start_up * 1e3:.0f} ms", "", "300 ms or less", start_up <= 0.3
        ),
    ]


def _scalar_seconds() -> float:
    price = load_card_history().latest.price
    price("openai", "gpt-4o", METERS, AT)
    for provider, model in MODELS:
        price(provider, model, METERS, AT)
    start = perf_counter()
    for _ in range(SCALAR_EVENTS // len(MODELS)):
        for provider, model in MODELS:
            price(provider, model, METERS, AT)
    return (perf_counter() - start) / SCALAR_EVENTS


def _baseline_seconds() -> float:
    usage = Usage(input_tokens=2000, cache_read_tokens=800, output_tokens=470)
    for provider, model in MODELS:
        calc_price(usage, model, provider_id=provider, genai_request_timestamp=AT)
    start = perf_counter()
    for _ in range(BASELINE_EVENTS // len(MODELS)):
        for provider, model in MODELS:
            calc_price(usage, model, provider_id=provider, genai_request_timestamp=AT)
    return (perf_counter() - start) / BASELINE_EVENTS


def _column_seconds() -> float:
    card = load_card_history().latest
    dice = np.random.default_rng(7)
    models = (*MODELS, ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro"))  # with tiers and history
    codes = dice.integers(0, len(models), COLUMN_EVENTS)
    times_us = dice.integers(1_752_000_000_000_000, 1_795_000_000_000_000, COLUMN_EVENTS)
    meters = {meter: dice.integers(0, quantity * 300, COLUMN_EVENTS) for meter, quantity in METERS.items()}
    card.price_columns(models, codes[:10], times_us[:10], {meter: column[:10] for meter, column in meters.items()})
    start = perf_counter()
    card.price_columns(models, codes, times_us, meters)
    return (perf_counter() - start) / COLUMN_EVENTS


def _start_up_seconds() -> float:
    return float(subprocess.run([sys.executable, "-c", START_UP], capture_output=True, check=True, text=True).stdout)
