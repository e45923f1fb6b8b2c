"""One entry of an org's ledger, whatever it is, in plain words and as plain members: with what refers to it."""

from __future__ import annotations

from typing import Any

from tallystick.app.entries import stream_entries
from tallystick.app.explain_operation import operation_members
from tallystick.app.operate import existing_org
from tallystick.app.referring import referring_entries
from tallystick.app.runtime import Runtime
from tallystick.core.errors import NotFound
from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd
from tallystick.ledger.entry import Entry, entry_lines


def show_entry(runtime: Runtime, org_id: str, seq: int) -> dict[str, Any]:
    """The entry at that place of the org's sequence: what it says, and the later entries that refer to it.

    Raises:
        BadInput: the id cannot be one; or of a block: `missing_block`, `broken_block`.
        NotFound: `unknown_org`, `unknown_entry`.
        Conflict: `entries_missing`.
    """
    org = existing_org(runtime, org_id)
    if not 1 <= seq <= org.entries:
        raise NotFound(
            "unknown_entry",
            f"{org_id} has {org.entries:,} entries, and none is numbered {seq:,}",
            next_step=f"name one from 1 to {org.entries}" if org.entries else "nothing was recorded for it yet",
            where="seq",
        )
    (entry,) = stream_entries(runtime, org_id, seq, seq)
    later = referring_entries(runtime, org_id, seq, entry.kind)
    members = priced_members(entry) if entry.body is None else operation_members(entry)
    return {**members, "referred_to_by": [_reference(one) for one in later]}


def _reference(entry: Entry) -> dict[str, Any]:
    if entry.body is not None:
        members = operation_members(entry)
        return {name: members[name] for name in ("entry_id", "seq", "kind", "recorded_at", "what")}
    members = priced_members(entry)
    return {name: members[name] for name in ("seq", "kind", "recorded_at", "what")}


def priced_members(entry: Entry) -> dict[str, Any]:
    """The whole of an entry of usage or of a correction as plain JSON members; amounts are decimal strings of USD."""
    meters = dict(zip(entry.meter_names or (), entry.meter_quantities or (), strict=True))
    return {
        "seq": entry.seq,
        "kind": entry.kind,
        "request_id": entry.request_id,
        "time": format_instant(entry.time),
        "recorded_at": format_instant(entry.recorded_at),
        "refers_to": entry.refers_to_seq,
        "by": entry.user_id,
        "feature": entry.feature,
        "environment": entry.environment,
        "provider": entry.provider,
        "model": entry.model,
        "action": entry.action,
        "payer": entry.payer or "seller",
        "meters": meters,
        "cost_usd": None if entry.cost_pico is None else pico_to_usd(entry.cost_pico),
        "cost_status": entry.status,
        "rate_version": entry.rate_version,
        "lines": [
            {
                "meter": line.meter,
                "quantity": line.quantity,
                "rate_usd": None if line.price_pico is None else pico_to_usd(line.price_pico),
                "per": line.per,
                "amount_usd": None if line.amount_pico is None else pico_to_usd(line.amount_pico),
            }
            for line in entry_lines(entry)
        ],
        "erased": entry.kind == "usage" and entry.salt is None,
        "fingerprint": None if entry.fingerprint is None else entry.fingerprint.hex(),
        "leaf": entry.leaf.hex(),
        "what": _priced_sentence(entry, meters),
        "why": entry.reason,
    }


def _priced_sentence(entry: Entry, meters: dict[str, int]) -> str:
    cost = "it has no price yet" if entry.cost_pico is None else f"it cost {pico_to_usd(entry.cost_pico)} USD"
    paid = ", which the customer's own key paid" if entry.payer == "customer" else ""
    rates = f"under rate card {entry.rate_version}"
    if entry.kind == "correction":
        return f"entry {entry.refers_to_seq} is priced now: {cost}{paid} {rates}"
    quantities = ", ".join(f"{quantity:,} {meter}" for meter, quantity in meters.items()) or "nothing"
    return f"{entry.feature} used {quantities} of {entry.model} in {entry.environment}: {cost}{paid} {rates}"
