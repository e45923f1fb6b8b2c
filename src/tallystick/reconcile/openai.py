"""OpenAI's exports: the usage and costs of an organization's API, as JSON or as the CSV that its site gives.

`input_tokens` includes cached, audio and image tokens and those written to the cache, `output_tokens` audio and image
tokens and reasoning. Which cached tokens were audio is seldom stated; they are taken to lie beside the others where
they fit, and to overlap by the least that fits where they do not, as in `usage.extract`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.reconcile.files import Table
from tallystick.reconcile.model import DAY, Classes, Export, ExportRow
from tallystick.reconcile.values import Row, bad_value, bucket, instant, is_absent, quantity, text, unread, usd, whole

CLASSES: Classes = MappingProxyType(
    {
        "tokens_in": (
            "tokens_in",
            "image_tokens_in",
            "video_tokens_in",
            "tool_prompt_tokens",
            "cache_write_tokens",
            "cache_write_5m_tokens",
            "cache_write_1h_tokens",
            "cache_write_audio_tokens",
            "cache_write_image_tokens",
            "cache_write_video_tokens",
        ),
        "cache_read_tokens": (
            "cache_read_tokens",
            "cache_read_audio_tokens",
            "cache_read_image_tokens",
            "cache_read_video_tokens",
        ),
        "audio_tokens_in": ("audio_tokens_in",),
        "tokens_out": ("tokens_out", "reasoning_tokens", "citation_tokens", "image_tokens_out", "video_tokens_out"),
        "audio_tokens_out": ("audio_tokens_out",),
        "images_generated": ("images_generated",),
        "characters_in": ("characters_in",),
        "audio_ms": ("audio_ms", "audio_in_ms", "audio_out_ms"),
    }
)

_KNOWN = frozenset((
    "amount", "amount_currency", "amount_value", "api_key_id", "api_key_name", "api_source", "batch", "characters",
    "end_time", "end_time_iso", "images", "input_audio_tokens", "input_cache_write_tokens",
    "input_cached_audio_tokens", "input_cached_image_tokens", "input_cached_text_tokens", "input_cached_tokens",
    "input_image_tokens", "input_text_tokens", "input_tokens", "input_uncached_tokens", "line_item", "model",
    "num_model_requests", "num_sessions", "object", "organization_id", "organization_name", "output_audio_tokens",
    "output_image_tokens", "output_text_tokens", "output_tokens", "project_id", "project_name", "quantity",
    "result", "results", "seconds", "service_tier", "sessions", "size", "source", "start_time", "start_time_iso",
    "usage_bytes", "user_email", "user_id",
))  # fmt: skip
_FREE = ("num_sessions", "sessions", "usage_bytes")
_ITEMS = MappingProxyType(
    {
        "input": "tokens_in",
        "text input": "tokens_in",
        "cached input": "cache_read_tokens",
        "input cached": "cache_read_tokens",
        "output": "tokens_out",
        "text output": "tokens_out",
        "audio input": "audio_tokens_in",
        "input audio": "audio_tokens_in",
        "audio output": "audio_tokens_out",
        "output audio": "audio_tokens_out",
    }
)
_TIERED = re.compile(r"(batch|flex|priority)\s+|\s+\(?(batch|flex|priority)(?: api)?\)?$")


def read_openai(table: Table, name: str) -> Export:
    """An export of OpenAI's.

    Raises:
        BadInput: `invalid_export`, `bucket_too_long`, `unknown_currency`.
    """
    export = Export(CLASSES)
    seen: list[Row] = []
    if table.lines is not None:
        for place, line in table.lines:
            seen.append(line)
            _take(export, line, _time(line, place), place)
    for one in table.buckets:
        time = _time(one.members, one.place)
        export.buckets.add(time)
        for place, result in one.results:
            seen.append(result)
            _take(export, result, time, place)
    names = unread(seen, _KNOWN)
    if names:
        export.notes.append(f"{name}: nobody reads its {', '.join(names)}")
    return export


def _time(members: Row, place: str) -> tuple[datetime, datetime]:
    found = [
        None if key is None else instant(members[key], place, key)
        for key in (
            next((key for key in keys if not is_absent(members.get(key))), None)
            for keys in (("start_time", "start_time_iso"), ("end_time", "end_time_iso"))
        )
    ]
    if found[0] is None:
        raise bad_value(place, "start_time", None, "instant")
    return bucket(found[0], found[1] or found[0] + DAY, place)


def _take(export: Export, row: Row, time: tuple[datetime, datetime], place: str) -> None:
    export.buckets.add(time)
    whose: dict[str, Any] = {"project": text(row, "project_id"), "api_key": text(row, "api_key_id")}
    amount = row.get("amount")
    if isinstance(amount, Mapping) or "amount_value" in row or "line_item" in row:
        export.rows.append(_cost(row, amount, time, place, whose))
        return
    if any(not is_absent(row.get(name)) for name in _FREE):
        export.notes.append(f"{place}: storage and sessions are of no model, and are not compared")
        return
    tier = "batch" if str(row.get("batch")).strip().lower() in ("true", "1") else _tier(text(row, "service_tier"))
    quantities, requests = _quantities(row, place), whole(row, "num_model_requests", place)
    if not quantities and requests is None:
        raise BadInput(
            "invalid_export",
            f"it states neither usage nor a cost: it has {', '.join(sorted(row)) or 'no fields'}",
            next_step="give an answer of /v1/organization/usage/… or /v1/organization/costs, or their CSV",
            where=place,
        )
    model = text(row, "model")
    export.rows.append(ExportRow(*time, place, model, None, quantities, requests, tier=tier, **whose))


def _tier(name: str | None) -> str | None:
    return None if name is None or name.lower() in ("default", "standard", "auto") else name.lower()


def _quantities(row: Row, place: str) -> dict[str, int]:
    found: dict[str, int] = {}
    given = whole(row, "input_tokens", place)
    if given is not None:
        found |= _input(row, given, place)
    out = whole(row, "output_tokens", place)
    if out is not None:
        audio = whole(row, "output_audio_tokens", place) or 0
        found |= {"tokens_out": _rest("output_tokens", out, audio, place), "audio_tokens_out": audio}
    images, characters = whole(row, "images", place), whole(row, "characters", place)
    if images is not None:
        found["images_generated"] = images
    if characters is not None:
        found["characters_in"] = characters
    if not is_absent(row.get("seconds")):
        found["audio_ms"] = round(quantity(row["seconds"], place, "seconds") * 1000)
    return found


def _input(row: Row, given: int, place: str) -> dict[str, int]:
    cached = whole(row, "input_cached_tokens", place) or 0
    audio = whole(row, "input_audio_tokens", place) or 0
    both = whole(row, "input_cached_audio_tokens", place)
    if both is None:
        both = max(0, cached + audio - given)
    alone = _rest("input_audio_tokens", audio, both, place)
    rest = _rest("input_tokens", given, cached + alone, place)
    return {"tokens_in": rest, "cache_read_tokens": cached, "audio_tokens_in": alone}


def _rest(name: str, given: int, parts: int, place: str) -> int:
    if parts > given:
        raise bad_value(place, name, given, f"whole of its parts, which are {parts}")
    return given - parts


def _cost(row: Row, amount: object, time: tuple[datetime, datetime], place: str, whose: dict[str, Any]) -> ExportRow:
    members = amount if isinstance(amount, Mapping) else {}
    value = members.get("value", row.get("amount_value"))
    currency = text(members, "currency") or text(row, "amount_currency") or "usd"
    if is_absent(value):
        raise bad_value(place, "amount", value, "amount")
    if currency.lower() != "usd":
        raise unknown_currency(currency, place)
    cost_pico, step_pico = usd(value, place, "amount")
    model, item, of, tier = _line_item(text(row, "line_item"))
    return ExportRow(*time, place, model, item, {}, None, cost_pico, step_pico, of, tier=tier, **whose)


def _line_item(item: str | None) -> tuple[str | None, str | None, str | None, str | None]:
    """The model, the item, its class and its tier: `gpt-4o-2024-08-06, cached input` is of a model, others of none."""
    if item is None:
        return None, None, None, None
    model, comma, what = item.rpartition(", ")
    if not comma:
        return None, item, None, None
    what = what.strip().lower()
    tiered = _TIERED.search(what)
    plain = _TIERED.sub("", what).strip()
    return model.strip(), item, _ITEMS.get(plain), None if tiered is None else tiered[1] or tiered[2]


def unknown_currency(currency: str, place: str) -> BadInput:
    """The error for amounts that are not in USD."""
    return BadInput(
        "unknown_currency",
        f"its amount is in {currency!r:.20}, and the ledger's costs are in USD",
        next_step="export in USD; an amount is never converted by a guess",
        where=place,
    )
