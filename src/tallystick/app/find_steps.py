"""A request's story, step by step: what was decided, held, called, used, priced, charged, and given back.

Each entry of the ledger is a step, or several: a hold is a decision and what it reserves, usage is the call, what it
used, and what that cost. `at` is when it happened; steps are in that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from tallystick.app.explain_entry import priced_members
from tallystick.app.explain_operation import operation_members
from tallystick.app.rates_view import row_dict
from tallystick.core.errors import NotFound
from tallystick.core.instants import format_instant, parse_instant
from tallystick.core.money import pico_to_usd
from tallystick.ledger.entry import Entry, entry_lines
from tallystick.rates.card import CardHistory
from tallystick.rates.model import CostLine, RateRow
from tallystick.usage.meters import METERS

Members = dict[str, Any]

_NO_ENTRY = 2**63

_ASKED = ("action", "feature", "environment", "provider", "model", "work_key", "meters", "user_id", "session_id")


def steps_of(entries: Iterable[Entry], cards: CardHistory) -> list[Members]:
    """The steps that these entries tell of, each entry's in their order.

    Args:
        entries: in the order of the ledger.
        cards: every version of the rate card, to show the rows that priced them.
    """
    usage: dict[int, Entry] = {}
    steps: list[Members] = []
    for entry in entries:
        if entry.kind == "usage":
            usage[entry.seq] = entry
            steps += _of_usage(entry, cards)
        elif entry.kind == "correction":  # it names neither provider nor model: those of its usage
            about = usage.get(entry.refers_to_seq or 0, entry)
            steps.append(_step("correction", entry.recorded_at, entry) | _price(entry, about, cards))
        else:
            steps += _of_operation(entry)
    return steps


def in_order_of_time(steps: Iterable[Members]) -> list[Members]:
    """Steps in order of time; what is in no entry comes after what was at the same moment."""
    return sorted(steps, key=lambda one: (parse_instant(one["at"]), one["seq"] or _NO_ENTRY))


def _of_operation(entry: Entry) -> list[Members]:
    members = operation_members(entry)
    if entry.kind not in ("hold", "denial"):
        dropped = ("seq", "kind", "recorded_at", "leaf", "fingerprint", "rate_version", "entry_id")
        told = {name: value for name, value in members.items() if name not in dropped}
        return [_step(entry.kind, entry.recorded_at, entry) | told]
    decided = _step("decision", entry.recorded_at, entry)
    decided |= {"request_id": entry.request_id, **members["decision"], "api_key_id": entry.api_key_id}
    decided |= {name: members[name] for name in _ASKED} | {"attributes": members["attributes"]}
    decided |= {"erased": members["erased"], "what": members["what"], "why": members["why"]}
    if entry.kind == "denial":
        return [decided | {"wallet": members["wallet"]}]
    held = {"hold_id": members["entry_id"], **{name: members[name] for name in ("held_from", "expires_at", "wallet")}}
    return [decided, _step("hold", entry.recorded_at, entry) | held]


def _of_usage(entry: Entry, cards: CardHistory) -> list[Members]:
    members = priced_members(entry)
    attributes: Mapping[str, str] = entry.attributes or {}
    began = None if entry.latency_ms is None else entry.time - timedelta(milliseconds=entry.latency_ms)
    call = _step("call", entry.time, entry) | {
        "provider": entry.provider,
        "model": entry.model,
        "provider_request_id": attributes.get("provider_request_id"),
        "provider_status": attributes.get("provider_status"),
        "began_at": None if began is None else format_instant(began),
        "latency_ms": entry.latency_ms,
        "outcome": entry.outcome or "success",
        "usage_status": entry.usage_status or "final",
        "api_key_id": entry.api_key_id,
        "paid_by": members["payer"],
    }
    used = _step("usage", entry.time, entry) | {
        "request_id": entry.request_id,
        "meters": members["meters"],
        "price_context": dict(entry.price_context or {}),
        **{name: getattr(entry, name) for name in ("feature", "environment", "action", "user_id", "session_id")},
        "attributes": dict(attributes),
        "erased": members["erased"],
    }
    return [call, used, _step("price", entry.recorded_at, entry) | _price(entry, entry, cards)]


def _price(entry: Entry, usage: Entry, cards: CardHistory) -> Members:
    """What an entry, the usage itself or its correction, says that it costs."""
    members = priced_members(entry)
    lines = [
        told | {"row": _row(entry.rate_version, usage, line, cards)}
        for told, line in zip(members["lines"], entry_lines(entry), strict=True)
    ]
    stated = entry.provider_cost_pico
    return {
        "cost_usd": members["cost_usd"],
        "cost_status": members["cost_status"],
        "rate_version": entry.rate_version,
        "provider_cost_usd": None if stated is None else pico_to_usd(stated),
        "lines": lines,
        "refers_to": entry.refers_to_seq,
        "what": members["what"],
        "why": members["why"],
    }


def _row(rate_version: str, entry: Entry, line: CostLine, cards: CardHistory) -> Members | None:
    """The row of the rate card that says the line's price; None where no single one does."""
    if line.price_pico is None:
        return None
    try:
        card = cards.at(rate_version)
    except NotFound:
        return None
    resolved = card.resolve(entry.provider, line.model or entry.model or "")
    if resolved is None:
        return None
    meter = METERS.get(line.meter)
    meters = (line.meter, *(meter.falls_back_to if meter is not None else ()))
    context = dict(entry.price_context or {})
    rows = [
        (row, version)
        for row, version in card.effective(resolved)
        if row.meter in meters
        and row.per == line.per
        and row.valid_at(entry.time)
        and all(context.get(name) == value for name, value in row.context)
        and line.price_pico in (row.price_pico, *(tier.price_pico for tier in row.tiers))
    ]
    if not rows:
        return None
    row, version = min(rows, key=lambda one: _distance(one[0], meters))
    return row_dict(row, version)


def _distance(row: RateRow, meters: tuple[str, ...]) -> tuple[int, int]:
    """The meter's own row before one that it falls back to, one for this context before one for any."""
    return meters.index(row.meter), -len(row.context)


def _step(name: str, at: Any, entry: Entry) -> Members:
    return {"step": name, "at": format_instant(at), "seq": entry.seq}
