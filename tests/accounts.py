"""Orgs on plans with credits, and what is asked of their accounts, for tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tallystick.app.authorize import authorize
from tallystick.app.contracts import apply_contract
from tallystick.app.decision_answers import answer_of
from tallystick.app.grants import grant
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime
from tallystick.app.settle import settle

CONTRACT = """\
contract: shop
version: "1"
effective_from: 2026-10-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  explore: {title: Explore, price: {credits: 0}, shows: Exploring is free.}
  tailor:
    title: Tailor a document
    price: {credits: 5}
    charge_on: [success]
    repeat: {key: document, within: 30d, credits: 0}
    shows: 5 credits, and nothing for a run that fails.
  research: {title: Research, price: {cost_plus: "0.30"}, max_credits: 200, shows: Our cost plus 30 %.}
plans:
  wallet: {title: Wallet, kind: credits, base: "20", top_up: true, actions: [explore, tailor, research]}
  monthly:
    title: Monthly
    kind: credits
    base: "5"
    included_credits: 300
    top_up: false
    actions: [explore, tailor]
    upgrade_to: wallet
  metered:
    title: Metered
    base: "0"
    limits:
      - {meters: [tokens_in, tokens_out], max: 1000, per: day, kind: hard}
      - {meters: [tokens_out], max: 2000, per: month, kind: soft, warn_at: [0.5, 0.8, 1.0]}
environments:
  staging: {charge: false}
"""
BEGAN = datetime(2026, 10, 1, tzinfo=UTC)


def open_shop(runtime: Runtime, **plans: str) -> None:
    """Apply the contract, and put each org on its plan, on the clocks of Paris."""
    apply_contract(runtime, CONTRACT, "shop.yaml")
    for org_id, plan in plans.items():
        set_subscription(runtime, org_id, contract="shop", plan=plan, time_zone="Europe/Paris", effective_from=BEGAN)


def asked(request_id: str = "a1", org_id: str = "acme", **more: Any) -> dict[str, Any]:
    """A request to tailor a document, with whatever differs."""
    request = {
        "org_id": org_id,
        "request_id": request_id,
        "user_id": "u1",
        "session_id": "s1",
        "feature": "docs",
        "environment": "production",
        "action": "tailor",
    }
    return {name: value for name, value in {**request, **more}.items() if value is not None}


def call(request_id: str = "e1", **more: Any) -> dict[str, Any]:
    """A call to a model as an event of a settlement: it costs 0.0035 USD."""
    event = {
        "request_id": request_id,
        "time": "2026-11-02T11:59:00Z",
        "model": "gpt-4o",
        "meters": {"tokens_in": 1000, "tokens_out": 100},
    }
    return {**event, **more}


def give(runtime: Runtime, credits: str = "100", org_id: str = "acme", **more: Any) -> dict[str, Any]:
    """Credits granted as a promotion, and how that was answered."""
    members = {"request_id": "g1", "source": "promo", "credits": credits, "author": "ann", "reason": "welcome", **more}
    return answer_of(grant(runtime, org_id, members))


def hold(runtime: Runtime, *arguments: Any, **more: Any) -> dict[str, Any]:
    """The answer to `asked`."""
    return answer_of(authorize(runtime, asked(*arguments, **more)))


def end(runtime: Runtime, hold_id: str, outcome: str = "success", org_id: str = "acme", **more: Any) -> dict[str, Any]:
    """The answer to the end of a hold's work."""
    return answer_of(settle(runtime, {"org_id": org_id, "hold_id": hold_id, "outcome": outcome, **more}))
