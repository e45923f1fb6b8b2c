"""The invoice: a value that is its own document. Every amount is an exact decimal string of USD.

The members and their order are those of the JSON document (`docs/invoice.md`); nothing in it depends on
when or where it was built, so that building it again from the same facts and versions gives the same bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick.core.errors import BadInput
from tallystick.core.money import parse_decimal
from tallystick.core.struct_types import work_out
from tallystick.invoice.canonical import canonical_json
from tallystick.invoice.line_model import AdjustedStep, ChargeKind, InvoiceLine, InvoiceTier, LineKind, MeterUse
from tallystick.invoice.parts import (
    Credits,
    CustomerPaid,
    GrantedCredits,
    InForce,
    InvoiceContract,
    InvoicePeriod,
    InvoiceSection,
    LedgerPin,
    ModelCost,
    NotCharged,
    NotChargedEvents,
    NotChargedReason,
    RateUse,
    Totals,
    UnpricedMeter,
    Wallet,
)

__all__ = [
    "FORMAT",
    "AdjustedStep",
    "Adjustment",
    "AdjustmentPin",
    "ChargeKind",
    "Credits",
    "CustomerPaid",
    "GrantedCredits",
    "InForce",
    "Internal",
    "InternalAdjustment",
    "Invoice",
    "InvoiceContract",
    "InvoiceLine",
    "InvoicePeriod",
    "InvoiceSection",
    "InvoiceTier",
    "LedgerPin",
    "LineKind",
    "MeterUse",
    "ModelCost",
    "NotCharged",
    "NotChargedEvents",
    "NotChargedReason",
    "RateUse",
    "Totals",
    "UnpricedMeter",
    "Wallet",
    "parse_invoice",
]

FORMAT = "tallystick/invoice/v4"


class AdjustmentPin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly which entries of a closed month came after it was billed last.

    Attributes:
        first_seq: the first entry at which the ledger had reached that month.
        billed_through_seq: up to which entry the month was billed before.
        through_seq: up to which it is billed now: that of the invoice.
        entries: how many entries of the month lie between, requests, corrections and operations.
        events: how many of them are requests.
        first_arrived, last_arrived: when the first and the last of them were recorded.
        entries_sha256: the hash over them (`docs/invoice.md`).
    """

    first_seq: int
    billed_through_seq: int
    through_seq: int
    entries: int
    events: int
    first_arrived: str
    last_arrived: str
    entries_sha256: str


class Adjustment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A closed month that facts came late for: priced anew as a whole, less what it was billed before.

    The lines that say so are among those of the invoice.

    Attributes:
        number: its place on the invoice, from 1.
        invoice_id: the month's own invoice, which stays as it is.
        period, sections: the month, and the plans that price it, as that invoice has them.
        subscriptions_known: how many subscriptions had a say in them.
        rates: by how many requests each rate-card version has priced more (or, below zero, fewer) of the month.
        ledger: which entries came late.
        not_charged: what came late and costs the customer nothing.
        customer_paid: by how much this changes what keys of the customer's own have paid.
        wallet: the month of the wallet as it is now; null when no operation came late.
        totals: the sums over the lines of this adjustment.
    """

    number: int
    invoice_id: str
    period: InvoicePeriod
    sections: tuple[InvoiceSection, ...]
    subscriptions_known: int
    rates: tuple[RateUse, ...]
    ledger: AdjustmentPin
    not_charged: NotCharged
    customer_paid: CustomerPaid
    wallet: Wallet | None
    totals: Totals


class InternalAdjustment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By how much our cost of a closed month has changed; counts are differences too."""

    adjustment: int
    cost_usd: str
    unpriced_events: int
    models: tuple[ModelCost, ...]


