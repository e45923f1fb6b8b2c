"""One org's events as they were stored, a page at a time, in the order of the ledger."""

from __future__ import annotations

from typing import Any

from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd
from tallystick.journal.listing import events_after, knows_org

PAGE_EVENTS_MAX = 1000
_CURSOR_MAX = 2**63 - 1
_FACT_FIELDS = (
    "seq", "request_id", "user_id", "session_id", "feature", "environment", "provider", "model", "api_key_id",
    "action", "latency_ms", "outcome", "usage_status", "price_context", "attributes", "fingerprint",
)  # fmt: skip


def list_org_events(runtime: Runtime, org_id: str, *, cursor: str | None = None, limit: int = 100) -> dict[str, Any]:
    """A page: `{"events": [...], "next_cursor"}`; `next_cursor` is None on the last one.

    Events come in ascending `seq`. What is stored later comes after what was read, so that following the
    cursor misses nothing and repeats nothing. Amounts are decimal strings in USD.

    Raises:
        BadInput: `invalid_cursor` or `invalid_limit`.
        NotFound: `unknown_org`.
    """
    after_seq = _parse_cursor(cursor)
    if not 1 <= limit <= PAGE_EVENTS_MAX:
        raise BadInput(
            "invalid_limit",
            f"a page has 1 to {PAGE_EVENTS_MAX} events, not {limit}",
            next_step="ask for fewer, and follow next_cursor",
            where="limit",
        )
    with runtime.database.connection() as connection:
        rows = events_after(connection, org_id, after_seq, limit + 1)
        if not rows and not knows_org(connection, org_id):
            raise NotFound(
                "unknown_org",
                f"there is no org {org_id!r}: it has neither an event nor a subscription",
                next_step="check the id; GET /v1/orgs and `tally orgs list` show those there are",
            )
    page = [_as_json(row) for row in rows[:limit]]
    return {"events": page, "next_cursor": str(page[-1]["seq"]) if len(rows) > limit else None}


def _parse_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 19 and int(cursor) <= _CURSOR_MAX):
        raise BadInput(
            "invalid_cursor",
            f"{cursor[:40]!r} is not a cursor",
            next_step="use the next_cursor of the page before, or none for the first page",
            where="cursor",
        )
    return int(cursor)


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    corrected = row["correction_seq"] is not None
    return {
        **{name: row[name] for name in _FACT_FIELDS},
        "time": format_instant(row["time"]),
        "recorded_at": format_instant(row["recorded_at"]),
        "meters": dict(zip(row["meter_names"], row["meter_quantities"], strict=True)),
        "provider_cost_usd": _usd(row["provider_cost_pico"]),
        "cost_usd": _usd(row["cost_pico"]),
        "cost_status": row["status"],
        "rate_version": row["rate_version"],
        "reason": row["reason"],
        "lines": _lines(row),
        "correction": {
            "seq": row["correction_seq"],
            "cost_usd": _usd(row["correction_cost_pico"]),
            "cost_status": row["correction_status"],
            "rate_version": row["correction_rate_version"],
        }
        if corrected
        else None,
    }


def _lines(row: dict[str, Any]) -> list[dict[str, Any]]:
    models = row["line_models"] or [None] * len(row["line_meters"])
    columns = ("line_meters", "line_quantities", "line_price_pico", "line_per", "line_amount_pico")
    lines = []
    for meter, quantity, price, per, amount, model in zip(*(row[name] for name in columns), models, strict=True):
        line = {
            "meter": meter,
            "quantity": quantity,
            "rate_usd": _usd(price),
            "per": per,
            "amount_usd": _usd(amount),
        }
        lines.append(line if model is None else {**line, "model": model})
    return lines


def _usd(pico: int | None) -> str | None:
    return None if pico is None else pico_to_usd(pico)
