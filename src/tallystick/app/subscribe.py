"""Putting orgs on plans and taking them off: each change is a record of its own, and nothing is ever taken back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from tallystick.app.audit import Act, record_act
from tallystick.app.billing_terms import load_stored_contract
from tallystick.app.contracts import list_contracts, unknown_contract
from tallystick.app.plan_change import (
    ChangePreview,
    Direction,
    When,
    change_begins,
    direction_of,
    preview_of,
    rows_of_change,
)
from tallystick.app.runtime import Runtime
from tallystick.contract.model import Plan
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.core.instants import format_instant
from tallystick.core.money import format_decimal
from tallystick.core.periods import load_zone
from tallystick.journal.contracts import ContractVersion, version_in_force
from tallystick.journal.database import Connection
from tallystick.journal.listing import require_known
from tallystick.journal.subscriptions import (
    Subscription,
    add_subscription,
    list_subscriptions,
    lock_subscriptions,
    subscription_in_force,
)
from tallystick.usage.event_problems import check_text


def set_subscription(
    runtime: Runtime,
    org_id: str,
    *,
    contract: str,
    plan: str,
    time_zone: str | None = None,
    effective_from: datetime | None = None,
    when: When | None = None,
) -> Subscription:
    """Put an org on a plan; the same again changes nothing.

    Without `effective_from` the change takes the place of every other that was recorded for later.

    Args:
        runtime: an open one.
        org_id: the customer; it need not have sent an event yet.
        contract: the name of an applied contract.
        plan: one of its plans, in the version in force when the change begins.
        time_zone: where the org's months begin, an IANA name; None for what the org has, else UTC.
        effective_from: from when, to the instant.
        when: `now`, or `period_end`, the end of the org's present month. With neither: now, unless the plan's base fee
            is lower than that of the plan in force: a downgrade holds from the period's end on.

    Returns:
        The subscription that puts the org on the plan from then on.

    Raises:
        BadInput: `invalid_text`, `unknown_time_zone`, `contract_not_in_force` (it begins later), `ambiguous_start`
            (both `effective_from` and `when`).
        NotFound: `unknown_contract`, `unknown_plan`, listing those there are.
        Conflict: `time_zone_fixed`: months that begin on other clocks would bill some hours twice, or never.
    """
    _check_start(effective_from, when)
    contracts = _contracts(runtime, contract)
    with _changing(runtime, org_id, time_zone) as (connection, history, zone):
        change = _plan_change(runtime, org_id, contracts, history, contract, plan, zone, effective_from, when)
        recorded = _record(runtime, connection, org_id, history, zone, change)
    if recorded is None:  # it was put on a plan a moment ago
        raise LookupError(org_id)
    return recorded


def leave_org(
    runtime: Runtime, org_id: str, *, at: datetime | None = None, when: When | None = None
) -> Subscription | None:
    """End an org's subscription; what was recorded for later goes with it. It pays to the last day that it began.

    Args:
        runtime: an open one.
        org_id: the customer.
        at: when, to the instant.
        when: `now`, or `period_end`; with neither, the end of the org's present month.

    Returns:
        The record of it; None when there is none, because the org was on no plan then anyway.

    Raises:
        BadInput: `ambiguous_start`.
        NotFound: `unknown_org`; `no_subscription`: it was never on a plan.
    """
    _check_start(at, when)
    with _changing(runtime, org_id, None) as (connection, history, zone):
        if not history:
            require_known(connection, org_id)
        change = _leaving(runtime, org_id, history, zone, at, when)
        return _record(runtime, connection, org_id, history, zone, change)


def preview_change(
    runtime: Runtime,
    org_id: str,
    *,
    contract: str,
    plan: str,
    time_zone: str | None = None,
    effective_from: datetime | None = None,
    when: When | None = None,
) -> ChangePreview:
    """What putting the org on the plan would cost in the month in which it begins; nothing is recorded.

    Raises:
        BadInput, NotFound, Conflict: what `set_subscription` and previewing an invoice raise.
    """
    _check_start(effective_from, when)
    contracts = _contracts(runtime, contract)
    with _changing(runtime, org_id, time_zone) as (_, history, zone):
        change = _plan_change(runtime, org_id, contracts, history, contract, plan, zone, effective_from, when)
    instants = rows_of_change(history, contract, plan, change.begins, replaces_later=change.replaces_later)
    added = [
        Subscription(org_id, len(history) + place, contract, plan, zone, instant, change.begins)
        for place, instant in enumerate(instants, start=1)
    ]
    base = format_decimal(change.base_usd)
    return preview_of(runtime, org_id, history, added, change.direction, change.begins, base)


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of plan: to which, from when on, and whether it takes the place of those recorded for later."""

    contract: str
    plan: str | None
    direction: Direction
    begins: datetime
    replaces_later: bool
    base_usd: Fraction


