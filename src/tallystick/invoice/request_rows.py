"""The requests of an invoice as a table: one row each, straight from the ledger, never from a total.

Columns are fixed, save for two for each meter of the period (its quantity and what it cost us), in the order
in which meters are shown. A meter that a request does not have is an empty cell; so is a cost that is not known, and
personal data that was erased.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd
from tallystick.invoice.facts import StoredFact, stored_lines
from tallystick.invoice.tables import text_cell
from tallystick.invoice.terms import Terms

_BEFORE = (
    "month", "seq", "request_id", "time", "recorded_at", "org_id", "user_id", "session_id", "feature", "environment",
    "api_key_id", "action", "provider", "model", "outcome", "usage_status", "payer", "latency_ms", "plan", "charged",
)  # fmt: skip
_COST = ("cost_usd", "cost_status", "rate_version", "correction_seq", "unpriced_reason")
_AFTER = ("price_context", "attributes", "fingerprint")


def request_header(meters: Sequence[str], *, with_cost: bool) -> tuple[str, ...]:
    """The names of the columns; without cost, what it cost us is left out."""
    quantities = tuple(f"{meter}_quantity" for meter in meters)
    costs = (*_COST, *(f"{meter}_cost_usd" for meter in meters)) if with_cost else ()
    return (*_BEFORE, *quantities, *costs, *_AFTER)


def request_row(fact: StoredFact, meters: Sequence[str], terms: Terms, *, with_cost: bool) -> tuple[str, ...]:
    """One request of a month under these terms."""
    entry, used = fact.entry, fact.meters
    row = [
        terms.period.label,
        str(entry.seq),
        text_cell(entry.request_id),
        format_instant(entry.time),
        format_instant(entry.recorded_at),
        text_cell(entry.org_id),
        text_cell(entry.user_id),
        text_cell(entry.session_id),
        text_cell(entry.feature),
        text_cell(entry.environment or ""),
        text_cell(entry.api_key_id),
        text_cell(entry.action),
        text_cell(entry.provider),
        text_cell(entry.model),
        entry.outcome or "",
        entry.usage_status or "",
        entry.payer or "seller",
        "" if entry.latency_ms is None else str(entry.latency_ms),
        *_charged(fact, terms),
    ]
    row += [str(used[meter]) if meter in used else "" for meter in meters]
    if with_cost:
        row += _cost_cells(fact, meters)
    fingerprint = "" if entry.fingerprint is None else entry.fingerprint.hex()
    row += [_object_cell(entry.price_context), _object_cell(entry.attributes), fingerprint]
    return tuple(row)


def _charged(fact: StoredFact, terms: Terms) -> tuple[str, str]:
    """The plan that was in force, and whether the request was charged under it."""
    entry, section = fact.entry, terms.section_of(fact.entry.time)
    if section == terms.unplanned:
        return "", "no: no_plan"
    of = terms.sections[section]
    if not of.contract.charges(entry.environment or ""):
        return text_cell(of.plan.name), "no: environment"
    return text_cell(of.plan.name), "no: failure" if entry.outcome == "failure" else "yes"


def _cost_cells(fact: StoredFact, meters: Sequence[str]) -> list[str]:
    priced = fact.priced
    amounts: dict[str, int | None] = {}
    for line in stored_lines(priced):  # a meter has two lines when part of the work was done by another model
        known = amounts.get(line.meter, 0)
        amounts[line.meter] = None if known is None or line.amount_pico is None else known + line.amount_pico
    return [
        _usd(priced.cost_pico),
        priced.status,
        text_cell(priced.rate_version),
        "" if fact.correction is None else str(fact.correction.seq),
        text_cell(priced.reason),
        *(_usd(amounts.get(meter)) for meter in meters),
    ]


def _usd(pico: int | None) -> str:
    return "" if pico is None else pico_to_usd(pico)


def _object_cell(value: Mapping[str, str] | None) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")) if value else ""
