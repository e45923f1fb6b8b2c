"""Made-up traffic as a live system sees it: times rising and close to now, 50 customers, many users, 3 to 5 meters."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

ORGS = 50
_MODELS = (
    ("openai", "gpt-4o"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"),
    ("openai", "gpt-4o-mini"),
)
_FEATURES = ("chat", "search", "agent")
_STEP = timedelta(microseconds=37)


def raw_events(prefix: str, count: int, *, orgs: int = ORGS, first: int = 0) -> Iterator[dict[str, object]]:
    """`count` events whose request ids begin with `prefix`; numbers begin at `first`, times a little before now."""
    time = datetime.now(UTC) - count * _STEP
    for number in range(first, first + count):
        time += _STEP
        mixed = number * 2654435761 % 2**32  # ids in no order, as the makers of ids have them
        provider, model = _MODELS[mixed % 4]
        meters = {"tokens_in": 300 + mixed % 4000, "tokens_out": 1 + mixed % 700, "cache_read_tokens": mixed % 2048}
        if mixed % 3 == 0:
            meters["reasoning_tokens"] = mixed % 1500
        if mixed % 7 == 0:
            meters["tool_calls"] = 1 + mixed % 5
        yield {
            "org_id": f"org-{mixed // 16 % orgs}",
            "request_id": f"{prefix}-{mixed:08x}-{number:08x}",
            "time": time,
            "user_id": f"user-{mixed % 9973}",
            "session_id": f"session-{mixed % 99991}",
            "feature": _FEATURES[mixed % 3],
            "environment": "production",
            "provider": provider,
            "model": model,
            "meters": meters,
            "latency_ms": 200 + mixed % 9000,
            "attributes": {"region": f"eu-{mixed % 3}"},
        }


def bodies(prefix: str, count: int, batch: int, *, orgs: int = ORGS, first: int = 0) -> Iterator[bytes]:
    """The events as JSON: arrays of `batch`, or one by one where that is 1."""
    encode = msgspec.json.Encoder().encode
    gathered: list[dict[str, object]] = []
    for event in raw_events(prefix, count, orgs=orgs, first=first):
        if batch == 1:
            yield encode(event)
            continue
        gathered.append(event)
        if len(gathered) == batch:
            yield encode(gathered)
            gathered = []
    if gathered:
        yield encode(gathered)