def _contracts(runtime: Runtime, wanted: str) -> dict[str, list[ContractVersion]]:
    """The versions of each contract, by the time from which they hold; the wanted one is among them."""
    found: dict[str, list[ContractVersion]] = {}
    for version in list_contracts(runtime):
        found.setdefault(version.contract, []).append(version)
    if wanted not in found:
        raise unknown_contract(runtime, wanted)
    return found


@contextmanager
def _changing(
    runtime: Runtime, org_id: str, time_zone: str | None
) -> Iterator[tuple[Connection, list[Subscription], str]]:
    """The org's subscriptions, while nobody else can add any, and the time zone of its months."""
    check_text("org_id", org_id)
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
        yield connection, history, zone


def _plan_change(
    runtime: Runtime,
    org_id: str,
    contracts: Mapping[str, Sequence[ContractVersion]],
    history: Sequence[Subscription],
    contract: str,
    plan: str,
    zone: str,
    effective_from: datetime | None,
    when: When | None,
) -> _Change:
    versions = contracts[contract]
    now = runtime.now(org_id)
    held = subscription_in_force(history, now)
    new_base = _base(versions, plan, max(now, versions[0].effective_from))
    old_base = Fraction(0)
    if held is not None and held.plan is not None:
        old_base = _base(contracts[held.contract], held.plan, now) or old_base
    direction = direction_of(held, plan, old_base, new_base or Fraction(0))
    begins = effective_from or change_begins(direction, when, zone, now)
    found = _find_plan(versions, contract, plan, begins)
    return _Change(contract, plan, direction, begins, effective_from is None, found.base_usd)


def _leaving(
    runtime: Runtime,
    org_id: str,
    history: Sequence[Subscription],
    zone: str,
    at: datetime | None,
    when: When | None,
) -> _Change:
    if not history:
        raise NotFound(
            "no_subscription",
            f"{org_id} was never on a plan",
            next_step=f"there is nothing to end; see it with `tally orgs show {org_id}`",
            where="org_id",
        )
    now = runtime.now(org_id)
    begins = at or change_begins("leave", when, zone, now)
    held = subscription_in_force(history, begins) or history[-1]
    return _Change(held.contract, None, "leave", begins, True, Fraction(0))


def _record(
    runtime: Runtime,
    connection: Connection,
    org_id: str,
    history: Sequence[Subscription],
    zone: str,
    change: _Change,
) -> Subscription | None:
    """Append what the change needs; the subscription by which it holds when it begins."""
    last = history[-1] if history else None
    if last is not None and not change.replaces_later and _says_the_same(last, change):
        return last
    instants = rows_of_change(
        history, change.contract, change.plan, change.begins, replaces_later=change.replaces_later
    )
    if not change.replaces_later:
        instants = [change.begins]  # said for an instant: it is recorded, whatever holds then
    recorded_at = runtime.now(org_id)
    added = [
        add_subscription(
            connection,
            org_id=org_id,
            contract=change.contract,
            plan=change.plan,
            time_zone=zone,
            effective_from=instant,
            recorded_at=recorded_at,
        )
        for instant in instants
    ]
    if added:
        held = subscription_in_force(history, change.begins)
        act = Act(
            "subscription.leave" if change.plan is None else "subscription.set",
            change.contract if change.plan is None else f"{change.contract}/{change.plan}",
            runtime.clock(),
            org_id,
            before=None if held is None else _told(held),
            after={"changes": [_told(one) for one in added]},
        )
        record_act(connection, act)
    return subscription_in_force([*history, *added], change.begins)


def _told(one: Subscription) -> dict[str, Any]:
    return {
        "contract": one.contract,
        "plan": one.plan,
        "time_zone": one.time_zone,
        "effective_from": format_instant(one.effective_from),
    }


def _says_the_same(last: Subscription, change: _Change) -> bool:
    return (last.effective_from, last.contract, last.plan) == (change.begins, change.contract, change.plan)


def _check_start(at: datetime | None, when: When | None) -> None:
    if at is not None and when is not None:
        raise BadInput(
            "ambiguous_start",
            f"the change is to begin at {format_instant(at)} and also {when}",
            next_step="say one of the two",
            where="when",
        )


def _base(versions: Sequence[ContractVersion], plan: str, at: datetime) -> Fraction | None:
    """The plan's base fee in the version in force at the instant; None where there is no such plan."""
    version = version_in_force(versions, at)
    found = None if version is None else load_stored_contract(version).plans.get(plan)
    return None if found is None else found.base_usd


def _find_plan(versions: Sequence[ContractVersion], contract: str, plan: str, at: datetime) -> Plan:
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
            f"{contract}@{version.version} has no plan {plan!r:.80}",
            next_step="name one of " + ", ".join(plans),
            where="plan",
        )
    return plans[plan]
