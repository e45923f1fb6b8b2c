"""An issued invoice as it stands: what it comes to, and what has happened to it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple, get_args

import msgspec

from tallystick.ledger.invoice_operations import InvoiceBalance, InvoiceKind

IssuedState = Literal["open", "partly_paid", "paid", "overdue", "void"]
InvoiceState = Literal["draft", "final", "open", "partly_paid", "paid", "overdue", "void"]
INVOICE_STATES: tuple[InvoiceState, ...] = get_args(InvoiceState)
"""draft: a preview, while late usage may still come in; final: stored, and about to be issued; the others: issued."""


class InvoiceEvent(NamedTuple):
    """One thing that has happened to an issued invoice.

    Attributes:
        seq: its entry.
        amount_cents: the invoice's total, what was paid (below nothing: went back), or what was taken back.
        number: of the invoice, or of a credit note; None of what has none.
        payment_id: of a payment, the provider's name, a colon and its id of the payment; None of everything else.
    """

    invoice_id: str
    seq: int
    kind: InvoiceKind
    at: datetime
    amount_cents: int
    number: str | None
    payment_id: str | None = None


class InvoiceAccount(msgspec.Struct, kw_only=True):
    """An issued invoice: what is owed for it.

    Attributes:
        seq: the entry by which it was issued.
        line_credits: by line, what credit notes on it have taken back, in cents.
        voided: whether all that was left of it was taken back.
    """

    invoice_id: str
    seq: int
    number: str
    period: str
    digest: str
    issued_at: datetime
    due_at: datetime
    total_cents: int
    paid_cents: int = 0
    credited_cents: int = 0
    voided: bool = False
    is_test: bool = False
    line_credits: dict[int, int] = {}

    @property
    def balance(self) -> InvoiceBalance:
        """What it comes to."""
        return InvoiceBalance(
            total_cents=self.total_cents, paid_cents=self.paid_cents, credited_cents=self.credited_cents
        )

    @property
    def due_cents(self) -> int:
        """What is still to be paid; below nothing where the customer has more coming."""
        return self.total_cents - self.paid_cents - self.credited_cents

    def state(self, now: datetime) -> IssuedState:
        """How it stands at an instant; whether it is overdue follows from time alone, and is kept nowhere."""
        if self.voided:
            return "void"
        if self.due_cents <= 0:
            return "paid"
        if now >= self.due_at:
            return "overdue"
        return "partly_paid" if self.paid_cents > 0 else "open"
