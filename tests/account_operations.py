"""What the tests of accounts share: an org on a plan of the reference contract, and operations on it."""

from __future__ import annotations

import itertools
import os
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from tallystick.app.contracts import apply_contract
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime
from tallystick.ledger.operations import (
    CREDIT,
    Authorize,
    Grant,
    Operation,
    Recorded,
    Refund,
    ReleaseHold,
    Settle,
    SettleEvent,
)
from tallystick.usage.event import UsageEvent

REFERENCE = (files("tallystick.contract") / "reference.yaml").read_text()
_numbers = itertools.count(1)


def subscribe(
    runtime: Runtime, *orgs: str, plan: str = "credits", contract: str = REFERENCE, zone: str = "UTC"
) -> None:
    """Put orgs on a plan of a contract, which is applied first."""
    applied = apply_contract(runtime, contract, "contract.yaml").contract
    for org in orgs:
        since = datetime(2026, 10, 1, tzinfo=UTC)
        set_subscription(runtime, org, contract=applied.name, plan=plan, time_zone=zone, effective_from=since)


def authorize(org: str = "acme", request_id: str | None = None, *, user: str = "u1", **request: Any) -> Operation:
    """A request to do something: by default to tailor a document, which costs 5 credits."""
    asked = {"feature": "documents", "environment": "production", "action": "tailor_document", **request}
    cost = asked.pop("worst_cost_pico", 0)
    return Operation(
        org_id=org,
        kind="hold",
        request_id=request_id or f"a{next(_numbers)}",
        request=Authorize(**asked),
        salt=os.urandom(16),
        user_id=user,
        session_id="s1",
        worst_cost_pico=cost,
    )


def event(org: str = "acme", request_id: str | None = None, **more: Any) -> UsageEvent:
    """A usage event."""
    members = {
        "time": datetime(2026, 11, 2, 11, 0, tzinfo=UTC),
        "user_id": "u1",
        "session_id": "s1",
        "feature": "documents",
        "environment": "production",
        "provider": "openai",
        "model": "gpt-4o",
        "meters": {"tokens_in": 1000, "tokens_out": 10},
    }
    return UsageEvent(org_id=org, request_id=request_id or f"e{next(_numbers)}", **{**members, **more})


def settle(hold: Recorded, *events: UsageEvent, outcome: Any = "success", charge_pico: int | None = None) -> Operation:
    """The end of a hold's work."""
    request = Settle(
        hold_seq=hold.seq, outcome=outcome, events=tuple(one.request_id for one in events), charge_pico=charge_pico
    )
    return Operation(
        org_id=hold.org_id,
        kind="settlement",
        request_id=f"h{hold.seq}",
        request=request,
        salt=os.urandom(16),
        events=tuple(SettleEvent(one) for one in events),
    )


def release(hold: Recorded, reason: str | None = None) -> Operation:
    """The end of a hold whose work was not done."""
    request = ReleaseHold(hold_seq=hold.seq, reason=reason)
    return Operation(
        org_id=hold.org_id, kind="release", request_id=f"h{hold.seq}", request=request, salt=os.urandom(16)
    )


def refund(settlement: Recorded, credits: int | None = None, request_id: str | None = None) -> Operation:
    """Charged credits to be given back."""
    request = Refund(
        settlement_seq=settlement.seq,
        amount_pico=None if credits is None else credits * CREDIT,
        author="ann",
        reason="it was of no use",
    )
    request_id = request_id or f"f{next(_numbers)}"
    return Operation(
        org_id=settlement.org_id, kind="refund", request_id=request_id, request=request, salt=os.urandom(16)
    )


def grant(org: str = "acme", credits: int = 100, request_id: str | None = None, **more: Any) -> Operation:
    """Credits to come in."""
    request = Grant(**{"source": "top_up", "amount_pico": credits * CREDIT, "author": "ann", "reason": "paid", **more})
    return Operation(
        org_id=org, kind="grant", request_id=request_id or f"g{next(_numbers)}", request=request, salt=os.urandom(16)
    )


def do(runtime: Runtime, operation: Operation) -> Recorded:
    """Have it done, and wait for the answer."""
    return runtime.operations.submit(operation).result(20)
