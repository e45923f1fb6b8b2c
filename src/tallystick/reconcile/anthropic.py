"""Anthropic's exports: the messages usage report and the cost report of its Admin API, and the CSV of its console.

Input tokens come apart: uncached ones, cache reads, and cache writes of five minutes and of an hour. Output includes
thinking. Amounts of the cost report are in cents. How many calls there were is not stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.reconcile.files import Table
from tallystick.reconcile.model import DAY, Classes, Export, ExportRow
from tallystick.reconcile.openai import unknown_currency
from tallystick.reconcile.values import Row, bad_value, bucket, instant, is_absent, text, unread, usd, whole

CLASSES: Classes = MappingProxyType(
    {
        "tokens_in": ("tokens_in", "image_tokens_in", "tool_prompt_tokens", "audio_tokens_in", "video_tokens_in"),
        "cache_read_tokens": ("cache_read_tokens",),
        "cache_write_5m_tokens": ("cache_write_tokens", "cache_write_5m_tokens"),
        "cache_write_1h_tokens": ("cache_write_1h_tokens",),
        "tokens_out": ("tokens_out", "reasoning_tokens", "citation_tokens"),
        "web_searches": ("web_searches",),
    }
)

_TOKENS = MappingProxyType(
    {
        "uncached_input_tokens": "tokens_in",
        "cache_read_input_tokens": "cache_read_tokens",
        "output_tokens": "tokens_out",
        "usage_input_tokens_no_cache": "tokens_in",
        "usage_input_tokens_cache_read": "cache_read_tokens",
        "usage_input_tokens_cache_write_5m": "cache_write_5m_tokens",
        "usage_input_tokens_cache_write_1h": "cache_write_1h_tokens",
        "usage_output_tokens": "tokens_out",
        "web_search_count": "web_searches",
    }
)
"""Fields of usage, of JSON and of CSV."""
_LIFETIMES = MappingProxyType(
    {
        "ephemeral_5m_input_tokens": "cache_write_5m_tokens",
        "ephemeral_1h_input_tokens": "cache_write_1h_tokens",
    }
)
_TOKEN_TYPES = MappingProxyType(
    {
        "uncached_input_tokens": "tokens_in",
        "input_no_cache": "tokens_in",
        "output_tokens": "tokens_out",
        "output": "tokens_out",
        "cache_read_input_tokens": "cache_read_tokens",
        "input_cache_read": "cache_read_tokens",
        "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m_tokens",
        "input_cache_write_5m": "cache_write_5m_tokens",
        "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h_tokens",
        "input_cache_write_1h": "cache_write_1h_tokens",
    }
)
_KNOWN = frozenset((
    "account_id", "amount", "api_key", "api_key_id", "cache_creation", "context_window", "cost_type", "cost_usd",
    "currency", "description", "ending_at", "inference_geo", "model", "model_version", "results", "server_tool_use",
    "service_account_id", "service_tier", "speed", "starting_at", "token_type", "usage_date_utc", "usage_type",
    "workspace", "workspace_id",
)) | frozenset(_TOKENS)  # fmt: skip


def read_anthropic(table: Table, name: str) -> Export:
    """An export of Anthropic's.

    Raises:
        BadInput: `invalid_export`, `bucket_too_long`, `unknown_currency`.
    """
    export = Export(CLASSES)
    seen: list[Row] = []
    for place, line in table.lines or ():
        seen.append(line)
        start = instant(line.get("usage_date_utc"), place, "usage_date_utc")
        _take(export, line, bucket(start, start + DAY, place), place)
    for one in table.buckets:
        start = instant(one.members.get("starting_at"), one.place, "starting_at")
        given = one.members.get("ending_at")
        end = start + DAY if is_absent(given) else instant(given, one.place, "ending_at")
        time = bucket(start, end, one.place)
        export.buckets.add(time)
        for place, result in one.results:
            seen.append(result)
            _take(export, result, time, place)
    names = unread(seen, _KNOWN)
    if names:
        export.notes.append(f"{name}: nobody reads its {', '.join(names)}")
    return export


def _take(export: Export, row: Row, time: tuple[datetime, datetime], place: str) -> None:
    export.buckets.add(time)
    tier = text(row, "service_tier", "usage_type")
    shared: dict[str, Any] = {
        "project": text(row, "workspace_id", "workspace"),
        "api_key": text(row, "api_key_id", "api_key"),
        "tier": None if tier is None or tier.lower() in ("standard", "message", "messages") else tier.lower(),
    }
    model = text(row, "model", "model_version")
    amount = next((name for name in ("amount", "cost_usd") if not is_absent(row.get(name))), None)
    if amount is not None:
        currency = text(row, "currency") or "USD"
        if currency.upper() != "USD":
            raise unknown_currency(currency, place)
        cost_pico, step_pico = usd(row[amount], place, amount)
        cents = Fraction(1, 100) if amount == "amount" else Fraction(1)
        of = _TOKEN_TYPES.get((text(row, "token_type") or "").lower())
        if of is None and text(row, "cost_type") == "web_search":
            of = "web_searches"
        item = text(row, "description", "token_type", "cost_type")
        export.rows.append(
            ExportRow(*time, place, model, item, {}, None, cost_pico * cents, step_pico * cents, of, **shared)
        )
        return
    quantities = _quantities(row, place)
    if not quantities:
        raise BadInput(
            "invalid_export",
            f"it states neither usage nor a cost: it has {', '.join(sorted(row)) or 'no fields'}",
            next_step="give an answer of /v1/organizations/usage_report/messages or /cost_report, or the console's CSV",
            where=place,
        )
    export.rows.append(ExportRow(*time, place, model, None, quantities, **shared))


def _quantities(row: Row, place: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, meter in _TOKENS.items():
        value = whole(row, name, place)
        if value is not None:
            found[meter] = value
    written = _object(row, "cache_creation", place)
    for name, meter in _LIFETIMES.items():
        value = whole(written, name, place)
        if value is not None:
            found[meter] = value
    searches = whole(_object(row, "server_tool_use", place), "web_search_requests", place)
    if searches is not None:
        found["web_searches"] = searches
    return found


def _object(row: Row, name: str, place: str) -> Row:
    value = row.get(name)
    if is_absent(value):
        return {}
    if not isinstance(value, Mapping):
        raise bad_value(place, name, value, "object")
    return value
