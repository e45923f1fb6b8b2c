"""One org's events as they were stored, a page at a time, in the order of the ledger."""

from __future__ import annotations

from typing import Any

from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd
from tallystick.invoice.facts import StoredFact, stored_lines
from tallystick.journal.listing import requests_after, require_known
from tallystick.rates.model import CostLine

PAGE_EVENTS_MAX = 1000
_CURSOR_MAX = 2**63 - 1
_FACT_FIELDS = (
    "seq", "request_id", "user_id", "session_id", "feature", "environment", "provider", "model", "api_key_id",
    "action", "latency_ms", "outcome", "usage_status",
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
    with runtime.database.org(org_id) as connection:
        rows = requests_after(connection, org_id, after_seq, limit + 1)
        if not rows:
            require_known(connection, org_id)
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


def _as_json(fact: StoredFact) -> dict[str, Any]:
    entry, correction = fact.entry, fact.correction
    return {
        **{name: getattr(entry, name) for name in _FACT_FIELDS},
        "time": format_instant(entry.time),
        "recorded_at": format_instant(entry.recorded_at),
        "meters": fact.meters,
        "price_context": entry.price_context,
        "attributes": entry.attributes or {},
        "erased": fact.is_erased,
        "provider_cost_usd": _usd(entry.provider_cost_pico),
        "payer": entry.payer or "seller",
        "fingerprint": None if entry.fingerprint is None else entry.fingerprint.hex(),
        "leaf": entry.leaf.hex(),
        "cost_usd": _usd(entry.cost_pico),
        "cost_status": entry.status,
        "rate_version": entry.rate_version,
        "reason": entry.reason,
        "lines": [_line(line) for line in stored_lines(entry)],
        "correction": None
        if correction is None
        else {
            "seq": correction.seq,
            "cost_usd": _usd(correction.cost_pico),
            "cost_status": correction.status,
            "rate_version": correction.rate_version,
        },
    }


def _line(line: CostLine) -> dict[str, Any]:
    members = {
        "meter": line.meter,
        "quantity": line.quantity,
        "rate_usd": _usd(line.price_pico),
        "per": line.per,
        "amount_usd": _usd(line.amount_pico),
    }
    return members if line.model is None else {**members, "model": line.model}


def _usd(pico: int | None) -> str | None:
    return None if pico is None else pico_to_usd(pico)
