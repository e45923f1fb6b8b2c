"""The state machine of an org's account against a naive model of it, in whatever order operations come.

The model knows a list of lots, a list of holds and nothing else, and finds the next lot to burn by looking at all of
them. After each step the account, the fold of its entries, the balances of its transfers and the model agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy, deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from math import ceil

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from examples import examples
from tallystick.contract.decision import Budget
from tallystick.contract.loader import load_contract
from tallystick.core.errors import TallyError
from tallystick.ledger.accounts import CREDIT_ACCOUNTS, EXPIRED, RECEIVABLE, REVENUE, ROUNDING, WALLET_ACCOUNTS
from tallystick.ledger.fold import FoldEntry, OrgFold
from tallystick.ledger.operation_body import decode_body, encode_body
from tallystick.ledger.operation_transfers import transfers_of
from tallystick.ledger.operations import (
    CREDIT,
    Authorize,
    Denied,
    Ended,
    Grant,
    Held,
    Lot,
    Refund,
    ReleaseHold,
    Returned,
    SetBudget,
    SetStanding,
    Settle,
    Settled,
)
from tallystick.ledger.org_account import FinishedWork, OrgAccount, OrgTerms, Step
from tallystick.ledger.org_changes import grant, refund, set_budget, set_standing
from tallystick.ledger.org_machine import authorize, release, settle, sweep
from tallystick.ledger.wallet import GrantedLot, Wallet

CONTRACT = load_contract(
    """
contract: machine
version: "1"
effective_from: 2026-01-01T00:00:00Z
credit: {name: credit, usd: "0.01"}
actions:
  fixed:
    price: {credits: 5}
    repeat: {key: document_id, within: 2h, credits: 1}
    shows: x
  either: {price: {credits: 2}, charge_on: [success, empty], shows: x}
  agent: {price: {cost_plus: "0.30"}, max_credits: 20, charge_on: [success, failure], shows: x}
plans:
  strict: {kind: credits, top_up: true}
  loose: {kind: credits, top_up: true, overage: true}
environments:
  staging: {charge: false}
