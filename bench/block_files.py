"""Blocks for benchmarks: a million realistic entries, each priced as the writer prices it, then copies of them.

The copies are of other orgs, with hashes of their own: what a computer can make of repetition is not measured.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tallystick.app.cards import load_card_history
from tallystick.archive.columns import ENTRY_SCHEMA
from tallystick.archive.format import write_block
from tallystick.rates.pricing import RateCard

ORGS = 50
MODELS = (  # provider, model, weight, (meter, share of the calls that have it, median quantity) …
    ("openai", "gpt-4o-2024-08-06", 18, ("tokens_in", 1, 900), ("tokens_out", 1, 130), ("cache_read_tokens", 0.4, 800)),
    ("openai", "gpt-5-mini", 18, ("tokens_in", 1, 700), ("tokens_out", 1, 90), ("reasoning_tokens", 0.7, 200)),
    ("openai", "gpt-4.1-mini-2025-04-14", 12, ("tokens_in", 1, 700), ("tokens_out", 1, 90), ("tool_calls", 0.2, 1)),
    ("anthropic", "claude-sonnet-4-5-20250929", 16, ("tokens_in", 1, 9000), ("tokens_out", 1, 400),
     ("cache_read_tokens", 0.5, 20_000), ("cache_write_5m_tokens", 0.3, 4000), ("web_searches", 0.02, 1)),
    ("anthropic", "claude-opus-4-7", 6, ("tokens_in", 1, 4000), ("tokens_out", 1, 500), ("cache_read_tokens", 0.5, 90)),
    ("google", "gemini-2.5-pro", 8, ("tokens_in", 1, 30_000), ("tokens_out", 1, 400), ("reasoning_tokens", 0.6, 900)),
    ("google", "gemini-2.5-flash", 10, ("tokens_in", 1, 1500), ("tokens_out", 1, 130), ("audio_tokens_in", 0.05, 600)),
    ("deepseek", "deepseek-chat", 4, ("tokens_in", 1, 900), ("tokens_out", 1, 200), ("cache_read_tokens", 0.6, 3000)),
    ("groq", "whisper-large-v3", 2, ("audio_in_ms", 1, 9000)),
    ("perplexity", "sonar-pro", 2, ("tokens_in", 1, 400), ("tokens_out", 1, 300), ("web_searches", 0.3, 2)),
    ("openai", "in-house-experiment-1", 1, ("tokens_in", 1, 400), ("tokens_out", 1, 300)),
    (None, "crawler", 1, ("egress_bytes", 1, 90_000), ("tool_calls", 1, 1)),
)  # fmt: skip
VERSIONS = ("genai-prices-0.1.9", "genai-prices-0.1.12", "genai-prices-0.2.0", "tallystick-2026-11-21.2")
START = datetime(2026, 9, 1, tzinfo=UTC)
SPREAD = timedelta(days=80)


def make_blocks(folder: Path, *, blocks: int, entries: int = 1_000_000) -> list[Path]:
    """Write `blocks` blocks of `entries` entries each into the folder; the block files."""
    base = priced_entries(entries)
    dice = np.random.default_rng(5)
    files = []
    for number in range(1, blocks + 1):
        main = folder / f"block-{number:012}.parquet"
        write_block(_copy(base, number, dice), main, folder / f"block-{number:012}.people.parquet", block=number)
        files.append(main)
    return files


def priced_entries(count: int, seed: int = 11) -> pa.Table:
    """Entries of `ORGS` orgs, sorted by org and sequence, without request ids and hashes of their own."""
    dice = random.Random(seed)
    history = load_card_history()
    cards = [history.at(version) for version in VERSIONS]
    rows = []
    per_org = -(-count // ORGS)
    for index in range(count):
        org, place = divmod(index, per_org)
        rows.append(_entry(dice, cards, org, place, per_org))
    columns = {name: [row.get(name) for row in rows] for name in ENTRY_SCHEMA.names}
    return pa.table(columns, schema=ENTRY_SCHEMA)


_WEIGHTS = [model[2] for model in MODELS]


def _entry(dice: random.Random, cards: list[RateCard], org: int, place: int, per_org: int) -> dict[str, object]:
    provider, model, _, *usual = dice.choices(MODELS, _WEIGHTS)[0]
    meters = {
        meter: max(0, int(dice.lognormvariate(0, 1) * median))
        for meter, share, median in usual
        if dice.random() < share
    }
    at = START + SPREAD * place / per_org + timedelta(microseconds=dice.randrange(1_000_000))
    card = cards[len(cards) * place // per_org]
    context = {"service_tier": "batch"} if dice.random() < 0.04 else {}
    status = dice.choices(("final", "partial", "estimated"), (95, 3, 2))[0]
    stated = dice.randrange(10**9) if dice.random() < 0.02 else None
    cost = card.price(provider, model, meters, at, context, status, stated)  # type: ignore[arg-type]
    return {
        "org_id": f"org-{org:03}",
        "seq": place + 1,
        "kind": "usage",
        "time": at,
        "time_max": at,
        "recorded_at": at,
        "feature": dice.choice(("assistant", "code-completion", "document-review")),
        "environment": dice.choices(("production", "staging"), (95, 5))[0],
        "provider": provider,
        "model": model,
        "api_key_id": f"key-{org}",
        "latency_ms": dice.randrange(9000),
        "outcome": dice.choices(("success", "empty", "failure"), (95, 3, 2))[0],
        "usage_status": status,
        "meter_names": sorted(meters),
        "meter_quantities": [meters[name] for name in sorted(meters)],
        "price_context": msgspec.json.encode(context).decode().replace(":", ": "),
        "provider_cost_pico": stated,
        "user_id": f"user-{dice.randrange(300)}",
        "session_id": f"session-{dice.randrange(10**6)}",
        "attributes": "{}",
        "rate_version": cost.rate_version,
        "status": cost.status,
        "cost_pico": cost.total_pico,
        "line_meters": [line.meter for line in cost.lines],
        "line_quantities": [line.quantity for line in cost.lines],
        "line_price_pico": [line.price_pico for line in cost.lines],
        "line_per": [line.per for line in cost.lines],
        "line_amount_pico": [line.amount_pico for line in cost.lines],
        "reason": cost.reason,
    }


def _copy(base: pa.Table, number: int, dice: np.random.Generator) -> pa.Table:
    count = base.num_rows

    def hashes(size: int) -> pa.Array:
        return pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(size), count, [None, pa.py_buffer(dice.bytes(size * count))]
        )

    own = {
        "org_id": pc.binary_join_element_wise(base.column("org_id"), f"{number:03}", "-"),
        "request_id": pa.array([value.hex() for value in hashes(12).to_pylist()]),
        "salt": hashes(16),
        "fingerprint": hashes(32),
        "leaf": hashes(32),
    }
    return pa.table({name: own.get(name, base.column(name)) for name in base.column_names})
