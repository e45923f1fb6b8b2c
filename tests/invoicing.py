"""What the tests of invoices share: a contract, orgs on its plans, and events."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from tallystick.app.contracts import apply_contract
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime
from tallystick.contract.model import Contract
from tallystick.core.instants import parse_instant
from tallystick.core.periods import month_period
from tallystick.invoice.terms import Holding, Terms, make_terms
from tallystick.ledger.encoding import event_fingerprint
from tallystick.ledger.entry import Entry, entry_leaf
from tallystick.rates.model import Cost
from tallystick.usage.event import UsageEvent

CONTRACT = """
contract: acme
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
meters:
  pages_reviewed: {unit: page}
plans:
  pro:
    title: Pro
    base: "10"
    prices:
      tokens_in: {unit: "0.10", per: 1_000_000}
      tokens_out: {unit: "0.30", per: 1_000_000, includes: [reasoning_tokens]}
      tool_calls: {package: {size: 10, price: "0.80", free: 5}}
      pages_reviewed: {unit: "0.015"}
  enterprise:
    title: Enterprise
    base: "0"
    commit: "100"
    prices:
      tokens_in:
        graduated:
          - {up_to: 1_000_000, unit: "10", per: 1_000_000}
          - {unit: "7", per: 1_000_000, flat: "2"}
      tokens_out:
        volume:
          - {up_to: 500_000, unit: "30", per: 1_000_000}
          - {unit: "22", per: 1_000_000, flat: "5"}
  resale:
    title: Resale
    base: "0"
    prices:
      tokens_in: {cost_plus: "0.30"}
      tokens_out: {cost_plus: "0.30", includes: [reasoning_tokens]}
environments:
  development: {charge: false}
"""


def apply(runtime: Runtime, text: str = CONTRACT) -> None:
    """Apply the contract."""
    apply_contract(runtime, text, "acme.yaml")


def subscribe(
    runtime: Runtime,
    org_id: str,
    plan: str = "pro",
    *,
    time_zone: str = "UTC",
    effective_from: datetime = datetime(2026, 1, 1, tzinfo=UTC),
) -> None:
    """Put the org on the plan."""
    set_subscription(runtime, org_id, contract="acme", plan=plan, time_zone=time_zone, effective_from=effective_from)


def event(request_id: str, org_id: str = "globex", **changed: Any) -> UsageEvent:
    """A request of October 2026 in production."""
    members: dict[str, Any] = {
        "time": datetime(2026, 10, 15, 12, tzinfo=UTC),
        "user_id": "user-1",
        "session_id": "session-1",
        "feature": "assistant",
        "environment": "production",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "meters": {"tokens_in": 1000, "tokens_out": 100},
    }
    return UsageEvent(org_id=org_id, request_id=request_id, **{**members, **changed})


def record(runtime: Runtime, events: Iterable[UsageEvent]) -> None:
    """Store the events; every one of them is new."""
    receipts = runtime.append(list(events))
    assert [receipt.status for receipt in receipts] == ["accepted"] * len(receipts)


def month_terms(contract: Contract, *plans: tuple[str, str | None], label: str = "2026-10", zone: str = "UTC") -> Terms:
    """The terms of a month in which each plan, with the instant until which it was in force, followed the one before.

    None: until the month's end.
    """
    period = month_period(label, zone)
    holdings, start = [], period.start
    for ordinal, (plan, until) in enumerate(plans, start=1):
        end = period.end if until is None else parse_instant(until)
        holdings.append(Holding(start, end, contract, plan, ordinal))
        start = end
    return make_terms("globex", period, zone, holdings, len(holdings))


def usage_entry(one: UsageEvent, cost: Cost, seq: int = 1, *, recorded_at: datetime | None = None) -> Entry:
    """The event as the ledger stores it, made here from the schema and not by the writer."""
    salt = bytes(range(16))
    members = {
        "kind": "usage",
        **{name: getattr(one, name) for name in Entry._fields if hasattr(one, name)},
        "meter_names": sorted(one.meters),
        "meter_quantities": [one.meters[name] for name in sorted(one.meters)],
        "salt": salt,
        "fingerprint": event_fingerprint(one, salt),
    }
    return _entry(members, one, cost, seq, recorded_at)


def correction_entry(
    one: UsageEvent, cost: Cost, seq: int, refers_to_seq: int, *, recorded_at: datetime | None = None
) -> Entry:
    """The entry that gives the event's own entry its cost."""
    return _entry({"kind": "correction", "refers_to_seq": refers_to_seq}, one, cost, seq, recorded_at)


def _entry(members: dict[str, Any], one: UsageEvent, cost: Cost, seq: int, recorded_at: datetime | None) -> Entry:
    columns: dict[str, Any] = dict.fromkeys(Entry._fields)
    columns |= members | {"org_id": one.org_id, "request_id": one.request_id, "time": one.time, "time_max": one.time}
    columns |= {"seq": seq, "recorded_at": recorded_at or one.time, "leaf": b""}
    columns |= {"rate_version": cost.rate_version, "status": cost.status, "reason": cost.reason}
    columns["cost_pico"] = cost.total_pico
    for line, column in (
        ("meter", "line_meters"),
        ("quantity", "line_quantities"),
        ("price_pico", "line_price_pico"),
        ("per", "line_per"),
        ("amount_pico", "line_amount_pico"),
    ):
        columns[column] = [getattr(each, line) for each in cost.lines]
    models = [each.model for each in cost.lines]
    columns["line_models"] = models if any(models) else None
    entry = Entry(**columns)
    return entry._replace(leaf=entry_leaf(entry))
