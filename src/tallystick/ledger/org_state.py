"""Where an org stands for a decision: what the policy is told of its account."""

from __future__ import annotations

from datetime import datetime

from tallystick.contract.decision import BudgetUse, LimitUse, OrgState
from tallystick.contract.model import Contract
from tallystick.contract.windows import window_at
from tallystick.ledger.operations import Authorize
from tallystick.ledger.org_account import OrgAccount
from tallystick.ledger.reservations import meter_counter, windowed


def org_state(
    account: OrgAccount,
    now: datetime,
    request: Authorize,
    user_id: str | None,
    contract: Contract,
    plan: str | None,
    zone: str,
) -> OrgState:
    """Where the org stands at `now`, as far as the request asks for it.

    Args:
        account: swept at `now`.
        user_id: who asks; None when that is not said.
        contract, plan, zone: the org's terms at `now`, and on whose clocks its windows begin.
    """
    terms, wallet = account.terms, account.wallet
    done = None
    if request.action is not None and request.work_key is not None:
        done = account.finished.get((request.action, request.work_key))
    return OrgState(
        now=now,
        suspended=terms.suspended,
        available_pico=wallet.available_pico,
        held_pico=wallet.held_pico,
        limits=limit_uses(account, contract, plan, zone, now),
        budgets=budget_uses(account, request, user_id, zone, now) if terms.budgets else (),
        overrides=tuple([one for one in terms.overrides.values() if one.expires_at > now]) if terms.overrides else (),
        next_grant_at=next_grant_at(contract, plan, zone, now),
        finished_at=None if done is None else done.charged_at,
        enforcement=terms.enforcement,
    )


def next_grant_at(contract: Contract, plan: str | None, zone: str, now: datetime) -> datetime | None:
    """When the plan's included credits come next: as the next month begins on the org's clocks; None where none do."""
    terms = contract.plans.get(plan or "")
    if terms is None or not terms.included_credits:
        return None
    return window_at("month", zone, now).ends_at


def limit_uses(
    account: OrgAccount, contract: Contract, plan: str | None, zone: str, now: datetime
) -> tuple[LimitUse, ...]:
    """How far each limit of the plan is used; none for an org that is on no plan."""
    terms = contract.plans.get(plan or "")
    if terms is None or not terms.limits:
        return ()
    uses, used, reserved = [], account.used, account.reserved
    for index, limit in enumerate(terms.limits):
        window = window_at(limit.per, zone, now)
        counters = [meter_counter(meter) for meter in limit.meters]
        uses.append(
            LimitUse(
                index=index,
                used=sum([used.get((windowed(limit.per, counter), window.starts_at), 0) for counter in counters]),
                held=sum([reserved.get(counter, 0) for counter in counters]),
                starts_at=window.starts_at,
                resets_at=window.ends_at,
            )
        )
    return tuple(uses)


def budget_uses(
    account: OrgAccount, request: Authorize, user_id: str | None, zone: str, now: datetime
) -> tuple[BudgetUse, ...]:
    """How far each budget that the request falls under is spent."""
    uses = []
    for budget, counter in account.applying(request, user_id):
        window = window_at(budget.per, zone, now)
        uses.append(
            BudgetUse(
                budget=budget,
                used_pico=account.used.get((windowed(budget.per, counter), window.starts_at), 0),
                held_pico=account.reserved.get(counter, 0),
                starts_at=window.starts_at,
                resets_at=window.ends_at,
            )
        )
    return tuple(uses)
