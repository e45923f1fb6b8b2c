"""What happens to an invoice once it is stored, each a ledger entry of the org's: operations in money, not in credits.

    kind          refers to   what it is
    invoice                   a stored invoice is issued: it has a number, uses up credits, and is due
    payment       invoice     money came in for it, or went back
    credit_note   invoice     a part of it is taken back, on a note with a number of its own
    void          invoice     all that is left of it is taken back, before anything was paid

Amounts are whole cents, as the invoice's total is. What each moves, in pico-USD, `operation_transfers` says:

    invoice       receivable -> revenue                   the total; the other way round where that is below nothing
                  the expense -> receivable               what credits pay of it, by what they were given for
    payment       cash -> receivable                      what came in; the other way round for what went back
    credit_note   revenue, or the expense -> receivable   what is taken back
    void          revenue -> receivable                   all that no note has taken back; the other way round where
                                                          that is below nothing
                  receivable -> the expense               what credits had paid of it: they have it again

So what `receivable` has is always invoices less credits less notes and voids less payments.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

InvoiceKind = Literal["invoice", "payment", "credit_note", "void"]
INVOICE_KINDS: tuple[InvoiceKind, ...] = ("invoice", "payment", "credit_note", "void")

CreditAccount = Literal["revenue", "promo_expense", "sla_expense", "dispute_expense"]
CREDIT_NOTE_ACCOUNTS: tuple[CreditAccount, ...] = ("revenue", "promo_expense", "sla_expense", "dispute_expense")
"""What a credit note may be at the expense of."""

CENT_PICO = 10**10
"""Pico-USD in a cent."""
CENTS_MAX = 10**15
"""The most that one payment or credit note may move."""


AppliedSource = Literal["promo", "sla", "dispute", "goodwill", "carried"]


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What an invoice uses of one credit, or of what the customer had too much on another invoice.

    Attributes:
        seq: the entry that gave the credit, or by which the other invoice was issued.
        amount_cents: above nothing.
        percent_bp: of a share: how much, in basis points of what was left.
        label: the promo code, or the other invoice's number.
    """

    seq: int
    source: AppliedSource
    amount_cents: int
    percent_bp: int | None = None
    label: str | None = None


class InvoiceBalance(msgspec.Struct, frozen=True, kw_only=True):
    """What an invoice comes to, in cents: its total, what was paid, and what was taken back.

    Attributes:
        applied_cents: what credits pay of it.
        carried_cents: what is paid of it by what the customer had too much on other invoices, less what it had too much
            itself that others used.
    """

    total_cents: int
    paid_cents: int
    credited_cents: int
    applied_cents: int = 0
    carried_cents: int = 0

    @property
    def due_cents(self) -> int:
        """What is still to be paid; below nothing where more was paid or taken back than was due."""
        covered_cents = self.applied_cents + self.carried_cents
        return self.total_cents - covered_cents - self.paid_cents - self.credited_cents


class IssueInvoice(msgspec.Struct, frozen=True, kw_only=True):
    """A stored invoice is to be issued. Its request id is the invoice's.

    Attributes:
        period: the month, such as `2026-10`.
        digest, total_cents: as they stand in the stored invoice.
        prefix: of its number: those of one prefix and year are numbered without gaps.
        terms_seconds: how long after it is issued it is due.
        contract, contract_version, contract_sha256: who says these terms, and who sells.
        seller_sha256: the hash of the seller's block in it; None where it names no seller.
        bill_to, bill_to_sha256: the version of the org's billing profile, and its salted hash; None where it has none.
        is_test: whether the org has a test clock: its money is nobody's.
    """

    invoice_id: str
    period: str
    digest: str
    total_cents: int
    prefix: str
    terms_seconds: int
    contract: str
    contract_version: str
    contract_sha256: str
    seller_sha256: str | None
    bill_to: int | None
    bill_to_sha256: str | None
    is_test: bool = False


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """Of an invoice: its number, until when it is to be paid, and what it uses of credits, in the order of that."""

    number: str
    due_at: datetime
    balance: InvoiceBalance
    applied: tuple[Applied, ...] = ()


class Pay(msgspec.Struct, frozen=True, kw_only=True):
    """Money came in for an invoice. Its request id is the provider's name and its own id of the event.

    Attributes:
        source: who says so: `manual`, or the name of a payment provider.
        amount_cents: above nothing.
        returned: whether it went back to the customer instead.
        author: who recorded it.
        reference: what it is known by elsewhere, such as a bank's line.
    """

    invoice_id: str
    source: str
    amount_cents: int
    author: str
    returned: bool = False
    reference: str | None = None


class Paid(msgspec.Struct, frozen=True, kw_only=True):
    """Of a payment: what the invoice comes to with it."""

    balance: InvoiceBalance


class CreditInvoice(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an invoice is to be taken back.

    Attributes:
        amount_cents: above nothing.
        account: at whose expense: that of revenue, or of what the credit is given for.
        line: the line that it is about; None for the invoice as a whole.
        line_cents: that line's amount: no more of it is taken back, all notes on it together.
        prefix: of the note's number.
    """

    invoice_id: str
    amount_cents: int
    author: str
    reason: str
    prefix: str
    account: CreditAccount = "revenue"
    line: int | None = None
    line_cents: int | None = None


class Credited(msgspec.Struct, frozen=True, kw_only=True):
    """Of a credit note: its number, and what the invoice comes to with it."""

    number: str
    balance: InvoiceBalance


class VoidInvoice(msgspec.Struct, frozen=True, kw_only=True):
    """All that is left of an invoice is to be taken back."""

    invoice_id: str
    author: str
    reason: str


class Voided(msgspec.Struct, frozen=True, kw_only=True):
    """Of a void: how much of it no note had taken back, what credits have again, and what the invoice comes to then."""

    amount_cents: int
    balance: InvoiceBalance
    returned: tuple[Applied, ...] = ()


InvoiceRequest = IssueInvoice | Pay | CreditInvoice | VoidInvoice
InvoiceResult = Issued | Paid | Credited | Voided
