"""The credits that plans include: a grant for each org and month, from the month's beginning on its clocks to its end.

It is given before the first decision of the month, and by a loop to orgs that nobody asks for. Its request id is
`included:2026-11`, so that there is one for each org and month, whoever gives it and however often it is tried; an org
that changes its plan within a month keeps what it was given, and has what the new plan includes from the next one on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache

from tallystick.app.billing_terms import load_stored_contract
from tallystick.app.hold_expiry import keep_up_all
from tallystick.app.runtime import Runtime
from tallystick.contract.model import Contract
from tallystick.contract.windows import window_at
from tallystick.core.periods import load_zone
from tallystick.journal.contracts import ContractVersion, list_contract_versions, version_in_force
from tallystick.journal.operations_due import subscribed_orgs

ORGS_AT_ONCE = 500


def give_included(runtime: Runtime) -> int:
    """Give this month's included credits to every org that has not got them: how many entries that made.

    Raises:
        Unavailable: `journal_busy`, `database_unreachable`, …; what was given until then stays so.
    """
    return sum(keep_up_all(runtime, orgs) for orgs in _lacking(runtime))


def _lacking(runtime: Runtime) -> Iterator[list[str]]:
    """Orgs that lack this month's, some at a time."""
    now, after = runtime.clock(), ""
    with runtime.database.operator() as connection:
        versions = list_contract_versions(connection)
    contracts = _in_force(versions, now)
    while True:
        with runtime.database.operator() as connection:
            orgs = subscribed_orgs(connection, now, after=after, limit=ORGS_AT_ONCE)
        if not orgs:
            return
        after = orgs[-1].org_id
        lacking = []
        for org in orgs:
            contract = contracts.get(org.contract)
            plan = None if contract is None or org.plan is None else contract.plans.get(org.plan)
            if plan is not None and plan.included_credits and org.included != _month(org.time_zone, now):
                lacking.append(org.org_id)
        if lacking:
            yield lacking


def _in_force(versions: list[ContractVersion], now: datetime) -> dict[str, Contract]:
    found = {}
    for name in {version.contract for version in versions}:
        version = version_in_force([one for one in versions if one.contract == name], now)
        if version is not None:
            found[name] = load_stored_contract(version)
    return found


def _month(zone: str, now: datetime) -> str:
    return _label(zone, window_at("month", zone, now).starts_at)


@lru_cache(maxsize=1024)
def _label(zone: str, starts_at: datetime) -> str:
    return starts_at.astimezone(load_zone(zone)).strftime("%Y-%m")
