"""Issued invoices as they stand: what they come to, what has happened to them, and what the org has in credits."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple, get_args

import msgspec

from tallystick.billing.credits import CreditLot
from tallystick.ledger.invoice_operations import Applied, InvoiceBalance, InvoiceKind

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
        applied: what it used of credits as it was issued; that never changes.
        applied_cents: what credits pay of it now; nothing once it is void.
        carried: by the entry that issued another invoice, what is paid of this one by what the customer had too much on
            that, in cents; below nothing: of that one by this.
        carried_cents: the sum of those.
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
    applied: tuple[Applied, ...] = ()
    applied_cents: int = 0
    carried: dict[int, int] = {}
    carried_cents: int = 0

    @property
    def balance(self) -> InvoiceBalance:
        """What it comes to."""
        return InvoiceBalance(
            total_cents=self.total_cents,
            paid_cents=self.paid_cents,
            credited_cents=self.credited_cents,
            applied_cents=self.applied_cents,
            carried_cents=self.carried_cents,
        )

    @property
    def due_cents(self) -> int:
        """What is still to be paid; below nothing where the customer has more coming."""
        return self.balance.due_cents

    def carry(self, seq: int, cents: int) -> InvoiceAccount:
        """With so much more paid of it by what the customer had too much on the invoice issued by that entry."""
        carried = {**self.carried, seq: self.carried.get(seq, 0) + cents}
        return msgspec.structs.replace(
            self,
            carried={other: amount for other, amount in sorted(carried.items()) if amount},
            carried_cents=self.carried_cents + cents,
        )

    def state(self, now: datetime) -> IssuedState:
        """How it stands at an instant; whether it is overdue follows from time alone, and is kept nowhere."""
        if self.voided:
            return "void"
        if self.due_cents <= 0:
            return "paid"
        if now >= self.due_at:
            return "overdue"
        return "partly_paid" if self.paid_cents > 0 else "open"


class Book(msgspec.Struct, kw_only=True):
    """An org's issued invoices and what it was given in money, as far as an operation needs them.

    Attributes:
        accounts: by invoice: the one that is asked about; to issue one, all on which the customer has too much; to void
            one, all.
        lots: by entry: to issue an invoice or to give more, all that are not used up; to redeem a code or to void an
            invoice, all.
    """

    accounts: dict[str, InvoiceAccount] = {}
    lots: dict[int, CreditLot] = {}

    def put(self, accounts: Iterable[InvoiceAccount], lots: Iterable[CreditLot]) -> None:
        """Have these stand so from now on."""
        self.accounts |= {one.invoice_id: one for one in accounts}
        self.lots |= {one.seq: one for one in lots}
