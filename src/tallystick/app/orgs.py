"""Orgs: which contract and plan each is on, from when, and on whose clocks its months begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.app.plan_change import ChangePreview, When
from tallystick.app.runtime import Runtime
from tallystick.app.subscribe import leave_org, preview_change, set_subscription
from tallystick.journal.listing import unknown_org
from tallystick.journal.subscriptions import (
    Subscription,
    last_seq,
    list_orgs,
    list_subscriptions,
    subscription_in_force,
)

__all__ = [
    "ChangePreview",
    "Org",
    "Subscription",
    "When",
    "all_orgs",
    "find_org",
    "leave_org",
    "orgs_on_plans",
    "preview_change",
    "set_subscription",
]


@dataclass(frozen=True, slots=True)
class Org:
    """An org: how many ledger entries it has, its subscription in force now (if any), and all it ever had."""

    org_id: str
    entries: int
    subscription: Subscription | None
    history: tuple[Subscription, ...]


def all_orgs(runtime: Runtime) -> list[Org]:
    """Every org that has sent an event or has a subscription, in order of id."""
    with runtime.database.operator() as connection:
        orgs = list_orgs(connection)
        history: dict[str, list[Subscription]] = {}
        for subscription in list_subscriptions(connection):
            history.setdefault(subscription.org_id, []).append(subscription)
    now = runtime.clock()
    return [
        Org(org_id, entries, subscription_in_force(history.get(org_id, ()), now), tuple(history.get(org_id, ())))
        for org_id, entries in orgs
    ]


def find_org(runtime: Runtime, org_id: str) -> Org:
    """One org.

    Raises:
        NotFound: `unknown_org`.
    """
    with runtime.database.org(org_id) as connection:
        entries = last_seq(connection, org_id)
        history = tuple(list_subscriptions(connection, org_id))
    if entries is None and not history:
        raise unknown_org(org_id)
    return Org(org_id, entries or 0, subscription_in_force(history, runtime.now(org_id)), history)


def orgs_on_plans(runtime: Runtime, contract: str, plans: Sequence[str]) -> dict[str, list[str]]:
    """By plan of the contract, the orgs that are on it now, in order of id."""
    found: dict[str, list[str]] = {plan: [] for plan in plans}
    for org in all_orgs(runtime):
        held = org.subscription
        if held is not None and held.contract == contract and held.plan in found:
            found[held.plan].append(org.org_id)
    return found
