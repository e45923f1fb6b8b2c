"""What is disputed, as an entry says it: the invoice, the line or the requests, with the terms that hold for it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec

from tallystick.app.dispute_requests import Weighed, bearing_invoice, earliest_charge
from tallystick.app.entries import entries_at
from tallystick.app.invoice_life import stored_line_cents
from tallystick.app.issue_invoices import contract_of
from tallystick.app.orgs import find_org
from tallystick.app.runtime import Runtime
from tallystick.contract.loader import load_contract
from tallystick.contract.model import Contract, Disputes
from tallystick.core.errors import BadInput
from tallystick.dispute.model import COUNTING
from tallystick.journal.billing import list_issued
from tallystick.journal.contracts import list_contract_versions, version_in_force
from tallystick.journal.disputes import all_dispute_events, list_dispute_rows
from tallystick.journal.invoices import InvoiceRow, StoredInvoice, list_invoice_rows
from tallystick.ledger.dispute_operations import DisputeScope, DisputeTerms


class Scope(NamedTuple):
    """What is disputed, and until when it may be."""

    disputed: DisputeScope
    terms: DisputeTerms


def scope_of_invoice(runtime: Runtime, stored: StoredInvoice, line: int | None) -> Scope:
    """An invoice, or one of its lines.

    Raises:
        BadInput: `unknown_line`.
        Unavailable: `database_unreachable`.
    """
    row = stored.row
    if line is None:
        disputed = DisputeScope(what="invoice", invoice_id=row.invoice_id, cents=row.total_cents)
        return _on_invoice(runtime, row, disputed)
    lines = stored_line_cents(stored)
    if line not in lines:
        raise BadInput(
            "unknown_line",
            f"invoice {row.invoice_id} has no line {line}",
            next_step="name one of its lines, or none",
            where="line",
        )
    cents = lines[line]
    disputed = DisputeScope(what="line", invoice_id=row.invoice_id, line=line, line_cents=cents, cents=cents)
    return _on_invoice(runtime, row, disputed)


def scope_of_requests(runtime: Runtime, weighed: Weighed) -> Scope:
    """Requests, on an invoice or on none yet.

    Raises:
        Unavailable: `database_unreachable`.
    """
    disputed = DisputeScope(
        what="requests",
        invoice_id=None if weighed.invoice is None else weighed.invoice.invoice_id,
        entries=tuple(one.seq for one in weighed.requests),
        cents=weighed.cents,
        charges=weighed.charges,
        months=tuple(one.opened_under for one in weighed.months if one.opened_under is not None),
    )
    if weighed.invoice is not None:
        return _on_invoice(runtime, weighed.invoice, disputed)
    contract = _contract_now(runtime, weighed.org_id)
    charged_at = earliest_charge(weighed)
    terms = Disputes() if contract is None else contract.disputes
    return Scope(disputed, _terms(contract, None if charged_at is None else charged_at + terms.window))


def _on_invoice(runtime: Runtime, row: InvoiceRow, disputed: DisputeScope) -> Scope:
    contract = contract_of(runtime, row.contract, row.contract_sha256)
    with runtime.database.org(row.org_id) as connection:
        issued = list_issued(connection, row.org_id, invoice_id=row.invoice_id)
    if not issued:
        return Scope(disputed, _terms(contract, None))
    invoice = issued[0].account
    return Scope(
        msgspec.structs.replace(disputed, earlier=_earlier(runtime, row, invoice.seq)),
        _terms(contract, invoice.issued_at + contract.disputes.window),
    )


def _earlier(runtime: Runtime, row: InvoiceRow, issued_seq: int) -> tuple[int, ...]:
    """Disputes of requests that the invoice bears since: undecided, or upheld since it was issued."""
    with runtime.database.org(row.org_id) as connection:
        listed = [one.account for one in list_dispute_rows(connection, row.org_id, states=COUNTING)]
        rows = list_invoice_rows(connection, row.org_id)
        events = all_dispute_events(connection, row.org_id)
    before = {one.dispute_seq for one in events if one.step == "upheld" and one.seq < issued_seq}
    counting = [one for one in listed if one.invoice_id is None and one.seq not in before]
    places = {seq for one in counting for seq in one.entries}
    entries = entries_at(runtime, row.org_id, places) if places else {}

    def is_borne(seq: int) -> bool:
        bearing = bearing_invoice(rows, [entries[seq]])
        return bearing is not None and bearing.invoice_id == row.invoice_id

    return tuple(sorted(one.seq for one in counting if any(is_borne(seq) for seq in one.entries)))


def _contract_now(runtime: Runtime, org_id: str) -> Contract | None:
    """The contract that the org is on now; None where it is on none."""
    subscription = find_org(runtime, org_id).subscription
    if subscription is None:
        return None
    with runtime.database.operator() as connection:
        version = version_in_force(list_contract_versions(connection, subscription.contract), runtime.now(org_id))
    return None if version is None else load_contract(version.source_text, version.source_name)


def _terms(contract: Contract | None, closes_at: datetime | None) -> DisputeTerms:
    terms = Disputes() if contract is None else contract.disputes
    return DisputeTerms(
        closes_at=closes_at,
        answer_seconds=int(terms.answer_within.total_seconds()),
        contract="" if contract is None else contract.name,
        contract_version="" if contract is None else contract.version,
        contract_sha256="" if contract is None else contract.sha256,
    )