holds: {life: 15m}
refunds: {grace: 1d}
""",
    "machine.yaml",
)
START = datetime(2026, 10, 5, 12, tzinfo=UTC)
GRACE = timedelta(days=1)
PRICES = {"fixed": 5 * CREDIT, "either": 2 * CREDIT, "agent": 20 * CREDIT}
CHARGED_ON = {"fixed": ("success",), "either": ("success", "empty"), "agent": ("success", "failure")}
COST_PER_CREDIT_PICO = 10**10
AMOUNTS = st.one_of(st.sampled_from([CREDIT, 3 * CREDIT, 7 * CREDIT, 30 * CREDIT]), st.integers(1, 9 * CREDIT))
COSTS = st.one_of(st.sampled_from([0, COST_PER_CREDIT_PICO]), st.integers(0, 20 * COST_PER_CREDIT_PICO))


@dataclass
class ModelLot:
    seq: int
    priority: int
    expires_at: datetime | None
    available: int
    is_again: bool = False


@dataclass
class ModelHold:
    seq: int
    parts: list[tuple[int, int]]
    ends_at: datetime
    action: str
    work_key: str | None
    plan: str
    environment: str
    repeat: bool
    covered: bool
    worst_cost: int
    meters: int

    @property
    def amount(self) -> int:
        return sum(amount for _, amount in self.parts)


@dataclass
class Model:
    lots: list[ModelLot] = field(default_factory=list)
    holds: list[ModelHold] = field(default_factory=list)
    done: dict[tuple[str, str], datetime] = field(default_factory=dict)
    charges: dict[int, list[tuple[int | None, int]]] = field(default_factory=dict)
    """By settlement, what of it can still be refunded, in the order in which it burnt; None is what is owed."""
    granted: int = 0
    charged: int = 0
    expired: int = 0
    owed: int = 0

    def available(self) -> int:
        return sum(lot.available for lot in self.lots)

    def lot(self, seq: int) -> ModelLot:
        return next(lot for lot in self.lots if lot.seq == seq)

    def burn(self, amount: int) -> list[tuple[int, int]]:
        """By looking at every lot for each part."""
        parts = []
        while amount:
            living = [lot for lot in self.lots if lot.available]
            first = min(
                living, key=lambda lot: (lot.expires_at or datetime.max.replace(tzinfo=UTC), lot.priority, lot.seq)
            )
            part = min(first.available, amount)
            first.available -= part
            amount -= part
            parts.append((first.seq, part))
        return parts

    def put_back(self, parts: list[tuple[int, int]], now: datetime) -> list[tuple[int, int]]:
        """What is of lots that are over comes back, to be granted again."""
        over = []
        for seq, amount in parts:
            lot = self.lot(seq)
            if lot.expires_at is not None and lot.expires_at <= now:
                over.append((seq, amount))
                self.expired += amount
            else:
                lot.available += amount
        return over

    def grant_again(
        self, steps: Iterator[Step], over: list[tuple[int, int]], now: datetime, *, refunded: bool = False
    ) -> None:
        """What holds give back is granted again once, what is refunded however often."""
        over = [(seq, amount) for seq, amount in over if refunded or not self.lot(seq).is_again]
        again = list(islice(steps, len(over)))
        assert [(step.request.of_seq, step.request.amount_pico) for step in again] == over  # type: ignore[union-attr]
        for step, (seq, amount) in zip(again, over, strict=True):
            assert step.kind == "grant"
            assert isinstance(step.request, Grant)
            assert step.request.source == "refund"
            assert step.request.expires_at == now + GRACE
            assert step.request.priority == self.lot(seq).priority
            self.lots.append(ModelLot(step.seq, self.lot(seq).priority, now + GRACE, amount, True))
            self.expired -= amount


@dataclass
class Tables:
    """What is saved of an account."""

    lots: dict[int, GrantedLot] = field(default_factory=dict)
    holds: set[int] = field(default_factory=set)
    finished: dict[tuple[str, str], FinishedWork] = field(default_factory=dict)
    terms: OrgTerms = field(default_factory=OrgTerms)
    reserved: Counter[str] = field(default_factory=Counter)


def pairs(lots: tuple[Lot, ...]) -> list[tuple[int, int]]:
    return [(lot.grant_seq, lot.amount_pico) for lot in lots]


class WalletMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.seq = 0
        self.account = OrgAccount()
        self.model = Model()
        self.tables = Tables()
        self.fold = OrgFold({CONTRACT.sha256: CONTRACT}.get)
        self.balances: Counter[str] = Counter()
        self.resolved: Counter[int] = Counter()
        self.ended_by_expiry: set[int] = set()
        self.settled_or_released: set[int] = set()
        self.steps: list[Step] = []

    # ── doing ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def record(self, steps: list[Step], user_id: str | None = None) -> None:
        for step in steps:
            self.seq += 1
            assert step.seq == self.seq
            assert step.refers_to_seq is None or step.refers_to_seq < step.seq
            request, result = decode_body(step.kind, encode_body(step.request, step.result))
            assert (request, result) == (step.request, step.result)
            self.fold.add(FoldEntry(step.seq, step.kind, self.now, request, result, step.refers_to_seq, user_id))
            for debited, credited, amount in transfers_of(step.kind, step.request, step.result):
                assert amount > 0
                self.balances[debited] -= amount
                self.balances[credited] += amount
            if step.kind in ("settlement", "release") or (step.kind == "expiry" and isinstance(step.result, Returned)):
                self.resolved[step.refers_to_seq or 0] += 1
            self.steps.append(step)

    def do(self, operation: Callable[[], list[Step]], user_id: str | None = None) -> list[Step] | TallyError:
        before = self.snapshot()
        try:
            steps = operation()
        except TallyError as error:
            assert self.snapshot() == before, "an error has moved something"
            return error
        self.record(steps, user_id)
        return steps

    def snapshot(self) -> object:
        account = self.account
        lots = [(lot.seq, lot.available_pico) for lot in account.wallet.lots.values()]
        return deepcopy((lots, account.wallet.state(), account.holds, account.charged, account.finished, account.terms,
                         {name: amount for name, amount in account.reserved.items() if amount}))  # fmt: skip

    def sweep(self) -> None:
        """As before every operation at a new instant; the model ends holds and lots one by one."""
        steps = sweep(self.account, self.seq + 1, self.now, grace=GRACE)
        self.record(steps)
        model, left = self.model, iter(steps)
        for hold in sorted(model.holds, key=lambda hold: (hold.ends_at, hold.seq)):
            if hold.ends_at > self.now:
                continue
            model.holds.remove(hold)
            self.ended_by_expiry.add(hold.seq)
            step = next(left)
            assert (step.kind, step.refers_to_seq) == ("expiry", hold.seq)
            assert isinstance(step.result, Returned)
            assert pairs(step.result.returned) == hold.parts
            over = model.put_back(hold.parts, self.now)
            model.grant_again(left, over, self.now)
        ended = {
            lot.seq: lot.available
            for lot in model.lots
            if lot.expires_at and lot.expires_at <= self.now and lot.available
        }
        rest = list(left)
        assert {
            step.refers_to_seq: step.result.lots[0].amount_pico for step in rest if isinstance(step.result, Ended)
        } == ended
        assert len(rest) == len(ended)
        for seq, amount in ended.items():
            model.lot(seq).available = 0
            model.expired += amount

    @initialize(soon=AMOUNTS, later=AMOUNTS)
    def begin(self, soon: int, later: int) -> None:
        self.credits_come_in("promo", soon, 1, 12)
        self.credits_come_in("top_up", later + 20 * CREDIT, 0, None)

    # ── rules ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(minutes=st.sampled_from([1, 5, 5, 10, 10, 20, 90, 60 * 24]))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(
        source=st.sampled_from(["top_up", "included", "promo", "sla", "dispute", "goodwill"]),
        amount=AMOUNTS,
        priority=st.integers(-1, 1),
        minutes=st.one_of(st.none(), st.sampled_from([5, 12, 12, 60, 60 * 24])),
    )
    def credits_come_in(self, source: str, amount: int, priority: int, minutes: int | None) -> None:
        self.sweep()
        expires_at = None if minutes is None else self.now + timedelta(minutes=minutes)
        request = Grant(
            source=source,  # type: ignore[arg-type]
            amount_pico=amount,
            priority=priority,
            expires_at=expires_at,
            author="a",
            reason="r",
        )
        steps = self.do(lambda: grant(self.account, self.seq + 1, self.now, request))
        assert isinstance(steps, list)
        self.model.lots.append(ModelLot(steps[0].seq, priority, expires_at, amount))
        self.model.granted += amount

    @rule(
        action=st.sampled_from(["fixed", "fixed", "either", "agent", "agent"]),
        work_key=st.sampled_from([None, "d1", "d1", "d2"]),
        plan=st.sampled_from(["strict", "loose"]),
        environment=st.sampled_from(["production", "production", "staging"]),
        worst_cost=st.one_of(st.just(COST_PER_CREDIT_PICO), COSTS),
        meters=st.integers(0, 3),
    )
    def somebody_asks(
        self, action: str, work_key: str | None, plan: str, environment: str, worst_cost: int, meters: int
    ) -> None:
        self.sweep()
        model = self.model
        request = Authorize(
            feature="f",
            environment=environment,
            action=action,
            work_key=work_key,
            meters={"tokens_in": meters} if meters else {},
        )
        steps = self.do(
            lambda: authorize(
                self.account,
                self.seq + 1,
                self.now,
                request,
                user_id="u1",
                worst_cost_pico=worst_cost,
                contract=CONTRACT,
                plan=plan,
                zone="UTC",
            ),
            "u1",
        )
        assert isinstance(steps, list)
        [step] = steps
        repeat = self._is_repeat(action, work_key)
        price = PRICES[action]
        if action == "agent" and worst_cost:
            price = min(price, self._whole(worst_cost))
        price = 0 if environment == "staging" else CREDIT if repeat else price
        covered = model.available() >= price
        if not covered and self.account.terms.enforcement != "shadow":
            assert isinstance(step.result, Denied)
            assert step.result.decision.code == "insufficient_credits"
            return
        assert isinstance(step.result, Held)
        parts = model.burn(price) if covered else []
        assert pairs(step.result.lots) == parts
        ends_at = self.now + timedelta(minutes=15)
        assert step.result.expires_at == ends_at
        hold = ModelHold(
            step.seq, parts, ends_at, action, work_key, plan, environment, repeat, covered, worst_cost, meters
        )
        model.holds.append(hold)

    def _is_repeat(self, action: str, work_key: str | None) -> bool:
        done = self.model.done.get((action, work_key or ""))
        return action == "fixed" and done is not None and self.now < done + timedelta(hours=2)

    @staticmethod
    def _whole(cost: int) -> int:
        return ceil(cost * 13 / (10 * COST_PER_CREDIT_PICO)) * CREDIT if cost < 2**50 else 0

    @rule(
        data=st.data(),
        action=st.sampled_from(["fixed", "agent", "agent", "agent"]),
        work_key=st.sampled_from([None, "d1"]),
        worst_cost=st.sampled_from([COST_PER_CREDIT_PICO, 10 * COST_PER_CREDIT_PICO]),
        minutes=st.sampled_from([0, 2, 7, 14]),
        cost=st.sampled_from([3 * COST_PER_CREDIT_PICO // 2, 10**12]),
        refunds=st.integers(0, 2),
    )
    def work_is_asked_for_and_done(
        self,
        data: st.DataObject,
        action: str,
        work_key: str | None,
        worst_cost: int,
        minutes: int,
        cost: int,
        refunds: int,
    ) -> None:
        self.somebody_asks(action, work_key, "loose", "production", worst_cost, 1)
        self.now += timedelta(minutes=minutes)
        self.sweep()
        if self.model.holds:
            self._settle_one(data, self.model.holds[-1], "success", cost)
        for _ in range(refunds):
            if any(self.model.charges.values()):
                self.a_charge_is_refunded(data, False)

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), outcome=st.sampled_from(["success", "success", "empty", "failure"]), cost=COSTS)
    def work_is_settled(self, data: st.DataObject, outcome: str, cost: int) -> None:
        self.sweep()
        if self.model.holds:
            self._settle_one(data, data.draw(st.sampled_from(self.model.holds)), outcome, cost)

    def _settle_one(self, data: st.DataObject, hold: ModelHold, outcome: str, cost: int) -> None:
        model = self.model
        bound = data.draw(st.one_of(st.none(), st.none(), st.integers(0, hold.amount)))
        request = Settle(hold_seq=hold.seq, outcome=outcome, charge_pico=bound)  # type: ignore[arg-type]
        steps = self.settle(request, cost)
        assert isinstance(steps, list)
        settled = steps[0].result
        assert isinstance(settled, Settled)
        model.holds.remove(hold)
        self.settled_or_released.add(hold.seq)

        repeat = hold.repeat or self._is_repeat(hold.action, hold.work_key)
        charge, most = 0, hold.amount
        if hold.covered and hold.environment == "production" and outcome in CHARGED_ON[hold.action]:
            charge = CREDIT if repeat else PRICES[hold.action]
            if hold.action == "agent":
                charge = min(self._whole(cost), PRICES["agent"])
                most = PRICES["agent"] if hold.plan == "loose" and bound is None else hold.amount
            charge = min(charge, most)
            if hold.work_key and not repeat:
                model.done[hold.action, hold.work_key] = self.now
        if bound is not None:
            charge = min(charge, bound)

        left, charged, returned = min(charge, hold.amount), [], []
        for seq, amount in hold.parts:
            part = min(left, amount)
            left -= part
            charged += [(seq, part)] if part else []
            returned += [(seq, amount - part)] if amount > part else []
        beyond = max(0, charge - hold.amount)
        overage = model.burn(min(beyond, model.available()))
        owed = beyond - sum(amount for _, amount in overage)
        over = model.put_back(returned, self.now)
        assert pairs(settled.charged) == charged
        assert pairs(settled.returned) == returned
        assert pairs(settled.overage) == overage
        assert settled.receivable_pico == owed
        rest = iter(steps[1:])
        model.grant_again(rest, over, self.now)
        assert list(rest) == []
        model.charged += charge
        model.owed += owed
        model.charges[steps[0].seq] = [*charged, *overage, *([(None, owed)] if owed else [])]

    def settle(self, request: Settle, cost: int) -> list[Step] | TallyError:
        terms = {"contract": CONTRACT, "cost_pico": cost, "priced": True, "grace": GRACE}
        return self.do(lambda: settle(self.account, self.seq + 1, self.now, request, **terms))  # type: ignore[arg-type]

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data())
    def work_is_not_done(self, data: st.DataObject) -> None:
        self.sweep()
        if not self.model.holds:
            return
        hold = data.draw(st.sampled_from(self.model.holds))
        request = ReleaseHold(hold_seq=hold.seq)
        steps = self.do(lambda: release(self.account, self.seq + 1, self.now, request, grace=GRACE))
        assert isinstance(steps, list)
        assert isinstance(steps[0].result, Returned)
        assert pairs(steps[0].result.returned) == hold.parts
        self.model.holds.remove(hold)
        self.settled_or_released.add(hold.seq)
        rest = iter(steps[1:])
        self.model.grant_again(rest, self.model.put_back(hold.parts, self.now), self.now)
        assert list(rest) == []

    @precondition(lambda self: any(self.model.charges.values()))
    @rule(data=st.data(), whole=st.booleans())
    def a_charge_is_refunded(self, data: st.DataObject, whole: bool) -> None:
        self.sweep()
        model = self.model
        seq = data.draw(st.sampled_from(sorted(model.charges)))
        left = sum(amount for _, amount in model.charges[seq])
        amount = None if whole else data.draw(st.integers(1, left + CREDIT))
        request = Refund(settlement_seq=seq, amount_pico=amount, author="a", reason="r")
        steps = self.do(lambda: refund(self.account, self.seq + 1, self.now, request, grace=GRACE))
        amount = left if amount is None else amount
        if amount > left or not left:
            assert isinstance(steps, TallyError)
            assert steps.code == "refund_exceeds_charge"
            return
        assert isinstance(steps, list)
        returned = steps[0].result
        assert isinstance(returned, Returned)
        owed, back = 0, Counter[int]()
        remaining = amount
        while remaining:
            lot, last = model.charges[seq].pop()
            part = min(last, remaining)
            remaining -= part
            if last > part:
                model.charges[seq].append((lot, last - part))
            if lot is None:
                owed += part
            else:
                back[lot] += part
        assert returned.receivable_pico == owed
        assert pairs(returned.returned) == list(back.items())
        over = model.put_back(list(back.items()), self.now)
        assert returned.expired_pico == sum(part for _, part in over)
        rest = iter(steps[1:])
        model.grant_again(rest, over, self.now, refunded=True)
        assert list(rest) == []
        model.charged -= amount
        model.owed -= owed

    @rule(data=st.data())
    def what_is_over_or_too_much_is_refused(self, data: st.DataObject) -> None:
        self.sweep()
        codes = {999_999: "hold_unknown"}
        codes |= dict.fromkeys(self.ended_by_expiry, "hold_expired")
        codes |= dict.fromkeys(self.settled_or_released, "hold_resolved")
        codes |= {hold.seq: "settle_above_hold" for hold in self.model.holds}
        seq = data.draw(st.sampled_from(sorted(codes)))
        too_much = max([hold.amount for hold in self.model.holds if hold.seq == seq], default=0) + 1
        errors = [self.settle(Settle(hold_seq=seq, outcome="success", charge_pico=too_much), 0)]
        if codes[seq] != "settle_above_hold":
            errors.append(
                self.do(lambda: release(self.account, self.seq + 1, self.now, ReleaseHold(hold_seq=seq), grace=GRACE))
            )
        for amount in (0, -1, -5 * CREDIT, 10**30 + 1):
            request = Grant(source="top_up", amount_pico=amount, author="a", reason="r")
            errors.append(self.do(lambda request=request: grant(self.account, self.seq + 1, self.now, request)))
        assert [error.code for error in errors if isinstance(error, TallyError)] == [
            *[codes[seq]] * (len(errors) - 4), *["invalid_amount"] * 4
        ]  # fmt: skip

    @rule(
        mode=st.sampled_from([None, None, "shadow"]),
        guard=st.none() | st.tuples(st.sampled_from(["cost", "charge"]), st.sampled_from(["org", "user", "feature"])),
        there=st.booleans(),
    )
    def what_is_said_about_the_org_changes(self, mode: str | None, guard: tuple[str, str] | None, there: bool) -> None:
        self.sweep()
        if guard is None:
            standing = SetStanding(suspended=None, enforcement=mode, author="a")  # type: ignore[arg-type]
            assert isinstance(self.do(lambda: set_standing(self.account, self.seq + 1, self.now, standing)), list)
            return
        of, scope = guard
        name = f"{of} {scope}"
        budget = Budget(name=name, scope=scope, subject=None, of=of, per="day", kind="soft", max_pico=1)  # type: ignore[arg-type]
        request = SetBudget(name=name, budget=budget if there else None, author="a")
        known = name in self.account.terms.budgets
        steps = self.do(lambda: set_budget(self.account, self.seq + 1, self.now, request))
        assert isinstance(steps, list) == (there or known)

    @rule()
    def the_account_is_saved_and_loaded(self) -> None:
        """As a process does that knows no more than the tables: what the account says has changed makes them right."""
        fold, account, tables = self.fold, self.account, self.tables
        wallet = account.wallet
        tables.lots |= {seq: copy(wallet.lots[seq]) for seq in wallet.changed}
        assert tables.holds.isdisjoint(account.opened)
        assert account.closed <= tables.holds
        tables.holds = (tables.holds | account.opened) - account.closed
        tables.finished |= account.newly_finished
        tables.terms = account.terms if account.terms_changed else tables.terms
        tables.reserved.update(account.reserved_changes)

        assert tables.holds == set(fold.holds)
        assert {seq: lot.available_pico for seq, lot in tables.lots.items()} == {
            seq: lot.available_pico for seq, lot in fold.wallet.lots.items()
        }
        assert {name: amount for name, amount in tables.reserved.items() if amount} == fold.reserved()
        needed = {lot.grant_seq for hold in fold.holds.values() for lot in hold.held.lots}
        needed |= {
            lot.grant_seq for one in account.charged.values() for lot in (*one.settled.charged, *one.settled.overage)
        }
        self.account = OrgAccount(
            Wallet(
                [copy(lot) for lot in tables.lots.values() if lot.available_pico or lot.seq in needed], wallet.held_pico
            ),
            holds=[account.holds[seq] for seq in tables.holds],
            resolved=account.resolved,
            charged=account.charged.values(),
            finished=tables.finished,
            terms=tables.terms,
            reserved=tables.reserved,
        )

    # ── what always holds ───────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def the_account_is_what_its_entries_say(self) -> None:
        account, fold = self.account, self.fold
        assert account.wallet.state() == fold.wallet.state()
        known = {seq: lot.available_pico for seq, lot in account.wallet.lots.items()}
        assert known == {seq: fold.wallet.lots[seq].available_pico for seq in known}
        assert all(lot.available_pico == 0 for seq, lot in fold.wallet.lots.items() if seq not in known)
        assert account.holds == fold.holds
        assert account.finished == fold.finished
        assert account.terms == fold.terms
        assert {name: amount for name, amount in account.reserved.items() if amount} == fold.reserved()

    @invariant()
    def the_model_agrees(self) -> None:
        model, fold = self.model, self.fold
        assert {lot.seq: lot.available for lot in model.lots} == {
            seq: lot.available_pico for seq, lot in fold.wallet.lots.items()
        }
        assert {hold.seq for hold in model.holds} == set(fold.holds)
        assert fold.wallet.held_pico == sum(hold.amount for hold in model.holds)
        reserved = {"meter:tokens_in": sum(hold.meters for hold in model.holds if hold.environment == "production")}
        for name, guard in self.account.terms.budgets.items():
            subject = {"org": "org", "user": "user:u1", "feature": "feature:f"}[guard.scope]
            if name.startswith("cost"):
                reserved[f"cost:{subject}"] = sum(hold.worst_cost for hold in model.holds)
        spent = {name: amount for name, amount in fold.reserved().items() if not name.startswith("charge:")}
        assert spent == {name: amount for name, amount in reserved.items() if amount}

    @invariant()
    def balances_are_the_lots_and_nothing_is_lost(self) -> None:
        balances, wallet, model = self.balances, self.account.wallet, self.model
        assert set(balances) <= set(CREDIT_ACCOUNTS)
        assert sum(balances.values()) == 0
        assert [balances[name] for name in WALLET_ACCOUNTS] == [wallet.available_pico, wallet.held_pico]
        assert min(wallet.available_pico, wallet.held_pico) >= 0
        assert balances[REVENUE] + balances[ROUNDING] == model.charged
        assert balances[REVENUE] >= 0 <= balances[ROUNDING]
        assert balances[EXPIRED] == model.expired >= 0
        came_in = model.granted + model.owed
        assert came_in == wallet.available_pico + wallet.held_pico + model.charged + model.expired
        fold = self.fold
        accounts = set(fold.debits) | set(fold.credits)
        assert {name: fold.credits.get(name, 0) - fold.debits.get(name, 0) for name in accounts} == {
            name: balances[name] for name in accounts
        }
        assert RECEIVABLE not in balances or balances[RECEIVABLE] <= 0

    @invariant()
    def each_hold_is_resolved_once_at_most(self) -> None:
        assert all(times == 1 for times in self.resolved.values())
        assert set(self.resolved) == self.ended_by_expiry | self.settled_or_released

    @invariant()
    def a_charge_that_is_wholly_refunded_leaves_nothing(self) -> None:
        if all(sum(amount for _, amount in left) == 0 for left in self.model.charges.values()):
            assert self.balances[REVENUE] == self.balances[ROUNDING] == 0


TestWalletMachine = WalletMachine.TestCase
TestWalletMachine.settings = settings(max_examples=examples(25), stateful_step_count=50)
