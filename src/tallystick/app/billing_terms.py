"""Whose month it is and under what: the period, and the contract version and plan that price it.

An org's months begin at midnight on the clocks of its time zone, which never changes, and one month's end is
the next one's beginning: months neither overlap nor leave a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache

from tallystick.contract.loader import load_contract
from tallystick.contract.model import Contract
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.instants import format_instant
from tallystick.core.periods import Period, month_period
from tallystick.invoice.build import Terms
from tallystick.journal.contracts import ContractVersion, version_in_force
from tallystick.journal.subscriptions import Subscription, subscription_in_force

Versions = Callable[[str], Sequence[ContractVersion]]
"""Gives every version of a contract by its name, ordered by the time from which it holds."""


def org_period(subscriptions: Sequence[Subscription], label: str) -> tuple[Period, str]:
    """The org's month and the time zone that it begins in. `subscriptions` is not empty.

    Raises:
        BadInput: `invalid_month`.
    """
    zone = subscriptions[0].time_zone
    return month_period(label, zone), zone


def choose_terms(org_id: str, label: str, subscriptions: Sequence[Subscription], versions: Versions) -> Terms:
    """Contract version and plan in force at the period's start, or at the first instant in it that has both.

    Raises:
        BadInput: `invalid_month`, or `no_contract_in_force`.
        NotFound: `no_subscription`, when the org has none that begins before the period ends.
    """
    month_period(label)  # an invalid month is the caller's mistake whoever the org is
    if not subscriptions:
        raise _no_subscription(org_id, label)
    period, zone = org_period(subscriptions, label)
    if all(one.effective_from >= period.end for one in subscriptions):
        raise _no_subscription(org_id, label)
    for instant in _instants(subscriptions, versions, period):
        held = subscription_in_force(subscriptions, instant)
        version = held and version_in_force(versions(held.contract), instant)
        if held and version:
            return Terms(
                org_id=org_id,
                period=period,
                time_zone=zone,
                contract=load_stored_contract(version),
                plan=held.plan,
                subscription=held.ordinal,
                subscriptions_known=len(subscriptions),
                in_force_at=instant,
            )
    contract = subscriptions[-1].contract
    raise BadInput(
        "no_contract_in_force",
        f"{org_id} is on contract {contract}, and no version of it is in force at any time in {label}",
        next_step=f"apply a version of {contract} that is effective before {format_instant(period.end)}",
        where=org_id,
    )


@lru_cache(maxsize=64)  # a month of many orgs is closed under few versions; the key holds the whole text
def load_stored_contract(version: ContractVersion) -> Contract:
    """The contract that was applied, read again from its text. It holds from `version.effective_from`.

    Raises:
        Problems: `invalid_contract`.
    """
    return load_contract(version.source_text, version.source_name)


def _instants(subscriptions: Sequence[Subscription], versions: Versions, period: Period) -> list[datetime]:
    """When terms may begin to hold in the period: at its start, and wherever a subscription or version begins."""
    later = {one.effective_from for one in subscriptions}
    for contract in {one.contract for one in subscriptions}:
        later |= {version.effective_from for version in versions(contract)}
    return [period.start, *sorted(instant for instant in later if instant in period and instant != period.start)]


def _no_subscription(org_id: str, label: str) -> NotFound:
    return NotFound(
        "no_subscription",
        f"{org_id} has no subscription that begins before {label} ends, so nothing says what it is charged",
        next_step=f"put it on a plan: tally orgs set {org_id} --contract NAME --plan PLAN --from TIME",
        where=org_id,
    )
