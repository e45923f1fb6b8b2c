"""What an org has used of its limits and spent of its budgets: sums over its entries, by window of time.

A request is not counted when it is authorized but when its usage is an entry, however that came in. Each org has a
cursor, `counted_through_seq`: at a decision, under the lock of the org's head, the entries above it are added to the
counters of the windows that they fall in, by the time of their events, in the org's time zone. So plain appending of
events does nothing for it, and the decision that comes next sees them all.

    counters of a window   exact for all entries up to the cursor, for every meter and spender that the plan's limits
                           and the org's budgets look at; one that is not there is nothing
    what is counted        is said by `Counting.signature` and kept in `Progress`. When the plan, its contract or the
                           budgets change, or a window is over, the windows concerned are counted anew, from the
                           entries, which are the truth

Entries above the cursor are added up by the database, however many there are; those of the group itself in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple, get_args

import msgspec

from tallystick.contract.charging import unit_charges, usage_charge_pico
from tallystick.contract.decision import Budget
from tallystick.contract.model import Contract, LimitWindow, Plan
from tallystick.contract.windows import Window, window_at
from tallystick.core.struct_types import work_out
from tallystick.journal.operations_script import Script, instants_or_none, numbers_or_none
from tallystick.journal.round_trips import instants, numbers, texts
from tallystick.ledger.budget_index import BudgetIndex
from tallystick.ledger.entry import instant_json
from tallystick.ledger.org_account import OrgAccount
from tallystick.ledger.reservations import meter_counter, spending_counter, windowed
from tallystick.usage.event import UsageEvent

_PERS: tuple[LimitWindow, ...] = get_args(LimitWindow)


class Progress(msgspec.Struct, omit_defaults=True):
    """How far the account is kept, besides its cursor: `org_states.progress`.

    Attributes:
        counted: the signature of what the counters are of.
        starts: by the length of windows, the start of the one that is counted.
        included: the last month that included credits were given for, such as `2026-11`.
        at: the latest instant at which an operation of the org is recorded; see `Wallet.latest`.
    """

    counted: str = ""
    starts: dict[str, datetime] = {}
    included: str | None = None
    at: datetime | None = None


work_out(Progress)


class Rule(NamedTuple):
    """What is counted in windows of one length: these meters, and spending such as `cost:user`."""

    per: LimitWindow
    meters: frozenset[str]
    spends: frozenset[str]


class Counting(NamedTuple):
    """What is counted for orgs on the same plan with the same budgets; it is worked out once and kept."""

    rules: tuple[Rule, ...]
    plan: Plan | None
    uncharged: frozenset[str]
    zone: str
    signature: str


@lru_cache(maxsize=4096)
def counting_of(
    contract: Contract, plan_name: str | None, looked_at: frozenset[tuple[LimitWindow, str]], zone: str
) -> Counting:
    """What the plan's limits and the budgets look at: the latter as `BudgetIndex.spends` says."""
    plan = None if plan_name is None else contract.plans.get(plan_name)
    meters: dict[str, set[str]] = {}
    spends: dict[str, set[str]] = {}
    for limit in () if plan is None else plan.limits:
        meters.setdefault(limit.per, set()).update(limit.meters)
    for per, spend in looked_at:
        spends.setdefault(per, set()).add(spend)
    rules = tuple(
        Rule(per, frozenset(meters.get(per, ())), frozenset(spends.get(per, ())))
        for per in _PERS
        if per in meters or per in spends
    )
    uncharged = frozenset(name for name, terms in contract.environments.items() if not terms.charge)
    said = [[rule.per, sorted(rule.meters), sorted(rule.spends)] for rule in rules]
    prices = _rates(plan) if any("charge:" in spend for rule in rules for spend in rule.spends) else None
    text = json.dumps([said, sorted(uncharged), zone, prices])
    signature = hashlib.sha256(text.encode()).hexdigest()[:32] if rules else ""
    return Counting(rules, plan, uncharged, zone, signature)


def _rates(plan: Plan | None) -> tuple[str, str]:
    """What usage counts towards budgets of charges: by meter pico-USD a unit, or a share [n, d] of our cost."""
    charges = {} if plan is None else unit_charges(plan)
    rates = {meter: rate for meter, rate in charges.items() if isinstance(rate, int)}
    shares = {
        meter: [(1 + rate).numerator, (1 + rate).denominator]
        for meter, rate in charges.items()
        if isinstance(rate, Fraction)
    }
    return json.dumps(rates, sort_keys=True), json.dumps(shares, sort_keys=True)


