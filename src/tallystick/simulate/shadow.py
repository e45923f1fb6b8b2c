"""What shadow mode let pass: who would have been stopped, how often, why, and what came of it; a fold over entries.

A hold whose decision was made in shadow mode says what enforcement would have answered (`decision.enforced`). What
became of it stands in the settlement that refers to it. Memory grows with the holds that are open at a time, and with
the groups of the report, not with the entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import msgspec

from tallystick.contract.charging import charge_credits
from tallystick.contract.decision import ReasonCode
from tallystick.contract.model import Contract
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operations import Authorize, Denied, Held, Settle, Settled

KINDS = ("hold", "denial", "settlement", "release", "expiry")
"""The kinds of operations that are looked at."""
_SHADOW = '"shadow":true'  # bodies leave a default out, and a quote within a text is escaped

ContractOf = Callable[[str], Contract]
"""The contract version with that SHA-256."""


class Stopped(msgspec.Struct, kw_only=True):
    """Requests of one org, plan and action with one reason against them.

    Attributes:
        code: the reason.
        requests: how many.
        first, last: when the first and the last were decided.
        settled: how many of them were done, as far as that is recorded.
        cost_pico: what that cost us, in pico-USD.
        charged_pico: the credits that it was charged all the same, because the wallet had them.
        uncharged_pico: the credits that it would have been charged, had the wallet had them.
    """

    org_id: str
    plan: str
    action: str | None
    code: ReasonCode
    requests: int = 0
    first: datetime
    last: datetime
    settled: int = 0
    cost_pico: int = 0
    charged_pico: int = 0
    uncharged_pico: int = 0


class _Passed(msgspec.Struct):
    """A hold that enforcement would have stopped, until it is known what became of it."""

    group: Stopped
    request: Authorize
    held: Held


class ShadowTally:
    """The fold over the operations of one org after the other.

    Attributes:
        decided: how many requests were decided in the time, in whatever mode.
        shadowed: how many of them in shadow mode.
        orgs: how many orgs have any.
    """

    def __init__(self, start: datetime, end: datetime, contract_of: ContractOf) -> None:
        self._start = start
        self._end = end
        self._contract_of = contract_of
        self._passed: dict[tuple[str, str | None, ReasonCode], Stopped] = {}
        self._denied: dict[tuple[str, str | None, ReasonCode], Stopped] = {}
        self._open: dict[int, _Passed] = {}
        self.decided = 0
        self.shadowed = 0
        self.orgs = 0
        self.passed_groups: list[Stopped] = []
        self.denied_groups: list[Stopped] = []

    def take(self, org_id: str, operations: Iterable[tuple[int, str, datetime, int | None, str]]) -> None:
        """The operations of an org, in ascending sequence: (seq, kind, time, refers_to_seq, body), of `KINDS`.

        Those of holds that were decided in the time, up to their ends; others are passed over.
        """
        before = self.decided
        for seq, kind, time, refers_to_seq, body in operations:
            if kind in {"hold", "denial"}:
                if self._start <= time < self._end:
                    self._decision(org_id, seq, kind, time, body)
            elif refers_to_seq in self._open:
                self._end_of(self._open.pop(refers_to_seq), kind, body)
            elif time >= self._end and not self._open:
                break
        self._open.clear()
        self.passed_groups += self._passed.values()
        self.denied_groups += self._denied.values()
        self._passed.clear()
        self._denied.clear()
        self.orgs += self.decided > before

    def _decision(self, org_id: str, seq: int, kind: str, time: datetime, body: str) -> None:
        self.decided += 1
        if kind == "denial":
            request, denied = read_body(kind, body)
            if isinstance(denied, Denied):
                decision = denied.decision
                self._count(self._denied, org_id, decision.plan, request.action, decision.code, time)
            return
        if _SHADOW not in body:
            return
        self.shadowed += 1
        request, held = read_body(kind, body)
        decision = held.decision
        if decision.enforced is None or decision.enforced.allow:
            return
        group = self._count(self._passed, org_id, decision.plan, request.action, decision.enforced.code, time)
        self._open[seq] = _Passed(group, request, held)

    def _count(
        self,
        groups: dict[tuple[str, str | None, ReasonCode], Stopped],
        org_id: str,
        plan: str,
        action: str | None,
        code: ReasonCode,
        time: datetime,
    ) -> Stopped:
        group = groups.get((plan, action, code))
        if group is None:
            group = Stopped(org_id=org_id, plan=plan, action=action, code=code, first=time, last=time)
            groups[plan, action, code] = group
        group.requests += 1
        group.last = max(group.last, time)
        return group

    def _end_of(self, passed: _Passed, kind: str, body: str) -> None:
        if kind != "settlement":
            return
        request: Any
        settled: Any
        request, settled = read_body(kind, body)
        group = passed.group
        group.settled += 1
        group.cost_pico += settled.cost_pico
        group.charged_pico += _charged_pico(settled)
        group.uncharged_pico += self._uncharged_pico(passed, request, settled)

    def _uncharged_pico(self, passed: _Passed, request: Settle, settled: Settled) -> int:
        """What a hold that the wallet could not cover would have been charged: by the rules that charge the others."""
        decision = passed.held.decision
        reserve_pico = decision.quote.reserve_pico
        if sum(lot.amount_pico for lot in passed.held.lots) >= reserve_pico:
            return 0
        return charge_credits(
            self._contract_of(decision.contract_sha256),
            decision.plan,
            passed.request.action,
            outcome=request.outcome,
            environment=passed.request.environment,
            cost_pico=settled.cost_pico,
            priced=settled.priced,
            repeat=decision.quote.repeat,
            held_pico=reserve_pico,
        ).charged_pico


def _charged_pico(settled: Settled) -> int:
    return sum(lot.amount_pico for lot in (*settled.charged, *settled.overage)) + settled.receivable_pico
