"""The terms that an invoice pins, with the contract versions that priced it as they were applied."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.app.billing_terms import load_stored_contract
from tallystick.core.errors import NotFound
from tallystick.core.instants import parse_instant
from tallystick.core.periods import Period
from tallystick.invoice.model import Adjustment, Invoice, InvoiceSection
from tallystick.invoice.terms import Holding, Terms, make_left_terms, make_terms
from tallystick.journal.contracts import ContractVersion, list_contract_versions
from tallystick.journal.database import Connection


def pinned_terms(connection: Connection, invoice: Invoice) -> Terms:
    """The terms of the invoice's month.

    Raises:
        NotFound: `unknown_contract_version`.
        Problems: a stored text is not a contract.
    """
    contract = invoice.contract
    return _terms(
        connection, invoice.org_id, invoice, invoice.sections, contract.subscription, contract.subscriptions_known
    )


def adjusted_terms(connection: Connection, invoice: Invoice, adjustment: Adjustment) -> Terms:
    """The terms of a closed month that the invoice adjusts.

    Raises:
        NotFound: `unknown_contract_version`.
        Problems: a stored text is not a contract.
    """
    return _terms(connection, invoice.org_id, adjustment, adjustment.sections, 0, adjustment.subscriptions_known)


def _terms(
    connection: Connection,
    org_id: str,
    of: Invoice | Adjustment,
    sections: Sequence[InvoiceSection],
    subscription: int,
    known: int,
) -> Terms:
    holdings = []
    for section in sections:
        contract = load_stored_contract(stored_version(connection, section.contract, section.version))
        for held in section.in_force:
            start, end = parse_instant(held.start), parse_instant(held.end)
            holdings.append(Holding(start, end, contract, section.plan, held.subscription))
    period, zone = (
        Period(of.period.label, parse_instant(of.period.start), parse_instant(of.period.end)),
        of.period.time_zone,
    )
    if not holdings:
        (last,) = sections
        contract = load_stored_contract(stored_version(connection, last.contract, last.version))
        return make_left_terms(org_id, period, zone, contract, last.plan, subscription, known)
    holdings.sort(key=lambda one: one.start)
    return make_terms(org_id, period, zone, holdings, known)


def stored_version(connection: Connection, contract: str, version: str) -> ContractVersion:
    """A contract version that an invoice names.

    Raises:
        NotFound: `unknown_contract_version`.
    """
    for found in list_contract_versions(connection, contract):
        if found.version == version:
            return found
    raise NotFound(
        "unknown_contract_version",
        f"version {version} of contract {contract} is not in the database",
        next_step="restore the database: contract versions are never deleted",
        where=contract,
    )
