"""Credits that are worth as little as a token: wallets of amounts beyond what a database's integers hold."""

from __future__ import annotations

import pytest

from account_operations import authorize, do, grant, refund, settle, subscribe
from tallystick.app.runtime import Runtime
from tallystick.app.verify import verify_ledger
from tallystick.contract.loader import load_contract
from tallystick.core.errors import Problems
from tallystick.ledger.operations import CREDIT, Held, Returned, Settled

CONTRACT = """\
contract: tokens
version: "1"
effective_from: 2026-10-01T00:00:00Z
credit: {name: token, usd: "0.000001"}
actions:
  train: {title: Train a model, price: {credits: 30_000_000}, shows: 30 million tokens.}
plans:
  large: {title: Large, kind: credits, included_credits: 25_000_000, top_up: true}
"""


def test_millions_of_credits_are_held_charged_refunded_and_proved(runtime: Runtime) -> None:
    subscribe(runtime, "acme", plan="large", contract=CONTRACT)
    do(runtime, grant(credits=20_000_000))
    hold = do(runtime, authorize(action="train"))
    assert isinstance(hold.result, Held)
    assert sum(lot.amount_pico for lot in hold.result.lots) == 30_000_000 * CREDIT > 2**63
    assert hold.result.after.available_pico == 15_000_000 * CREDIT
    done = do(runtime, settle(hold))
    assert isinstance(done.result, Settled)
    back = do(runtime, refund(done))
    assert isinstance(back.result, Returned)
    assert back.result.after.available_pico == 45_000_000 * CREDIT
    found = verify_ledger(runtime)
    assert found.sound, found


def test_a_plan_cannot_include_more_than_a_grant_can_bring() -> None:
    with pytest.raises(Problems, match="more than one grant can bring"):
        load_contract(CONTRACT.replace("25_000_000", "1_000_000_000_000_000_001"), "tokens.yaml")
