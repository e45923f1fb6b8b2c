"""What a comparison came to, as plain JSON members: for `--json`, and for whoever shows it in another way."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from tallystick.app.reconcile import Reconciliation
from tallystick.app.reconcile_apply import Written
from tallystick.core.instants import format_instant
from tallystick.core.money import format_exact, pico_to_usd
from tallystick.reconcile.compare import Cell, Gap
from tallystick.reconcile.offers import Offer

PICO = 10**12


def report(found: Reconciliation, written: Sequence[Written] | None = None) -> dict[str, Any]:
    """The whole of it.

    Args:
        found: the comparison.
        written: what was written of its offers; None where nothing was to be.
    """
    comparison, entries = found.comparison, {one.offer.request_id: one for one in written or ()}
    return {
        "provider": found.provider,
        "sha256": found.sha256,
        "from": str(comparison.days[0]),
        "through": str(comparison.days[-1]),
        "days": len(comparison.days),
        "compared": len(comparison.cells),
        "equal": not comparison.differing,
        "differing": len(comparison.differing),
        "cells": [_cell(found, cell, entries) for cell in comparison.cells.values()],
        "unattributed": [
            {"item": item, "cost_usd": exact_usd(pico)} for item, pico in sorted(comparison.unattributed.items())
        ],
        "notes": comparison.notes,
        "applied": None
        if written is None
        else {
            "entries": sum(one.is_new for one in written),
            "already_there": sum(not one.is_new for one in written),
        },
    }


def exact_usd(pico: Fraction | int) -> str:
    """USD as a decimal string of up to 15 places: an export may have more digits than money has."""
    return format_exact(Fraction(round(Fraction(pico) * 1000), 1000 * PICO))


def _cell(found: Reconciliation, cell: Cell, entries: dict[str, Written]) -> dict[str, Any]:
    offered = found.offered[cell.key]
    cost = cell.cost
    return {
        "day": str(cell.key.day),
        "model": cell.key.model,
        "org_id": cell.key.org_id or None,
        "names": {"provider": sorted(cell.theirs.names), "ledger": sorted(cell.our_names)},
        "equal": cell.is_equal,
        "requests": None if cell.requests is None else _gap(cell.requests),
        "meters": {gap.name: _gap(gap) for gap in cell.meters},
        "cost": None
        if cost is None
        else {
            "provider_usd": exact_usd(cost.theirs_pico),
            "ledger_usd": pico_to_usd(cost.ours_pico),
            "difference_usd": exact_usd(cost.gap_pico),
        },
        "estimated_requests": cell.ours.estimated,
        "unpriced_requests": cell.ours.unpriced,
        "explanations": [{"code": one.code, "text": one.text} for one in found.findings[cell.key]],
        "offers": [_offer(offer, entries.get(offer.request_id)) for offer in offered.offers],
        "why_no_more": offered.why_not,
    }


def _gap(gap: Gap) -> dict[str, int]:
    return {"provider": gap.theirs, "ledger": gap.ours, "difference": gap.gap}


def _offer(offer: Offer, entry: Written | None) -> dict[str, Any]:
    adjust = offer.adjust
    return {
        "org_id": offer.org_id,
        "request_id": offer.request_id,
        "refers_to": adjust.of_seq,
        "time": format_instant(offer.time),
        "provider": adjust.provider,
        "model": adjust.model,
        "environment": adjust.environment,
        "changes": [
            {"meter": line.meter, "quantity": line.quantity, "cost_usd": pico_to_usd(line.cost_pico)}
            for line in adjust.lines
        ],
        "cost_usd": pico_to_usd(adjust.cost_pico),
        "entry_id": None if entry is None else entry.entry_id,
        "is_new": None if entry is None else entry.is_new,
    }