class Internal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is ours to know: what the requests that we paid for cost us. It may be left out of what a customer gets.

    `adjustments` has the same of closed months, as far as it has changed; the sums before are of the period alone.
    """

    cost_usd: str
    unpriced_events: int
    models: tuple[ModelCost, ...]
    adjustments: tuple[InternalAdjustment, ...]


class Invoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One org's invoice for one month. `digest` covers everything in it.

    `lines` has those of the period, then those of each of the `adjustments`. `wallet` is null when no operation of the
    period moved credits.
    """

    format: str = FORMAT
    invoice_id: str
    org_id: str
    currency: str
    period: InvoicePeriod
    contract: InvoiceContract
    sections: tuple[InvoiceSection, ...]
    rates: tuple[RateUse, ...]
    ledger: LedgerPin
    adjustments: tuple[Adjustment, ...]
    lines: tuple[InvoiceLine, ...]
    not_charged: NotCharged
    customer_paid: CustomerPaid
    wallet: Wallet | None
    totals: Totals
    internal_sha256: str
    internal: Internal
    digest: str

    def document(self) -> dict[str, Any]:
        """The document as plain JSON values, in the order of its members."""
        document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return document

    @property
    def total_cents(self) -> int:
        """What is due, in USD cents; below zero when the customer gets something back."""
        return int(parse_decimal(self.totals.total_usd, where="totals.total_usd") * 100)

    def sections_of(self, line: InvoiceLine) -> tuple[InvoiceSection, ...]:
        """The plans of the line's month: the invoice's own, or those of the month that it adjusts."""
        return self.sections if line.adjusts is None else self.adjustments[line.adjusts.adjustment - 1].sections

    def named_sections(self) -> tuple[InvoiceSection, ...]:
        """Every plan that the invoice names: those of its month, and those of months that it adjusts."""
        return (*self.sections, *(section for one in self.adjustments for section in one.sections))

    def section_of(self, line: InvoiceLine) -> InvoiceSection:
        """The plan that priced the line."""
        return self.sections_of(line)[line.section - 1]

    def month_of(self, line: InvoiceLine) -> str:
        """The month that the line charges for, such as "2026-10"."""
        return (self.period if line.adjusts is None else self.adjustments[line.adjusts.adjustment - 1].period).label

    def line(self, number: int) -> InvoiceLine:
        """The line of that number.

        Raises:
            BadInput: `unknown_line`.
        """
        for line in self.lines:
            if line.number == number:
                return line
        raise BadInput(
            "unknown_line",
            f"invoice {self.invoice_id} has no line {number}",
            next_step=f"choose one of {', '.join(str(line.number) for line in self.lines) or 'none: it has no lines'}",
            where="line",
        )


work_out(Invoice)


def parse_invoice(text: str | bytes) -> Invoice:
    """An invoice from its stored document.

    Raises:
        BadInput: `invalid_invoice_document`.
    """
    try:
        invoice = msgspec.json.decode(text, type=Invoice)
        canonical_json(invoice.document())  # its numbers are such as a digest can cover,
        _ = invoice.total_cents  # its total is an amount,
        _expect_references(invoice)  # and each line has a plan
    except (msgspec.DecodeError, ValueError, RecursionError, BadInput) as error:
        raise BadInput(
            "invalid_invoice_document",
            f"the document is not an invoice of the form {FORMAT}: {error}",
            next_step="export the invoice again from the ledger that closed it",
        ) from None
    return invoice


def _expect_references(invoice: Invoice) -> None:
    """Every line names a section that there is, of the month or of an adjustment that there is."""
    numbers = [one.number for one in invoice.adjustments]
    if numbers != list(range(1, len(numbers) + 1)):
        raise ValueError("its adjustments are not numbered from 1")
    for line in invoice.lines:
        if line.adjusts is not None and line.adjusts.adjustment not in numbers:
            raise ValueError(f"line {line.number} is of adjustment {line.adjusts.adjustment}, which it has not")
        if not 1 <= line.section <= len(invoice.sections_of(line)):
            raise ValueError(f"line {line.number} is of section {line.section}, which it has not")
