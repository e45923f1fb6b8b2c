"""An org's account to try the state machine on, one operation after the other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tallystick.contract.loader import load_contract
from tallystick.ledger.operations import CREDIT, Authorize, Grant, Held, Refund, ReleaseHold, Settle, Settled
from tallystick.ledger.org_account import OrgAccount, Step
from tallystick.ledger.org_changes import grant, refund
from tallystick.ledger.org_machine import authorize, release, settle, sweep

NOW = datetime(2026, 10, 5, 12, tzinfo=UTC)
GRACE = timedelta(days=7)
CENT_PICO = 10**10
"""What a credit is worth, in pico-USD."""
CONTRACT = load_contract(
    """
contract: holds
version: "1"
effective_from: 2026-01-01T00:00:00Z
credit: {name: credit, usd: "0.01"}
actions:
  write:
    price: {credits: 5}
    repeat: {key: document_id, within: 30d, credits: 0}
    shows: x
  rewrite:
    price: {credits: 5}
    repeat: {key: document_id, within: 30d, credits: 2}
    shows: x
  find: {price: {credits: 2}, charge_on: [success, empty], shows: x}
  agent: {price: {cost_plus: "0.30"}, max_credits: 200, shows: x}
plans:
  strict:
    kind: credits
    top_up: true
    limits: [{meters: [tokens_in, tokens_out], max: 100, per: day, kind: hard}]
  loose: {kind: credits, top_up: true, overage: true}
  included: {kind: credits, included_credits: 10}
  byok: {kind: byok, prices: {tool_calls: {unit: "0.001"}}}
environments:
  staging: {charge: false}
""",
    "holds.yaml",
)


class Org:
    """An account, and the place of its next entry."""

    def __init__(self, *grants: int) -> None:
        self.account, self.seq, self.now = OrgAccount(), 0, NOW
        for credits in grants:
            self.grant(credits)

    def _took(self, steps: list[Step]) -> list[Step]:
        assert [step.seq for step in steps] == list(range(self.seq + 1, self.seq + 1 + len(steps)))
        self.seq += len(steps)
        return steps

    @property
    def wallet(self) -> tuple[float, float]:
        state = self.account.wallet.state()
        return state.available_pico / CREDIT, state.held_pico / CREDIT

    def sweep(self) -> list[Step]:
        return self._took(sweep(self.account, self.seq + 1, self.now, grace=GRACE))

    def grant(self, credits: float, *, days: float | None = None) -> int:
        expires_at = None if days is None else self.now + timedelta(days=days)
        request = Grant(
            source="top_up", amount_pico=int(credits * CREDIT), expires_at=expires_at, author="a", reason="r"
        )
        return self._took(grant(self.account, self.seq + 1, self.now, request))[0].seq

    def ask(
        self, action: str | None = "write", *, key: str | None = None, plan: str = "strict", where: str = "production",
        cost: int | None = 0, user: str = "u1", **meters: int,
    ) -> Step:  # fmt: skip
        request = Authorize(feature="f", environment=where, action=action, work_key=key, meters=meters)
        terms = {"contract": CONTRACT, "plan": plan, "zone": "UTC", "user_id": user, "worst_cost_pico": cost}
        [step] = self._took(authorize(self.account, self.seq + 1, self.now, request, **terms))  # type: ignore[arg-type]
        return step

    def hold(self, *args: object, **named: object) -> int:
        step = self.ask(*args, **named)  # type: ignore[arg-type]
        assert isinstance(step.result, Held), step.result
        return step.seq

    def settle_all(
        self, hold: int, outcome: str = "success", *, cost: int = 0, bound: int | None = None, priced: bool = True
    ) -> list[Step]:
        request = Settle(hold_seq=hold, outcome=outcome, charge_pico=bound)  # type: ignore[arg-type]
        return self._took(
            settle(
                self.account, self.seq + 1, self.now, request, contract=CONTRACT, cost_pico=cost, priced=priced,
                grace=GRACE,
            )
        )  # fmt: skip

    def settle(self, hold: int, outcome: str = "success", **named: object) -> Settled:
        settled = self.settle_all(hold, outcome, **named)[0].result  # type: ignore[arg-type]
        assert isinstance(settled, Settled)
        return settled

    def release(self, hold: int) -> list[Step]:
        return self._took(release(self.account, self.seq + 1, self.now, ReleaseHold(hold_seq=hold), grace=GRACE))

    def refund(self, settlement: int, credits: float | None = None) -> list[Step]:
        amount_pico = None if credits is None else int(credits * CREDIT)
        request = Refund(settlement_seq=settlement, amount_pico=amount_pico, author="a", reason="r")
        return self._took(refund(self.account, self.seq + 1, self.now, request, grace=GRACE))
