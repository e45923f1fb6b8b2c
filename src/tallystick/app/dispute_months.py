"""The plans that price a month which is on no invoice yet: as they are now, or as a dispute was opened under them."""

from __future__ import annotations

from collections.abc import Mapping

from tallystick.app.billing_terms import choose_terms, load_stored_contract
from tallystick.app.close_month import contract_versions
from tallystick.app.pinned import stored_version
from tallystick.app.runtime import Runtime
from tallystick.core.errors import NotFound
from tallystick.core.periods import month_period
from tallystick.invoice.terms import Holding, Terms, make_terms
from tallystick.journal.database import Connection
from tallystick.journal.subscriptions import Subscription
from tallystick.ledger.dispute_operations import DisputedPlan, OpenMonth


def terms_now(runtime: Runtime, org_id: str, label: str, subscriptions: list[Subscription]) -> Terms | None:
    """The plans that price a month as things stand; None where the org is on none in it.

    Raises:
        BadInput: `unknown_plan`, `no_contract_in_force`.
        Unavailable: `database_unreachable`.
    """
    try:
        return choose_terms(org_id, label, subscriptions, contract_versions(runtime))
    except NotFound as error:
        if error.code != "no_subscription":
            raise
        return None


def terms_of_then(connection: Connection, org_id: str, months: Mapping[str, OpenMonth], label: str) -> Terms | None:
    """The plans that priced a month when requests of it were disputed.

    Raises:
        NotFound: `unknown_contract_version`.
    """
    found = months.get(label)
    if found is None or not found.plans:
        return None
    holdings = []
    for one in found.plans:
        contract = load_stored_contract(stored_version(connection, one.contract, one.contract_version))
        holdings.append(Holding(one.start, one.end, contract, one.plan, one.subscription))
    period = month_period(label, found.time_zone)
    return make_terms(org_id, period, found.time_zone, holdings, found.subscriptions_known)


def open_month(label: str, zone: str, known: int, terms: Terms | None) -> OpenMonth:
    """The plans of such a month, as the entry that opens the dispute bears them."""
    plans = [
        DisputedPlan(
            start=held.start,
            end=held.end,
            contract=held.contract.name,
            contract_version=held.contract.version,
            contract_sha256=held.contract.sha256,
            plan=held.plan,
            subscription=held.subscription,
        )
        for section in (terms.sections if terms is not None else ())
        for held in section.holdings
    ]
    return OpenMonth(
        month=label,
        time_zone=zone,
        subscriptions_known=known,
        plans=tuple(sorted(plans, key=lambda one: one.start)),
    )
