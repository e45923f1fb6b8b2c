"""Orgs: which contract and plan each is on, from when, and on whose clocks its months begin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tallystick.app.billing_terms import load_stored_contract
from tallystick.app.contracts import list_contracts, unknown_contract
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.core.instants import format_instant
from tallystick.core.periods import load_zone
from tallystick.journal.contracts import version_in_force
from tallystick.journal.subscriptions import (
    Subscription,
    add_subscription,
    last_seq,
    list_orgs,
    list_subscriptions,
    lock_subscriptions,
    subscription_in_force,
)
from tallystick.usage.checks import check_text

__all__ = ["Org", "Subscription", "all_orgs", "find_org", "set_subscription"]


@dataclass(frozen=True, slots=True)
class Org:
    """An org: how many ledger entries it has, its subscription in force now (if any), and all it ever had."""

    org_id: str
    entries: int
    subscription: Subscription | None
    history: tuple[Subscription, ...]


def set_subscription(
    runtime: Runtime,
    org_id: str,
    *,
    contract: str,
    plan: str,
    time_zone: str | None = None,
    effective_from: datetime | None = None,
) -> Subscription:
    """Put an org on a plan; the same again changes nothing.

    Args:
        runtime: an open one.
        org_id: the customer; it need not have sent an event yet.
        contract: the name of an applied contract.
        plan: one of its plans, in the version in force at `effective_from`.
        time_zone: where the org's months begin, an IANA name; None for what the org has, else UTC.
        effective_from: from when; None for now.

    Raises:
        BadInput: `invalid_text`, `unknown_time_zone`, `contract_not_in_force` (it begins later).
        NotFound: `unknown_contract`, `unknown_plan`, listing those there are.
        Conflict: `time_zone_fixed`: months that begin on other clocks would bill some hours twice, or never.
    """
    check_text("org_id", org_id)
    begins = effective_from or runtime.clock()
    _check_plan(runtime, contract, plan, begins)
    if time_zone is not None:
        load_zone(time_zone, where="time_zone")
    with runtime.database.org(org_id) as connection:
        lock_subscriptions(connection, org_id)
        history = list_subscriptions(connection, org_id)
        zone = time_zone or (history[-1].time_zone if history else "UTC")
        if history and history[-1].time_zone != zone:
            raise Conflict(
                "time_zone_fixed",
                f"the months of {org_id} begin in {history[-1].time_zone}; moving them would bill some hours twice "
                "or never",
                next_step=f"leave the time zone out, or say {history[-1].time_zone}",
                where="time_zone",
            )
        if history and _says_the_same(history[-1], contract, plan, effective_from, begins):
            return history[-1]
        return add_subscription(
            connection,
            org_id=org_id,
            contract=contract,
            plan=plan,
            time_zone=zone,
            effective_from=begins,
            recorded_at=runtime.clock(),
        )


def _says_the_same(
    last: Subscription, contract: str, plan: str, effective_from: datetime | None, begins: datetime
) -> bool:
    in_time = last.effective_from <= begins if effective_from is None else last.effective_from == effective_from
    return in_time and (last.contract, last.plan) == (contract, plan)


def _check_plan(runtime: Runtime, contract: str, plan: str, at: datetime) -> None:
    versions = list_contracts(runtime, contract)
    if not versions:
        raise unknown_contract(runtime, contract)
    version = version_in_force(versions, at)
    if version is None:
        raise BadInput(
            "contract_not_in_force",
            f"{contract} holds from {format_instant(versions[0].effective_from)} only, not yet at {format_instant(at)}",
            next_step="let the subscription begin then or later",
            where="effective_from",
        )
    plans = load_stored_contract(version).plans
    if plan not in plans:
        raise NotFound(
            "unknown_plan",
            f"{contract}@{version.version} has no plan {plan!r}",
            next_step="name one of " + ", ".join(plans),
            where="plan",
        )


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
        raise NotFound(
            "unknown_org",
            f"there is no org {org_id!r}: it has neither an event nor a subscription",
            next_step="check the id; `tally orgs list` shows those there are",
        )
    return Org(org_id, entries or 0, subscription_in_force(history, runtime.clock()), history)
