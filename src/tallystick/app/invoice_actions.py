"""What is done about an issued invoice: payments, credit notes, voids; and what is still to be paid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tallystick.app.invoice_life import InvoiceLife, show_life, stored_line_cents
from tallystick.app.invoices import find_invoice, unknown_invoice
from tallystick.app.issue_invoices import contract_of
from tallystick.app.left_entries import submit_and_wait
from tallystick.app.operate import new_salt
from tallystick.app.parties import profile_names
from tallystick.app.runtime import Runtime
from tallystick.billing.checks import credit_note_operation, payment_operation, void_operation
from tallystick.billing.numbers import number_prefix
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd
from tallystick.invoice.tables import csv_table, text_cell
from tallystick.journal.billing import list_due
from tallystick.ledger.invoice_operations import Credited
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import Operation, Recorded

DUE_COLUMNS = (
    "number", "org_id", "bill_to", "invoice_id", "month", "issued_at", "due_at", "state", "total_usd",
    "applied_usd", "carried_usd", "paid_usd", "credited_usd", "due_usd", "currency",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, and how the invoice stands with it."""

    recorded: Recorded
    life: InvoiceLife

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members; `is_new` tells whether it was done now."""
        recorded, result = self.recorded, self.recorded.result
        return {
            f"{recorded.kind}_id": operation_id(recorded.kind, recorded.seq),
            "request_id": recorded.request_id,
            "note_number": result.number if isinstance(result, Credited) else None,
            "is_new": recorded.is_new,
            "entry": {
                "seq": recorded.seq,
                "recorded_at": format_instant(recorded.recorded_at),
                "fingerprint": recorded.fingerprint,
                "leaf": recorded.leaf,
            },
            "invoice": self.life.as_dict(),
        }


def record_payment(runtime: Runtime, reference: str, raw: object, *, org_id: str | None = None) -> Done:
    """Record that money came in for an invoice, or went back; the same payment of the same provider counts once,
    over all orgs.

    Args:
        reference: the invoice's id, number or ORG/MONTH.
        raw: the decoded JSON value, with the members `billing.checks.PAYMENT_MEMBERS`.
        org_id: of whom the invoice must be; None for any.

    Raises:
        BadInput, Problems: what is wrong with the request; `currency_not_supported`, `invalid_amount`.
        NotFound: `unknown_invoice`, `invoice_not_issued`.
        Conflict: `invoice_void`, `more_than_was_paid`, `request_id_conflict`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; sending it again is safe.
    """
    row = find_invoice(runtime, reference).row
    if org_id not in (None, row.org_id):
        raise unknown_invoice(reference)
    operation = payment_operation(row.org_id, row.invoice_id, raw, salt=new_salt(runtime))
    return _done(runtime, operation, row.invoice_id)


def credit_invoice(runtime: Runtime, reference: str, raw: object) -> Done:
    """Take a part of an invoice back, by a note with a number of its own.

    Args:
        reference: the invoice's id, number or ORG/MONTH.
        raw: the decoded JSON value, with the members `billing.checks.CREDIT_NOTE_MEMBERS`.

    Raises:
        BadInput, Problems: what is wrong with the request; `unknown_line`, `invalid_amount`.
        NotFound: `unknown_invoice`, `invoice_not_issued`.
        Conflict: `credit_exceeds_invoice`, `credit_exceeds_line`, `invoice_void`, `request_id_conflict`.
        Unavailable: as `record_payment`.
    """
    stored = find_invoice(runtime, reference)
    row = stored.row
    seller = contract_of(runtime, row.contract, row.contract_sha256).seller
    operation = credit_note_operation(
        row.org_id,
        row.invoice_id,
        raw,
        prefix=number_prefix(
            None if seller is None else seller.number_prefix, "credit_note", is_test=runtime.is_test_org(row.org_id)
        ),
        salt=new_salt(runtime),
        line_cents=stored_line_cents(stored),
    )
    return _done(runtime, operation, row.invoice_id)


def void_invoice(runtime: Runtime, reference: str, raw: object) -> Done:
    """Take all of an invoice back, before anything was paid for it.

    Args:
        reference: the invoice's id, number or ORG/MONTH.
        raw: the decoded JSON value, with the members `billing.checks.VOID_MEMBERS`.

    Raises:
        BadInput, Problems: what is wrong with the request.
        NotFound: `unknown_invoice`, `invoice_not_issued`.
        Conflict: `invoice_paid`, `invoice_void`, `request_id_conflict`.
        Unavailable: as `record_payment`.
    """
    row = find_invoice(runtime, reference).row
    operation = void_operation(row.org_id, row.invoice_id, raw, salt=new_salt(runtime))
    return _done(runtime, operation, row.invoice_id)


def due_invoices(runtime: Runtime, org_id: str | None = None, *, tests: bool = False) -> list[dict[str, Any]]:
    """What is still to be paid, what is due first coming first, as members named by `DUE_COLUMNS`.

    Args:
        org_id: only this org's; None for all.
        tests: those of test orgs as well.

    Raises:
        Unavailable: `database_unreachable`.
    """
    with runtime.database.operator() if org_id is None else runtime.database.org(org_id) as connection:
        found = list_due(connection, org_id, tests=tests)
    names = profile_names(runtime, org_id)
    return [
        {
            "number": one.account.number,
            "org_id": one.org_id,
            "bill_to": names.get((one.org_id, one.account.invoice_id)),
            "invoice_id": one.account.invoice_id,
            "month": one.account.period,
            "issued_at": format_instant(one.account.issued_at),
            "due_at": format_instant(one.account.due_at),
            "state": one.account.state(runtime.now(one.org_id)),
            "total_usd": cents_to_usd(one.account.total_cents),
            "applied_usd": cents_to_usd(one.account.applied_cents),
            "carried_usd": cents_to_usd(one.account.carried_cents),
            "paid_usd": cents_to_usd(one.account.paid_cents),
            "credited_usd": cents_to_usd(one.account.credited_cents),
            "due_usd": cents_to_usd(one.account.due_cents),
            "currency": "USD",
        }
        for one in found
    ]


def due_csv(due: Iterable[dict[str, Any]]) -> Iterable[str]:
    """The same as CSV (RFC 4180), a row a piece, with a header; no cell is a formula to a spreadsheet."""
    return csv_table(DUE_COLUMNS, ([text_cell(one[name]) for name in DUE_COLUMNS] for one in due))


def _done(runtime: Runtime, operation: Operation, invoice_id: str) -> Done:
    recorded = submit_and_wait(runtime, operation)
    return Done(recorded, show_life(runtime, invoice_id).life)
