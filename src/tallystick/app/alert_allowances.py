"""Evidence of limits and budgets: how far each is used, of all orgs at once.

Counters are brought up first where usage came in since the last decision, as before a decision: an org that only sends
events is told as one that asks is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from fractions import Fraction
from typing import NamedTuple

import msgspec

from tallystick.alerts.allowances import WINDOWS, Allowance, allowance_condition
from tallystick.alerts.model import Condition
from tallystick.alerts.preferences import Preferences
from tallystick.app.billing_terms import load_stored_contract
from tallystick.app.hold_expiry import ORGS_AT_ONCE, keep_up_all
from tallystick.app.runtime import Runtime
from tallystick.contract.decision import Budget, OrgState, Request
from tallystick.contract.model import Contract, Plan
from tallystick.contract.policy_limits import look_at_limits
from tallystick.contract.policy_terms import terms_of
from tallystick.contract.windows import Window, window_at
from tallystick.journal.alert_evidence import TermsRow, View, counters_used, most_spent, terms_in_force
from tallystick.journal.contracts import ContractVersion, list_contract_versions, version_in_force
from tallystick.journal.counters import Progress
from tallystick.ledger.org_account import OrgAccount, OrgTerms
from tallystick.ledger.org_state import limit_uses, next_grant_at
from tallystick.ledger.reservations import meter_counter, spending_counter, windowed

Wanted = Callable[[str | None], Preferences]
_read_terms = msgspec.json.Decoder(OrgTerms).decode
_read_progress = msgspec.json.Decoder(Progress).decode
_ALL = Fraction(1)


class OnPlan(NamedTuple):
    """An org on a plan, and what is counted of it.

    Attributes:
        windows: by length, the present ones of its limits and budgets.
        counters: those that limits and budgets look at, each with its window's start.
        each: the beginnings of names of those that budgets look at that are for each by itself.
    """

    row: TermsRow
    contract: Contract
    plan: Plan
    said: OrgTerms
    windows: dict[str, Window]
    counters: list[tuple[str, datetime]]
    each: list[tuple[str, datetime]]

    def is_behind(self) -> bool:
        """Whether there are entries that are in no counter yet, or windows that are not the ones counted."""
        if self.row.counted_through_seq < self.row.last_seq:
            return True
        starts = _read_progress(self.row.progress).starts
        return bool(self.row.last_seq) and any(
            starts.get(per) != window.starts_at for per, window in self.windows.items()
        )


def orgs_on_plans(runtime: Runtime, view: View) -> list[OnPlan]:
    """Every org on a plan that its contract has."""
    with runtime.database.operator() as connection:
        rows = terms_in_force(connection, view)
        versions = list_contract_versions(connection)
    contracts = _Contracts(versions)
    found = []
    for row in rows:
        contract = contracts.at(row.contract, row.now)
        plan = None if contract is None else contract.plans.get(row.plan)
        if contract is not None and plan is not None:
            found.append(_on_plan(row, contract, plan))
    return found


def refills(orgs: Iterable[OnPlan]) -> dict[str, datetime | None]:
    """Of orgs with a wallet, when their plan's next credits come in."""
    return {
        one.row.org_id: next_grant_at(one.contract, one.plan.name, one.row.time_zone, one.row.now)
        for one in orgs
        if one.plan.has_wallet
    }


def used_allowances(runtime: Runtime, view: View, wanted: Wanted, orgs: list[OnPlan]) -> list[Condition]:
    """Limits and budgets that are used up to a level.

    Raises:
        Unavailable: `journal_busy`, `database_unreachable`.
    """
    counted = [one for one in orgs if one.counters or one.each]
    behind = [one.row.org_id for one in counted if one.is_behind()]
    for place in range(0, len(behind), ORGS_AT_ONCE):
        keep_up_all(runtime, behind[place : place + ORGS_AT_ONCE])
    with runtime.database.operator() as connection:
        used = counters_used(connection, ((one.row.org_id, *name) for one in counted for name in one.counters))
        most = most_spent(connection, ((one.row.org_id, *name) for one in counted for name in one.each))
    by_org: dict[str, dict[tuple[str, datetime], int]] = {}
    for (org_id, counter, start), amount in used.items():
        by_org.setdefault(org_id, {})[counter, start] = amount
    found = []
    for one in counted:
        org_id = one.row.org_id
        account = OrgAccount(terms=one.said, used=by_org.get(org_id, {}))
        is_test, preferences = org_id in view.clocks, wanted(org_id)
        allowances = [*_limits(one, account, preferences), *_budgets(one, account, most, preferences)]
        found += [allowance_condition(each._replace(is_test=is_test)) for each in allowances]
    return [one for one in found if one is not None]


