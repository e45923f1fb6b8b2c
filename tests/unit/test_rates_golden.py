"""What each release of the price source computed just after it came out, we compute as of its version."""

from __future__ import annotations

import json
from datetime import datetime
from fractions import Fraction
from pathlib import Path

from tallystick.app.cards import load_card_history
from tallystick.rates.card import CardHistory

GOLDEN = [json.loads(line) for line in Path(__file__).with_name("rates_golden.jsonl").read_text().splitlines()]


def version_of(history: CardHistory, release: str) -> str:
    """A release that changed nothing has no file: then the one before it holds."""
    number = [int(part) for part in release.split(".")]
    names = [version.name for version in history.versions if version.header.source == "genai-prices"]
    return max(
        (name for name in names if [int(part) for part in name.rpartition("-")[2].split(".")] <= number),
        key=lambda name: [int(part) for part in name.rpartition("-")[2].split(".")],
    )


def test_every_release_prices_as_its_own_code_did() -> None:
    history = load_card_history()
    wrong = []
    for release, at, provider, model, context, meters, usd in GOLDEN:
        card = history.at(version_of(history, release))
        cost = card.price(provider, model, meters, datetime.fromisoformat(at), context)
        ours = sum(line.amount_pico for line in cost.lines if line.amount_pico is not None)
        theirs = Fraction(usd) * 10**12
        # The source's own prices carry binary noise (0.18000000000000002), which the card rounds away, and a
        # few have no end (0.08333333333333333): there a line may be one pico-USD apart.
        if abs(ours - theirs) > max(theirs / 10**11, len(cost.lines)):
            wrong.append((release, provider, model, context, meters, usd, ours))
    assert wrong == []


def test_the_sample_covers_every_release_tiers_and_contexts() -> None:
    assert len({line[0] for line in GOLDEN}) > 70
    assert any(line[4] for line in GOLDEN)
    assert any(line[5]["tokens_in"] == 300_000 for line in GOLDEN)
