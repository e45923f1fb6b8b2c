"""Exports as providers would give them, made from usage events: what the ledger is compared with in tests."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

from tallystick.usage.event import UsageEvent

DAY_SECONDS = 86_400


def seconds(day: date) -> int:
    """The day's first second in UTC, since 1970."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def openai_usage(
    events: Iterable[UsageEvent], days: Sequence[date] = (), *, width: int = DAY_SECONDS
) -> dict[str, Any]:
    """A page of `/v1/organization/usage/completions`, grouped by model, of the events' days and others."""
    found: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    for event in events:
        begin = int(event.time.timestamp()) // width * width
        found[begin, event.model] += _openai_fields(event)
    begins = {begin for begin, _ in found} | {
        begin for day in days for begin in range(seconds(day), seconds(day) + DAY_SECONDS, width)
    }
    return page(
        [
            bucket(
                begin,
                begin + width,
                [result(model, **used) for (at, model), used in sorted(found.items()) if at == begin],
            )
            for begin in sorted(begins)
        ]
    )


def page(buckets: list[dict[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    """A page of buckets."""
    return {"object": "page", "data": buckets, "has_more": has_more, "next_page": "AAAA" if has_more else None}


def bucket(start: int, end: int, results: list[dict[str, Any]]) -> dict[str, Any]:
    """A time of an OpenAI export."""
    return {"object": "bucket", "start_time": start, "end_time": end, "results": results}


def result(model: str | None, **used: Any) -> dict[str, Any]:
    """A row of OpenAI's usage of completions."""
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": 0,
        "output_tokens": 0,
        "input_cached_tokens": 0,
        "input_audio_tokens": 0,
        "output_audio_tokens": 0,
        "num_model_requests": 0,
        "project_id": None,
        "user_id": None,
        "api_key_id": None,
        "model": model,
        "batch": None,
        "service_tier": None,
        **used,
    }


def cost(item: str | None, value: float | str, **more: Any) -> dict[str, Any]:
    """A row of OpenAI's costs; a text is the number as it stands in the JSON."""
    return {
        "object": "organization.costs.result",
        "amount": {"value": value, "currency": "usd"},
        "line_item": item,
        "project_id": None,
        **more,
    }


def text(value: object) -> bytes:
    """JSON as a file has it; numbers in texts that begin with # are written as they are."""
    written = json.dumps(value)
    return written.replace('"#', "").replace('#"', "").encode()


def _openai_fields(event: UsageEvent) -> Counter[str]:
    meters: Counter[str] = Counter(event.meters)
    return Counter(
        input_tokens=meters["tokens_in"] + meters["cache_read_tokens"] + meters["audio_tokens_in"],
        input_cached_tokens=meters["cache_read_tokens"],
        input_audio_tokens=meters["audio_tokens_in"],
        output_tokens=meters["tokens_out"] + meters["reasoning_tokens"] + meters["audio_tokens_out"],
        output_audio_tokens=meters["audio_tokens_out"],
        num_model_requests=1,
    )
