"""Running a case: on the policy and the state machine that the server runs, with an account in memory.

What the server does by itself happens here too: before each step what is over ends, the month's included credits come
in, and usage counts towards the windows that it falls in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from tallystick.contract.model import Contract
from tallystick.core.errors import TallyError
from tallystick.ledger.operations import (
    Denied,
    Grant,
    Held,
    Refund,
    ReleaseHold,
    Returned,
    SetBudget,
    SetOverride,
    SetStanding,
    Settle,
)
from tallystick.ledger.org_account import FinishedWork, OpenHold, OrgAccount
from tallystick.ledger.org_account import Step as Entry
from tallystick.ledger.org_changes import grant, refund, set_budget, set_override, set_standing
from tallystick.ledger.org_machine import authorize, payer_of, release, settle, sweep
from tallystick.ledger.reservations import meter_counter, spending_counter
from tallystick.simulate.case_given import AUTHOR, WINDOWS
from tallystick.simulate.case_model import (
    Asked,
    Case,
    Given,
    Granting,
    Refunding,
    Releasing,
    Settling,
    Step,
    Used,
    Value,
)
from tallystick.simulate.case_results import held_members, returned_members, settled_members, wallet_members
from tallystick.simulate.counting import Counting, Spender
from tallystick.simulate.month_credits import included_grant, month_of
from tallystick.usage.event import Payer

NO_HOLD = "no_hold"
"""The error of a step that ends a hold which was denied."""


class Answer(NamedTuple):
    """What became of a step: its members by path, and a sentence that says why, where there is one."""

    members: Mapping[str, Value]
    why: str | None


def run_case(case: Case, contract: Contract) -> list[Answer]:
    """What each step of the case is answered; a step that is refused is answered with its `error`."""
    run = _Run(contract, case.given)
    return [run.step(step) for step in case.steps]


class _Run:
    """One org, from what is given on."""

    def __init__(self, contract: Contract, given: Given) -> None:
        self._contract = contract
        self._plan = given.plan
        self._zone = given.time_zone
        self._now = given.at or contract.effective_from
        self._seq = 0
        self._account = OrgAccount()
        self._counting = Counting(self._account, contract, self._zone)
        self._included: str | None = None
        self._holds: dict[str | None, int | None] = {}
        self._settlements: dict[int | None, int] = {}
        self._give(given)

    def _give(self, given: Given) -> None:
        account, now = self._account, self._now
        for one in given.wallet or ():
            self._append(grant(account, self._seq + 1, now, _ending(one, now)))
        if given.wallet is not None:
            self._included = month_of(self._zone, now)
        if given.suspended is not None or given.enforcement is not None:
            said = SetStanding(suspended=given.suspended, enforcement=given.enforcement, author=AUTHOR)
            self._append(set_standing(account, self._seq + 1, now, said))
        for override in given.overrides:
            exception = SetOverride(override=override, approved_by=AUTHOR)
            self._append(set_override(account, self._seq + 1, now, exception))
        for spent in given.budgets:
            budget = spent.budget
            request = SetBudget(name=budget.name, budget=budget, author=AUTHOR)
            self._append(set_budget(account, self._seq + 1, now, request))
            counter = spending_counter(budget.of, budget.scope, budget.subject)
            self._counting.count(now, budget.per, counter, spent.spent_pico)
        for (per, meter), quantity in given.used.items():
            self._counting.count(now, per, meter_counter(meter), quantity)
        for work in given.finished:
            self._seq += 1
            account.finished[work.action, work.work_key] = FinishedWork(now - work.ago, self._seq)

    def step(self, step: Step) -> Answer:
        """What becomes of it; the clock goes on first, and what is over by then ends."""
        self._now += step.after
        self._append(sweep(self._account, self._seq + 1, self._now, grace=self._grace))
        self._include()
        try:
            members, why = self._do(step.what)
        except TallyError as error:
            members, why = {"error": error.code}, error.detail
        return Answer({**members, **wallet_members(self._account.wallet.state())}, why)

    def _do(self, what: Any) -> tuple[dict[str, Value], str | None]:
        match what:
            case Asked():
                return self._authorize(what)
            case Settling() | Releasing():
                return self._end(what)
            case Refunding():
                return self._refund(what)
            case Used():
                spender = Spender(what.user_id, what.api_key_id, what.feature, what.environment or "")
                self._use([what], spender, what.payer or payer_of(self._contract, self._plan))
            case Granting():
                self._append(grant(self._account, self._seq + 1, self._now, _ending(what, self._now)))
        return {}, None

    # ── what is asked for ───────────────────────────────────────────────────────────────────────

    def _authorize(self, asked: Asked) -> tuple[dict[str, Value], str | None]:
        steps = authorize(
            self._account,
            self._seq + 1,
            self._now,
            asked.request,
            user_id=asked.user_id,
            worst_cost_pico=asked.worst_cost_pico,
            contract=self._contract,
            plan=self._plan,
            zone=self._zone,
        )
        self._append(steps)
        result: Any = steps[0].result
        self._holds[None] = self._holds[asked.name] = steps[0].seq if isinstance(result, Held) else None
        lots = result.lots if isinstance(result, Held) else ()
        if not isinstance(result, Held | Denied):
            raise TypeError(f"a request became {type(result).__name__}")
        return held_members(result.decision, lots), result.decision.message

    def _end(self, ending: Settling | Releasing) -> tuple[dict[str, Value], str | None]:
        hold_seq = self._holds.get(ending.hold)
        if hold_seq is None:
            return {"error": NO_HOLD}, "there is no hold: the request was denied"
        hold = self._account.holds.get(hold_seq)
        if isinstance(ending, Releasing):
            steps = release(self._account, self._seq + 1, self._now, ReleaseHold(hold_seq=hold_seq), grace=self._grace)
            self._append(steps)
            result: Any = steps[0].result
            return returned_members(result), None
        return self._settle(ending, hold_seq, hold)

    def _settle(self, ending: Settling, hold_seq: int, hold: OpenHold | None) -> tuple[dict[str, Value], str | None]:
        payer = self._payer(hold)
        ours = [event for event in ending.events if (event.payer or payer) == "seller"]
        steps = settle(
            self._account,
            self._seq + 1 + len(ending.events),
            self._now,
            Settle(hold_seq=hold_seq, outcome=ending.outcome, charge_pico=ending.charge_pico),
            contract=self._contract,
            cost_pico=sum(event.cost_pico or 0 for event in ours),
            priced=all(event.cost_pico is not None for event in ours),
            grace=self._grace,
        )
        settled: Any = steps[0].result
        self._append(steps)
        self._settlements[hold_seq] = steps[0].seq
        if hold is not None:
            asked = hold.request
            spender = Spender(hold.user_id, asked.api_key_id, asked.feature, asked.environment)
            self._use(ending.events, spender, payer)
            self._counting.spend(self._now, "charge", settled.charge_pico, spender)
        return settled_members(settled), settled.why

    def _payer(self, hold: OpenHold | None) -> Payer:
        if hold is None:
            return "seller"
        return hold.request.payer or payer_of(self._contract, hold.held.decision.plan)

    def _refund(self, what: Refunding) -> tuple[dict[str, Value], str | None]:
        hold_seq = self._holds.get(what.hold)
        request = Refund(
            settlement_seq=self._settlements.get(hold_seq, 0),
            amount_pico=what.amount_pico,
            author=AUTHOR,
            reason="refunded",
        )
        steps = refund(self._account, self._seq + 1, self._now, request, grace=self._grace)
        self._append(steps)
        result = steps[0].result
        if not isinstance(result, Returned):
            raise TypeError(f"a refund became {type(result).__name__}")
        returned_pico = sum(lot.amount_pico for lot in result.returned)
        refunded = msgspec.structs.replace(result)
        return returned_members(refunded, refunded_pico=returned_pico + result.receivable_pico), None

    # ── what follows by itself ──────────────────────────────────────────────────────────────────

    @property
    def _grace(self) -> timedelta:
        return self._contract.refund_grace

    def _append(self, steps: Iterable[Entry]) -> None:
        for step in steps:
            self._seq = max(self._seq, step.seq)

    def _include(self) -> None:
        """The credits that the plan includes come in once a month."""
        plan = self._contract.plans.get(self._plan or "")
        request = included_grant(plan, self._zone, self._now, self._included)
        if request is not None:
            self._included = request.period
            self._append(grant(self._account, self._seq + 1, self._now, request))

    def _use(self, events: Iterable[Used], spender: Spender, payer: Payer) -> None:
        """Usage becomes entries, and counts."""
        for event in events:
            self._seq += 1
            our_cost_pico = (event.cost_pico or 0) if (event.payer or payer) == "seller" else 0
            self._counting.use(self._now, self._plan, event.meters, our_cost_pico, spender, WINDOWS)


def _ending(granting: Granting, now: datetime) -> Grant:
    """The grant with the instant at which it ends."""
    if granting.lasts is None:
        return granting.grant
    return msgspec.structs.replace(granting.grant, expires_at=now + granting.lasts)
