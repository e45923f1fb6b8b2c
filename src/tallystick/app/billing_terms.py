"""Whose month it is and under what: the period, and the contract versions and plans that price it.

An org's months begin at midnight on the clocks of its time zone, which never changes, and one month's end is
the next one's beginning: months neither overlap nor leave a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from tallystick.contract.loader import load_contract
from tallystick.contract.model import Contract
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.instants import format_instant
from tallystick.core.periods import Period, month_period
from tallystick.invoice.terms import Holding, Terms, make_terms
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
    """The plans of the month, from when until when each, and the contract versions that price them.

    A version that is in force when a plan begins, or when the month does, holds for as long as that plan stays in
    force in the month; where a contract has none then, its first one that comes in that time.

    Raises:
        BadInput: `invalid_month`, `unknown_plan`, or `no_contract_in_force`.
        NotFound: `no_subscription`, when the org is on no plan at any time in the month.
    """
    month_period(label)  # an invalid month is the caller's mistake whoever the org is
    if not subscriptions:
        raise _no_subscription(org_id, label)
    period, zone = org_period(subscriptions, label)
    planned = plans_of(subscriptions, period)
    if not planned:
        raise _no_subscription(org_id, label)
    holdings = [found for one in planned if (found := _holding(one, versions(one.contract))) is not None]
    if not holdings:
        contract = planned[-1].contract
        raise BadInput(
            "no_contract_in_force",
            f"{org_id} is on contract {contract}, and no version of it is in force at any time in {label}",
            next_step=f"apply a version of {contract} that is effective before {format_instant(period.end)}",
            where=org_id,
        )
    return make_terms(org_id, period, zone, holdings, len(subscriptions))


class Planned(NamedTuple):
    """A half-open time [start, end) of a month in which the org was on one plan, by which of its subscriptions."""

    start: datetime
    end: datetime
    contract: str
    plan: str
    subscription: int


def plans_of(subscriptions: Sequence[Subscription], period: Period) -> list[Planned]:
    """The times of the month in which the org was on a plan, in order; the same plan again goes on."""
    later = {one.effective_from for one in subscriptions if one.effective_from in period} - {period.start}
    begins = [period.start, *sorted(later)]
    found: list[Planned] = []
    for start, end in zip(begins, [*begins[1:], period.end], strict=True):
        held = subscription_in_force(subscriptions, start)
        if held is None or held.plan is None:
            continue
        last = found[-1] if found else None
        if last is not None and (last.end, last.contract, last.plan) == (start, held.contract, held.plan):
            found[-1] = last._replace(end=end)
        else:
            found.append(Planned(start, end, held.contract, held.plan, held.ordinal))
    return found


def _holding(planned: Planned, versions: Sequence[ContractVersion]) -> Holding | None:
    """The version of its contract that prices that time; None when there is none in all of it."""
    start, end, _, plan, subscription = planned
    version = version_in_force(versions, start)
    if version is None:
        later = [one for one in versions if start < one.effective_from < end]
        if not later:
            return None
        version = min(later, key=lambda one: one.effective_from)
        start = version.effective_from
    return Holding(start, end, load_stored_contract(version), plan, subscription)


@lru_cache(maxsize=64)  # a month of many orgs is closed under few versions; the key holds the whole text
def load_stored_contract(version: ContractVersion) -> Contract:
    """The contract that was applied, read again from its text. It holds from `version.effective_from`.

    Raises:
        Problems: `invalid_contract`.
    """
    return load_contract(version.source_text, version.source_name)


def _no_subscription(org_id: str, label: str) -> NotFound:
    return NotFound(
        "no_subscription",
        f"{org_id} is on no plan at any time in {label}, so nothing says what it is charged",
        next_step=f"put it on a plan: tally orgs set {org_id} --contract NAME --plan PLAN --from TIME",
        where=org_id,
    )
