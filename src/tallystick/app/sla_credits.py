"""Giving what months are credited for breaches of the promised service: once, before the invoice is issued.

    stored ── looked at: what it comes to with the incidents known ── given, if anything ── issued

A credit is an entry of its own (kind `invoice_credit`, source `sla`), known by the month, so that it is given once,
whoever looks and however often. Incidents that are recorded after that are looked at by a later run: what the month
comes to beyond what was given is given as another entry. Nothing that was given is ever taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tallystick.app.billing_terms import load_stored_contract
from tallystick.app.entries import Ledger
from tallystick.app.runtime import Runtime
from tallystick.app.sla import REQUEST_PREFIX, Given, MonthCredit, credit_evidence, given_for, month_credit
from tallystick.core.errors import Conflict, TallyError, Unavailable
from tallystick.invoice.canonical import canonical_json
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.journal.contracts import ContractVersion, list_contract_versions
from tallystick.journal.invoices import InvoiceRow
from tallystick.journal.sla import Look, add_look, documents_of, unlooked
from tallystick.ledger.credit_operations import ABOUT_BYTES_MAX

AUTHOR = "tallystick"
_TRIES = 5
_AT_ONCE = 100


def credit_breaches(runtime: Runtime, rows: Sequence[InvoiceRow]) -> dict[str, TallyError]:
    """Give what these stored months are credited, before they are issued; doing it again gives nothing.

    Returns:
        By invoice, what kept one from being looked at: it is not to be issued yet.

    Raises:
        Unavailable: `journal_busy`, `database_unreachable`, …; doing it again is safe.
    """
    promising = _promising(runtime)
    if not promising:
        return {}
    with runtime.database.operator() as connection:
        documents = documents_of(connection, [row.invoice_id for row in rows])
    errors: dict[str, TallyError] = {}
    for row in rows:
        try:
            invoice = parse_invoice(documents[row.invoice_id])
            if any((one.contract, one.sha256) in promising for one in invoice.sections):
                _look(runtime, invoice)
        except Unavailable:
            raise
        except TallyError as error:
            errors[row.invoice_id] = error
    return errors


def credit_late_incidents(runtime: Runtime, org_id: str | None = None) -> list[tuple[str, str, int | TallyError]]:
    """Look again at issued months that an incident touches which was recorded since they were looked at.

    Args:
        org_id: only this org's; None for all.

    Returns:
        Org and month of each, and how many cents were given now, or what kept it from being looked at.

    Raises:
        Unavailable: `journal_busy`, `database_unreachable`, …; doing it again is safe.
    """
    if not _promising(runtime):
        return []
    with runtime.database.operator() as connection:
        left = [invoice for _, invoice in unlooked(connection, org_id)]
    done: list[tuple[str, str, int | TallyError]] = []
    for start in range(0, len(left), _AT_ONCE):
        some = left[start : start + _AT_ONCE]
        with runtime.database.operator() as connection:
            documents = documents_of(connection, some)
        for invoice_id in some:
            invoice = parse_invoice(documents[invoice_id])
            try:
                done.append((invoice.org_id, invoice.period.label, _look(runtime, invoice)))
            except Unavailable:
                raise
            except TallyError as error:
                done.append((invoice.org_id, invoice.period.label, error))
    return done


def _look(runtime: Runtime, invoice: Invoice) -> int:
    """Give what the month comes to beyond what was given; how many cents were given now."""
    before, refused = -1, 0
    for _ in range(_TRIES):
        found = month_credit(runtime, invoice)
        given = given_for(runtime, invoice.org_id, invoice.period.label) if found.result.credit_cents else []
        # Refused with nothing else given meanwhile: an id is taken by what is no such credit, and the next one is free.
        refused = refused + 1 if len(given) == before else 0
        before = len(given)
        try:
            cents = _give_rest(runtime, found, given, refused)
        except Conflict as error:
            if error.code != "request_id_conflict":
                raise
            continue  # or another process has given something, knowing of other incidents
        with runtime.database.org(invoice.org_id) as connection:
            look = Look(invoice.org_id, invoice.invoice_id, found.through, found.result.credit_cents)
            add_look(connection, look)
        return cents
    raise Unavailable(
        "journal_busy",
        f"others keep giving credits for {invoice.period.label} of {invoice.org_id}",
        next_step="run it again",
    )


def _give_rest(runtime: Runtime, found: MonthCredit, given: Sequence[Given], refused: int) -> int:
    from tallystick.app.invoice_credits import give_credit

    month, given_cents = found.invoice.period.label, sum(one.amount_cents for one in given)
    rest_cents = found.result.credit_cents - given_cents
    if rest_cents <= 0:
        return 0
    # Whoever knows of the same credits asks under the same id, so that one of them is refused.
    place = (given[-1].place if given else 0) + 1 + refused
    give_credit(
        runtime,
        found.invoice.org_id,
        source="sla",
        amount_cents=rest_cents,
        reason=f"service credit for {month}" + (", incidents that were recorded later" if given else ""),
        author=AUTHOR,
        request_id=f"{REQUEST_PREFIX}{month}" + (f":{place}" if place > 1 else ""),
        about=_bounded(credit_evidence(found, given_cents)),
    )
    return rest_cents


def _bounded(evidence: dict[str, Any]) -> dict[str, Any]:
    """The evidence, without the arithmetic of each plan where that is more than an entry holds; it can be redone."""
    if len(canonical_json(evidence)) <= ABOUT_BYTES_MAX:
        return evidence
    return {name: value for name, value in evidence.items() if name not in ("plans", "incidents")}


def _promising(ledger: Ledger) -> set[tuple[str, str]]:
    """The contract versions of which a plan promises something: name and hash."""
    with ledger.database.operator() as connection:
        versions = list_contract_versions(connection)
    return {(one.contract, one.sha256) for one in versions if _promises(one)}


@lru_cache(maxsize=4096)
def _promises(version: ContractVersion) -> bool:
    return any(plan.sla is not None for plan in load_stored_contract(version).plans.values())
