"""The terms that an org is on at an instant: its subscription, the contract's version in force, and the plan."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tallystick.app.billing_terms import load_stored_contract
from tallystick.app.contracts import list_contracts
from tallystick.app.operate import existing_org
from tallystick.app.runtime import Runtime
from tallystick.contract.model import Contract, Plan
from tallystick.core.errors import NotFound
from tallystick.core.instants import format_instant
from tallystick.journal.contracts import version_in_force
from tallystick.journal.subscriptions import Subscription


@dataclass(frozen=True, slots=True)
class AccountTerms:
    """What holds for an org at `now`.

    Attributes:
        plan: the plan; one that the contract's version in force does not have is refused before.
    """

    org_id: str
    now: datetime
    subscription: Subscription
    contract: Contract
    plan: Plan


def account_terms(runtime: Runtime, org_id: str) -> AccountTerms:
    """The org's terms now.

    Raises:
        BadInput: the id cannot be one.
        NotFound: `unknown_org`; `no_plan_in_force`, when it is on no plan now, or on one that its contract has no more.
    """
    now = runtime.now(org_id)
    org = existing_org(runtime, org_id)
    held = org.subscription
    if held is None or held.plan is None:
        raise _no_plan(org_id, f"has no subscription in force at {format_instant(now)}")
    version = version_in_force(list_contracts(runtime, held.contract), now)
    if version is None:
        raise _no_plan(org_id, f"is on {held.contract}, of which no version is in force at {format_instant(now)}")
    contract = load_stored_contract(version)
    plan = contract.plans.get(held.plan)
    if plan is None:
        raise _no_plan(org_id, f"is on plan {held.plan!r}, which {contract.name}@{contract.version} does not have")
    return AccountTerms(org_id, now, held, contract, plan)


def _no_plan(org_id: str, detail: str) -> NotFound:
    return NotFound(
        "no_plan_in_force",
        f"{org_id} {detail}",
        next_step=f"put it on a plan: tally orgs set {org_id} --contract NAME --plan PLAN",
        where=org_id,
    )
