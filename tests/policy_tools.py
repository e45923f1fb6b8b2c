"""A contract with every kind of term, and short ways to write requests and states."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tallystick.contract.decision import Budget, BudgetUse, Decision, LimitUse, OrgState, Override, Request
from tallystick.contract.loader import load_contract
from tallystick.contract.policy import decide

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
TONIGHT = datetime(2026, 11, 21, 23, tzinfo=UTC)
MONTH_END = datetime(2026, 11, 30, 23, tzinfo=UTC)
CREDIT = 10**12
USD = 10**12

TEXT = """
contract: acme
version: "1"
effective_from: 2026-10-01T00:00:00Z
credit: {name: credit, usd: "0.01"}
actions:
  explore: {title: Explore, price: {credits: 0}, shows: Free.}
  tailor:
    title: Tailor a document
    price: {credits: 5}
    repeat: {key: document_id, within: 30d, credits: 1}
    shows: 5 credits.
  email: {title: Find an address, price: {credits: 2}, charge_on: [success, empty]}
  research: {title: Research, price: {cost_plus: "0.30"}, max_credits: 200}
plans:
  free:
    title: Free
    limits:
      - {meters: [tokens_in, tokens_out], max: 1000, per: day, kind: hard, warn_at: [0.5, 0.8]}
      - {meters: [images_generated], max: 0, per: day, kind: hard}
    upgrade_to: pro
  pro:
    title: Pro
    prices:
      tokens_in: {unit: "0.10", per: 1_000_000}
      web_searches: {cost_plus: "0.30"}
    limits:
      - {meters: [tokens_out], max: 2000, per: day, kind: hard}
      - {meters: [tokens_in], max: 500, per: month, kind: soft, warn_at: [0.5, 1.0]}
  credits:
    title: Credits
    kind: credits
    included_credits: 100
    top_up: true
  small:
    title: Small
    kind: credits
    included_credits: 50
    actions: [explore, tailor]
    models: {allow: ["*-mini", "gpt-5", "claude-*"], deny: ["claude-opus*"]}
    upgrade_to: credits
  tiny:
    title: Tiny
    kind: credits
    included_credits: 10
    actions: [explore, tailor]
    models: {allow: ["*-mini", "*-flash*"], deny: ["bad-*"]}
  closed:
    title: Closed
    kind: credits
    included_credits: 10
    actions: []
    models: {deny: ["bad-*"]}
  byok: {title: Own key, kind: byok, prices: {tool_calls: {unit: "0.001"}}}
  byok-wallet: {title: Own key and wallet, kind: byok, included_credits: 10, top_up: true}
  trial: {extends: small, title: Trial, enforcement: shadow}
  open: {extends: credits, title: Open, overage: true}
  starter: {title: Starter, actions: [explore], upgrade_to: small}
  two:
    title: Two
    limits:
      - {meters: [tokens_in, tokens_out], max: 100, per: day, kind: hard}
      - {meters: [tokens_out], max: 10, per: day, kind: hard}
      - {meters: [tokens_out], max: 20, per: month, kind: hard}
    upgrade_to: more
  more: {title: More, limits: [{meters: [tokens_out], max: 50, per: day, kind: hard}]}
environments:
  development: {charge: false}
"""
CONTRACT = load_contract(TEXT, "acme.yaml")
SHADOW = load_contract(TEXT + "enforcement: shadow\n", "acme.yaml")


def request(**members) -> Request:
    return Request(**{"feature": "chat", "environment": "production", "user_id": "u1", **members})


def use(index: int, used: int = 0, held: int = 0, resets_at: datetime = TONIGHT) -> LimitUse:
    return LimitUse(index=index, used=used, held=held, starts_at=resets_at - timedelta(days=1), resets_at=resets_at)


def state(credits: int | None = None, *used: int, **members) -> OrgState:
    """An org with that many credits available, and so much used of the plan's limits."""
    limits = tuple(use(index, quantity) for index, quantity in enumerate(used))
    available_pico = (credits or 0) * CREDIT
    return OrgState(**{"now": NOW, "available_pico": available_pico, "limits": limits, **members})


def budget(max_usd: int, used_usd: int = 0, *, of="cost", kind="hard", name="guard") -> BudgetUse:
    guard = Budget(name=name, scope="org", subject=None, of=of, per="month", kind=kind, max_pico=max_usd * USD)
    return BudgetUse(
        budget=guard, used_pico=used_usd * USD, held_pico=0, starts_at=NOW - timedelta(days=20), resets_at=MONTH_END
    )


def override(seq: int = 7, **bends) -> Override:
    return Override(seq=seq, author="ann", reason="launch", expires_at=NOW + timedelta(days=3), **bends)


def ask(plan: str | None, where: OrgState, **members) -> Decision:
    return decide(CONTRACT, plan, where, request(**members))