def _limits(one: OnPlan, account: OrgAccount, wanted: Preferences) -> Iterator[Allowance]:
    row = one.row
    if not any(limit.per in WINDOWS for limit in one.plan.limits):
        return
    overrides = tuple(each for each in one.said.overrides.values() if each.expires_at > row.now)
    uses = limit_uses(account, one.contract, one.plan.name, row.time_zone, row.now)
    state = OrgState(now=row.now, limits=uses, overrides=overrides)
    # A request that names no meters has every limit looked at.
    looked = look_at_limits(terms_of(one.contract, one.plan.name), state, _ANY)
    for use, seen, limit in zip(uses, looked.all, one.plan.limits, strict=True):
        if limit.per in WINDOWS:
            levels = tuple(sorted({*limit.warn_at, _ALL})) if limit.warn_at else wanted.limit_levels
            yield Allowance(
                row.org_id, "limit", seen.name, limit.per, limit.kind, seen.used, seen.max, use.starts_at,
                use.resets_at, levels,
            )  # fmt: skip


def _budgets(
    one: OnPlan, account: OrgAccount, most: dict[tuple[str, str], int], wanted: Preferences
) -> Iterator[Allowance]:
    for _, budget in sorted(one.said.budgets.items()):
        window = one.windows[budget.per]
        name = _spending(budget)
        if _is_for_each(budget):
            used, each = most.get((one.row.org_id, name), 0), budget.scope
        else:
            used, each = account.used.get((name, window.starts_at), 0), None
        yield Allowance(
            one.row.org_id, "budget", budget.name, budget.per, budget.kind, used, budget.max_pico, window.starts_at,
            window.ends_at, wanted.budget_levels, each,
        )  # fmt: skip


_ANY = Request(feature="", environment="", user_id="")


def _on_plan(row: TermsRow, contract: Contract, plan: Plan) -> OnPlan:
    said = OrgTerms() if row.state == "{}" else _read_terms(row.state)
    limits = [limit for limit in plan.limits if limit.per in WINDOWS]
    pers = {limit.per for limit in limits} | {budget.per for budget in said.budgets.values()}
    windows: dict[str, Window] = {per: window_at(per, row.time_zone, row.now) for per in pers}
    counters = [
        (windowed(limit.per, meter_counter(meter)), windows[limit.per].starts_at)
        for limit in limits
        for meter in limit.meters
    ]
    each = list[tuple[str, datetime]]()
    for budget in said.budgets.values():
        name = (_spending(budget), windows[budget.per].starts_at)
        (each if _is_for_each(budget) else counters).append(name)
    return OnPlan(row, contract, plan, said, windows, list(dict.fromkeys(counters)), each)


def _is_for_each(budget: Budget) -> bool:
    return budget.scope != "org" and budget.subject is None


def _spending(budget: Budget) -> str:
    """The counter, or of a budget that is for each by itself the beginning of their names."""
    return windowed(
        budget.per, spending_counter(budget.of, budget.scope, "" if _is_for_each(budget) else budget.subject)
    )


class _Contracts:
    """Contracts in force, each version read once."""

    def __init__(self, versions: list[ContractVersion]) -> None:
        self._versions: dict[str, list[ContractVersion]] = {}
        for version in versions:
            self._versions.setdefault(version.contract, []).append(version)
        self._found: dict[tuple[str, datetime], Contract | None] = {}

    def at(self, name: str, instant: datetime) -> Contract | None:
        """The version in force at an instant."""
        key = (name, instant)
        if key not in self._found:
            version = version_in_force(self._versions.get(name, ()), instant)
            self._found[key] = None if version is None else load_stored_contract(version)
        return self._found[key]