class OrgCounters:
    """The counters of one org within one transaction.

    Attributes:
        windows: the present ones of what is counted.
        added: by counter and start of its window, what entries of this transaction add.
    """

    __slots__ = ("_names", "added", "counting", "org_id", "windows")

    def __init__(self, org_id: str, counting: Counting, now: datetime) -> None:
        self.org_id = org_id
        self.counting = counting
        self.windows: dict[str, Window] = {rule.per: window_at(rule.per, counting.zone, now) for rule in counting.rules}
        self.added: dict[tuple[str, datetime], int] = {}
        self._names: dict[tuple[str, datetime | None], None] = {}
        for rule in counting.rules:
            counters, start = [meter_counter(meter) for meter in rule.meters], self.windows[rule.per].starts_at
            self._names |= {(windowed(rule.per, counter), start): None for counter in counters}
            self._names |= {(counter, None): None for counter in counters}

    def stale(self, progress: Progress) -> list[Rule]:
        """What is to be counted anew: the windows of another time, or all when what is counted has changed."""
        if progress.counted != self.counting.signature:
            return list(self.counting.rules)
        return [
            rule for rule in self.counting.rules if progress.starts.get(rule.per) != self.windows[rule.per].starts_at
        ]

    def names(self, spenders: Iterable[tuple[Budget, str]] = ()) -> list[tuple[str, datetime | None]]:
        """The counters that decisions look at: those of the limits, and those of budgets with their counters."""
        found = dict(self._names)
        for budget, counter in spenders:
            found[windowed(budget.per, counter), self.windows[budget.per].starts_at] = None
            found[counter, None] = None
        return list(found)

    def add_usage(self, account: OrgAccount, event: UsageEvent, our_cost_pico: int) -> None:
        """An event of this transaction has become an entry."""
        for rule in self.counting.rules:
            window = self.windows[rule.per]
            if not window.starts_at <= event.time < window.ends_at:
                continue
            billed = event.environment not in self.counting.uncharged
            if billed:
                for meter, quantity in event.meters.items():
                    if quantity and meter in rule.meters:
                        self._add(account, windowed(rule.per, meter_counter(meter)), window, quantity)
            if rule.spends:
                spender = (event.user_id, event.api_key_id, event.feature)
                self._spend(account, rule, window, "cost", our_cost_pico, spender)
                plan = self.counting.plan
                if billed and plan is not None and plan.prices:
                    charge_pico = usage_charge_pico(plan, event.meters, our_cost_pico)
                    self._spend(account, rule, window, "charge", charge_pico, spender)

    def add_charge(self, account: OrgAccount, now: datetime, charge_pico: int, spender: tuple[Any, Any, Any]) -> None:
        """A settlement of this transaction has charged credits worth so many pico-USD; whose work it was."""
        for rule in self.counting.rules:
            window = self.windows[rule.per]
            if rule.spends and window.starts_at <= now < window.ends_at:
                self._spend(account, rule, window, "charge", charge_pico, spender)

    def _spend(
        self, account: OrgAccount, rule: Rule, window: Window, of: Any, pico: int, spender: tuple[Any, Any, Any]
    ) -> None:
        if not pico:
            return
        subjects: Mapping[Any, str | None] = {
            "org": "", "user": spender[0], "api_key": spender[1], "feature": spender[2],
        }  # fmt: skip
        for scope, subject in subjects.items():
            if subject is not None and f"{of}:{scope}" in rule.spends:
                self._add(account, windowed(rule.per, spending_counter(of, scope, subject)), window, pico)

    def _add(self, account: OrgAccount, counter: str, window: Window, amount: int) -> None:
        key = (counter, window.starts_at)
        self.added[key] = self.added.get(key, 0) + amount
        account.used[key] = account.used.get(key, 0) + amount


def counters_of(
    org_id: str, contract: Contract | None, plan: str | None, zone: str | None, budgets: BudgetIndex, now: datetime
) -> OrgCounters | None:
    """What is counted for an org under these terms; None where no terms say."""
    if contract is None or zone is None:
        return None
    return OrgCounters(org_id, counting_of(contract, plan, budgets.spends, zone), now)


class Backlog(NamedTuple):
    """What is to be added to counters from entries: of windows anew, of others what came above the cursor."""

    counters: OrgCounters
    anew: list[Rule]
    counted_through_seq: int
    last_seq: int
    forget_all: bool

    @property
    def entries_max(self) -> int:
        """How many entries that may have to be looked at."""
        return self.last_seq if self.forget_all else self.last_seq - self.counted_through_seq


def catch_up(script: Script, backlogs: Iterable[Backlog]) -> None:
    """Bring the counters of orgs up to where their entries stand."""
    forgotten: list[tuple[str, str]] = []
    tasks = []
    for backlog in backlogs:
        counters = backlog.counters
        org_id, counting = counters.org_id, counters.counting
        forgotten += [(org_id, per) for per in (_PERS if backlog.forget_all else [rule.per for rule in backlog.anew])]
        rates, shares = _rates(counting.plan)
        for rule in counting.rules:
            is_new = rule in backlog.anew
            if not is_new and backlog.counted_through_seq >= backlog.last_seq:
                continue
            lists = ["\n".join(sorted(names)) for names in (counting.uncharged, rule.meters, rule.spends)]
            after = None if is_new else backlog.counted_through_seq
            tasks.append((org_id, rule.per, counters.windows[rule.per], after, backlog.last_seq, *lists, rates, shares))
    if forgotten:
        orgs, pers = zip(*forgotten, strict=True)
        script.call("forget_windows", texts(orgs), texts(pers))
    if tasks:
        orgs, pers, windows, after_seqs, last_seqs, *rest = zip(*tasks, strict=True)
        script.call(
            "fold_counters",
            texts(orgs),
            texts(pers),
            instants([instant_json(window.starts_at) for window in windows]),
            instants([instant_json(window.ends_at) for window in windows]),
            numbers_or_none(after_seqs),
            numbers(last_seqs),
            *map(texts, rest),
        )


def load_counters(script: Script, names: list[tuple[str, str, datetime | None]]) -> None:
    """Ask for counters by (org, counter, start of its window); the same is found, with what each has."""
    orgs, counters, starts = zip(*names, strict=True)
    script.call("load_counters", texts(orgs), texts(counters), instants_or_none(starts))
