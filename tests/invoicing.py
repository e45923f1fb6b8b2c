"""What the tests of invoices share: a contract, orgs on its plans, and events."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from tallystick.app.contracts import apply_contract
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime
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
