"""Close a month: one invoice for each org, computed from the ledger, stored once and never changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from tallystick.app.billing_terms import choose_terms, org_period, plans_of
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, TallyError, Unavailable
from tallystick.core.instants import format_instant
from tallystick.core.periods import Period, month_period
from tallystick.invoice.build import build_invoice
from tallystick.invoice.canonical import canonical_json
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.invoice.terms import Terms
from tallystick.journal.contracts import ContractVersion, list_contract_versions
from tallystick.journal.database import check_org_id
from tallystick.journal.invoices import (
    InvoiceRow,
    StoredInvoice,
    insert_invoice,
    invoice_by_month,
    lock_month,
    orgs_that_used,
    unsubscribed_orgs,
)
from tallystick.journal.period_facts import sum_period
from tallystick.journal.subscriptions import Subscription, list_subscriptions

CloseStatus = Literal["closed", "already_closed", "failed"]
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class MonthResult:
    """What became of one org's month: the invoice, or the error that kept it from being closed."""

    org_id: str
    status: CloseStatus
    invoice: Invoice | None = None
    error: TallyError | None = None


def preview_invoice(runtime: Runtime, org_id: str, label: str) -> Invoice:
    """The invoice of that org and month from what the ledger holds now. Nothing is stored.

    A month that is not over yet is previewed as far as it goes.

    Raises:
        NotFound: `no_subscription`.
        BadInput: `invalid_month`, `no_contract_in_force`, `unknown_plan`, `cost_unknown` or `total_out_of_range`.
        Conflict: `period_archived` or `ledger_incomplete`.
        Unavailable: `database_unreachable`.
    """
    terms = _terms(runtime, org_id, label, contract_versions(runtime))
    return build_invoice(terms, sum_period(runtime.database, terms))


def orgs_to_close(runtime: Runtime, label: str) -> list[str]:
    """Who is to be billed for the month: orgs on a plan in it, and orgs that used something in it without one.

    Raises:
        BadInput: `invalid_month`.
    """
    month = month_period(label)
    with runtime.database.operator() as connection:
        by_org: dict[str, list[Subscription]] = {}
        for one in list_subscriptions(connection):
            by_org.setdefault(one.org_id, []).append(one)
        planless: dict[str, Period] = {}  # on the clocks of each: what they used before they began, or after they left
        for org_id, held in by_org.items():
            period, _ = org_period(held, label)
            if not plans_of(held, period):
                planless[org_id] = period
        without_a_plan = {*unsubscribed_orgs(connection, month), *orgs_that_used(connection, planless)}
    return sorted((by_org.keys() - planless.keys()) | without_a_plan)


def close_month(
    runtime: Runtime, label: str, orgs: Sequence[str] | None = None, *, progress: Progress | None = None
) -> list[MonthResult]:
    """Close the month of these orgs, or of all that are to be billed. Each org stands for itself.

    Closing again gives the invoice that is there; of two processes that close at once, one stores it and
    both give it. An org that cannot be closed is a `failed` result with its error and harms no other.

    Args:
        runtime: the running system.
        label: the calendar month, "2026-10".
        orgs: whom to close; None for everyone who is to be billed.
        progress: called with 1 after each org.

    Raises:
        BadInput: `invalid_month`, or `invalid_text` for what cannot be an org's id.
        Unavailable: `database_unreachable`; months closed until then stay closed, and closing again is safe.
    """
    month_period(label)
    for org_id in orgs or ():
        check_org_id(org_id)
    versions = contract_versions(runtime)
    results = []
    for org_id in dict.fromkeys(orgs_to_close(runtime, label) if orgs is None else orgs):
        results.append(_close_org(runtime, org_id, label, versions))
        if progress is not None:
            progress(1)
    return results


def _close_org(
    runtime: Runtime, org_id: str, label: str, versions: Callable[[str], Sequence[ContractVersion]]
) -> MonthResult:
    try:
        with runtime.database.org(org_id) as connection:
            found = invoice_by_month(connection, org_id, label)
        if found is not None:
            return MonthResult(org_id, "already_closed", parse_invoice(found.document))
        terms = _terms(runtime, org_id, label, versions)
        _check_over(runtime, terms)
        invoice = build_invoice(terms, sum_period(runtime.database, terms))
        return _store(runtime, terms, invoice)
    except Unavailable:
        raise
    except TallyError as error:
        return MonthResult(org_id, "failed", error=error)


def _store(runtime: Runtime, terms: Terms, invoice: Invoice) -> MonthResult:
    """Store it, unless another process was first: then theirs is the invoice."""
    row = InvoiceRow(
        invoice_id=invoice.invoice_id,
        org_id=terms.org_id,
        period=terms.period.label,
        period_start=terms.period.start,
        period_end=terms.period.end,
        contract=invoice.contract.name,
        contract_version=invoice.contract.version,
        contract_sha256=invoice.contract.sha256,
        plan=invoice.contract.plan,
        through_seq=invoice.ledger.through_seq,
        digest=invoice.digest,
        total_cents=invoice.total_cents,
        closed_at=runtime.clock(),
    )
    with runtime.database.org(terms.org_id) as connection:
        lock_month(connection, terms.org_id, terms.period.label)
        found = invoice_by_month(connection, terms.org_id, terms.period.label)
        if found is None:
            insert_invoice(connection, StoredInvoice(row, canonical_json(invoice.document()).decode()))
            return MonthResult(terms.org_id, "closed", invoice)
    return MonthResult(terms.org_id, "already_closed", parse_invoice(found.document))


def _terms(runtime: Runtime, org_id: str, label: str, versions: Callable[[str], Sequence[ContractVersion]]) -> Terms:
    with runtime.database.org(org_id) as connection:
        subscriptions = list_subscriptions(connection, org_id)
    return choose_terms(org_id, label, subscriptions, versions)


def contract_versions(runtime: Runtime) -> Callable[[str], Sequence[ContractVersion]]:
    """Reads the versions of each contract once."""

    @cache
    def versions(contract: str) -> Sequence[ContractVersion]:
        with runtime.database.operator() as connection:
            return list_contract_versions(connection, contract)

    return versions


def _check_over(runtime: Runtime, terms: Terms) -> None:
    now = runtime.clock()
    if now < terms.period.end:
        raise BadInput(
            "month_not_over",
            f"{terms.period.label} of {terms.org_id} ends at {format_instant(terms.period.end)}, "
            f"and it is {format_instant(now)}",
            next_step=f"close it after that, or see where it stands: "
            f"tally invoice preview {terms.org_id} {terms.period.label}",
            where=terms.org_id,
        )
