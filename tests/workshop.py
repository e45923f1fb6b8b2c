"""Operations on an org's account, as the writer is given them, for tests of what is recorded and checked of them."""

from __future__ import annotations

import itertools
from typing import Any

from invoicing import event
from tallystick.app.contracts import apply_contract
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime
from tallystick.contract.decision import Budget, Override
from tallystick.core.instants import parse_instant
from tallystick.ledger.encoding import SALT_BYTES
from tallystick.ledger.operations import (
    CREDIT,
    Authorize,
    Grant,
    Operation,
    Recorded,
    Refund,
    ReleaseHold,
    SetBudget,
    SetOverride,
    SetStanding,
    Settle,
    SettleEvent,
)

CONTRACT = """
contract: workshop
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  tailor:
    title: Tailor a document
    price: {credits: 5}
    repeat: {key: document_id, within: 30d, credits: 0}
    shows: 5 credits.
  research:
    title: Research
    price: {cost_plus: "0.30"}
    max_credits: 20
    shows: Our cost plus 30 %.
plans:
  credits:
    title: Credits
    kind: credits
    base: "20"
    top_up: true
    actions: [tailor, research]
    limits:
      - {meters: [tokens_in], max: 1_000_000, per: day, kind: hard}
environments:
  development: {charge: false}
"""
_numbers = itertools.count(1)


def open_account(runtime: Runtime, *orgs: str) -> None:
    """Apply the contract and put the orgs on its plan of credits."""
    apply_contract(runtime, CONTRACT, "workshop.yaml")
    for org_id in orgs:
        set_subscription(
            runtime,
            org_id,
            contract="workshop",
            plan="credits",
            time_zone="Europe/Berlin",
            effective_from=parse_instant("2026-01-01"),
        )


def do(runtime: Runtime, kind: Any, request: Any, request_id: str | None = None, **more: Any) -> Recorded:
    """Have an operation of globex written: its entry."""
    members = {"org_id": "globex", "user_id": "user-1", "session_id": "session-1", **more}
    name = request_id or f"{kind}-{next(_numbers)}"
    operation = Operation(kind=kind, request_id=name, request=request, salt=runtime.random_bytes(SALT_BYTES), **members)
    return runtime.operations.submit(operation).result()


def granted(runtime: Runtime, credits: int = 100, **more: Any) -> Recorded:
    """Credits come in as a promotion."""
    members = {name: more.pop(name) for name in ("priority", "expires_at", "source") if name in more}
    request = Grant(**{"source": "promo", "amount_pico": credits * CREDIT, "author": "ann", "reason": "x", **members})
    return do(runtime, "grant", request, **{"user_id": None, "session_id": None, **more})


def held(runtime: Runtime, action: str = "tailor", **more: Any) -> Recorded:
    """A request is allowed, or denied."""
    names = ("work_key", "model", "meters", "environment", "api_key_id")
    members = {name: more.pop(name) for name in names if name in more}
    request = Authorize(**{"feature": "assistant", "environment": "production", "action": action, **members})
    return do(runtime, "hold", request, **more)


def settled(runtime: Runtime, hold: Recorded, *request_ids: str, outcome: Any = "success", **more: Any) -> Recorded:
    """Its work is done, with these usage events."""
    events = tuple(SettleEvent(event(name, hold.org_id, time=runtime.clock())) for name in request_ids)
    request = Settle(hold_seq=hold.seq, outcome=outcome, events=request_ids)
    return do(runtime, "settlement", request, f"h{hold.seq}", events=events, **{"org_id": hold.org_id, **more})


def released(runtime: Runtime, hold: Recorded, **more: Any) -> Recorded:
    """Its work is not done."""
    request = ReleaseHold(hold_seq=hold.seq, reason="closed")
    return do(runtime, "release", request, f"h{hold.seq}", **{"org_id": hold.org_id, **more})


def refunded(runtime: Runtime, settlement: Recorded, credits: int | None = None, **more: Any) -> Recorded:
    """Charged credits go back."""
    amount_pico = None if credits is None else credits * CREDIT
    request = Refund(settlement_seq=settlement.seq, amount_pico=amount_pico, author="ann", reason="a poor answer")
    return do(runtime, "refund", request, **{"org_id": settlement.org_id, "user_id": None, **more})


def budgeted(runtime: Runtime, name: str = "cap", **more: Any) -> Recorded:
    """A cost guard is set."""
    members = {name: more.pop(name) for name in ("scope", "subject", "of", "per", "kind") if name in more}
    budget = Budget(
        **{"name": name, "scope": "org", "subject": None, "of": "cost", "per": "month", "kind": "soft"} | members,
        max_pico=10**12,
    )
    return do(runtime, "budget", SetBudget(name=name, budget=budget, author="ann"), user_id=None, **more)


def excepted(runtime: Runtime, **more: Any) -> Recorded:
    """A signed-off exception is made."""
    override = Override(
        seq=0, author="ann", reason="a pilot", expires_at=parse_instant("2026-12-24"), allow_models=("gpt-5*",)
    )
    return do(runtime, "override", SetOverride(override=override, approved_by="bob"), user_id=None, **more)


def standing(runtime: Runtime, suspended: str | None = None, **more: Any) -> Recorded:
    """The org is suspended, or taken up again."""
    request = SetStanding(suspended=suspended, enforcement=None, author="ann")
    return do(runtime, "standing", request, user_id=None, **more)


def one_of_each(runtime: Runtime, org_id: str = "globex") -> None:
    """Every kind of operation but expiries, with usage between them; some credits are held in the end."""
    more = {"org_id": org_id}
    granted(runtime, 100, expires_at=parse_instant("2026-12-01"), **more)
    granted(runtime, 50, source="top_up", **more)
    budgeted(runtime, scope="user", **more)
    excepted(runtime, **more)
    done = settled(runtime, held(runtime, work_key="doc-1", meters={"tokens_in": 500}, **more), f"{org_id}-w1")
    runtime.append([event(f"{org_id}-between", org_id, time=runtime.clock())])
    failed = held(runtime, "research", meters={"tokens_in": 500, "tokens_out": 10}, model="gpt-4o-mini", **more)
    settled(runtime, failed, f"{org_id}-w2", outcome="failure")
    released(runtime, held(runtime, work_key="doc-2", **more))
    refunded(runtime, done, 2, **more)
    standing(runtime, "unpaid", **more)
    held(runtime, work_key="doc-3", **more)  # denied
    standing(runtime, None, **more)
    held(runtime, work_key="doc-4", meters={"tokens_in": 700}, user_id="user-2", **more)
