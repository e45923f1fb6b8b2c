"""What comes with a request about an issued invoice: payments, credit notes and voids, checked, as operations."""

from __future__ import annotations

from typing import Final

from tallystick.core.errors import BadInput
from tallystick.ledger.invoice_operations import (
    CENT_PICO,
    CENTS_MAX,
    CREDIT_NOTE_ACCOUNTS,
    CreditInvoice,
    InvoiceKind,
    InvoiceRequest,
    Pay,
    VoidInvoice,
)
from tallystick.ledger.members import Members
from tallystick.ledger.operations import Operation
from tallystick.usage.event_problems import check_text, ids_fit

PAYMENT_MEMBERS: Final = ("request_id", "provider", "amount_usd", "currency", "returned", "reference", "author")
CREDIT_NOTE_MEMBERS: Final = ("request_id", "amount_usd", "account", "line", "author", "reason")
VOID_MEMBERS: Final = ("request_id", "author", "reason")
MANUAL: Final = "manual"
"""The provider of payments that a person records."""
LINE_MAX: Final = 10_000


def payment_operation(org_id: str, invoice_id: str, raw: object, *, salt: bytes) -> Operation:
    """Money that came in for an invoice, or went back.

    Args:
        raw: the decoded JSON value, with the members `PAYMENT_MEMBERS`. `request_id` is the provider's own id of the
            event: with the provider's name it is what the payment is known by.

    Raises:
        BadInput: the one fault, `where` being the member; `currency_not_supported`.
        Problems: `invalid_request`, several of them.
    """
    members = Members(raw, PAYMENT_MEMBERS, "a payment")
    provider = (members.text_or_none("provider") or MANUAL).strip()
    if ":" in provider:
        members.fault("invalid_name", "provider", "a provider's name has no colon", "send the name alone")
    if members.has("currency") and members.value("currency") != "USD":
        members.fault(
            "currency_not_supported",
            "currency",
            f"invoices are in USD, and the payment is in {str(members.value('currency'))[:20]!r}",
            "nothing moved; have it converted, and record what came in in USD",
        )
    request = Pay(
        invoice_id=invoice_id,
        source=provider,
        amount_cents=_cents(members),
        author=members.text("author"),
        returned=members.flag("returned"),
        reference=members.text_or_none("reference"),
    )
    request_id = members.text("request_id")
    return _operation(members, org_id, "payment", f"{provider}:{request_id}", request, salt)


def credit_note_operation(
    org_id: str, invoice_id: str, raw: object, *, prefix: str, salt: bytes, line_cents: dict[int, int]
) -> Operation:
    """A part of an invoice to be taken back.

    Args:
        raw: the decoded JSON value, with the members `CREDIT_NOTE_MEMBERS`.
        prefix: of the note's number.
        line_cents: the amounts of the invoice's lines, by number.

    Raises:
        BadInput, Problems: as `payment_operation`; `unknown_line`.
    """
    members = Members(raw, CREDIT_NOTE_MEMBERS, "a credit note")
    line = members.integer("line", 1, 1, LINE_MAX) if members.has("line") else None
    if line is not None and line not in line_cents:
        members.fault("unknown_line", "line", f"the invoice has no line {line}", "name one of its lines, or none")
    request = CreditInvoice(
        invoice_id=invoice_id,
        amount_cents=_cents(members),
        author=members.text("author"),
        reason=members.text("reason"),
        prefix=prefix,
        account=members.choice("account", CREDIT_NOTE_ACCOUNTS, "revenue"),  # type: ignore[arg-type]
        line=line,
        line_cents=None if line is None else line_cents.get(line),
    )
    return _operation(members, org_id, "credit_note", members.text("request_id"), request, salt)


def void_operation(org_id: str, invoice_id: str, raw: object, *, salt: bytes) -> Operation:
    """All that is left of an invoice to be taken back; without a request id, it is known by the invoice.

    Raises:
        BadInput, Problems: as `payment_operation`.
    """
    members = Members(raw, VOID_MEMBERS, "a void")
    request = VoidInvoice(invoice_id=invoice_id, author=members.text("author"), reason=members.text("reason"))
    request_id = members.text("request_id") if members.has("request_id") else f"void:{invoice_id}"
    return _operation(members, org_id, "void", request_id, request, salt)


def _cents(members: Members) -> int:
    known = len(members.faults)
    pico = members.amount_pico("amount_usd", "USD")
    cents, rest = divmod(pico, CENT_PICO)
    if len(members.faults) > known:
        return cents
    if rest:
        members.fault("amount_too_fine", "amount_usd", "money has cents, and nothing smaller", "send whole cents")
    elif cents > CENTS_MAX:
        members.fault("invalid_amount", "amount_usd", "it is too much", "check its unit")
    return cents


def _operation(
    members: Members, org_id: str, kind: InvoiceKind, request_id: str, request: InvoiceRequest, salt: bytes
) -> Operation:
    try:
        check_text("request_id", request_id)
    except BadInput as error:
        if not members.faults:
            members.faults.append(error.with_traceback(None))
    if not ids_fit(org_id, request_id):
        members.fault("text_too_long", "request_id", "it and org_id have too many bytes together", "send a shorter id")
    members.raise_faults()
    return Operation(org_id=org_id, kind=kind, request_id=request_id, request=request, salt=salt)
