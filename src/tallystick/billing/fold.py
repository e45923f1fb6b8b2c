"""Where an org's invoices and its credits in money stand, from its entries alone: what the tables of their state are
compared with.

Each entry must be what `billing.machine` or `billing.credit_machine` makes of it from those before: no amount above
what was left, no number that is not its own series', no payment for what was not issued, no credit used twice.
"""

from __future__ import annotations

from tallystick.billing.credit_machine import give, redeem
from tallystick.billing.machine import Change, decide
from tallystick.billing.model import Book, InvoiceEvent
from tallystick.billing.numbers import number_at, place_of, series_of
from tallystick.core.errors import TallyError
from tallystick.ledger.credit_operations import CREDIT_KINDS, GiveCredit, Redeemed, RedeemPromo
from tallystick.ledger.fold import DoesNotFollow, FoldEntry
from tallystick.ledger.invoice_operations import (
    INVOICE_KINDS,
    Credited,
    CreditInvoice,
    InvoiceRequest,
    InvoiceResult,
    Issued,
    IssueInvoice,
)
from tallystick.ledger.operation_transfers import transfers_in_money


class InvoiceFold:
    """The fold of one org's invoices, entry by entry.

    Attributes:
        book: invoices and credits as they stand.
        events: all that has happened, in order.
        debits, credits: by account of money, what was debited and credited to it, in pico-USD.
    """

    def __init__(self) -> None:
        self.book = Book()
        self.events: list[InvoiceEvent] = []
        self.debits: dict[str, int] = {}
        self.credits: dict[str, int] = {}

    def add(self, entry: FoldEntry) -> None:
        """The org's next operation; those that are none on invoices or credits in money are passed over.

        Raises:
            DoesNotFollow: it does not follow from those before.
        """
        if entry.kind not in INVOICE_KINDS and entry.kind not in CREDIT_KINDS:
            return
        try:
            change = self._change(entry)
        except TallyError as error:
            raise DoesNotFollow(entry.seq, error.detail) from None
        except (KeyError, ValueError) as error:
            if isinstance(error, DoesNotFollow):
                raise
            raise DoesNotFollow(entry.seq, str(error)) from None
        due = (entry.kind, entry.result, entry.refers_to_seq)
        if (change.step.kind, change.step.result, change.step.refers_to_seq) != due:
            raise DoesNotFollow(entry.seq, f"its result is not what follows from it, {change.step.result}")
        self.book.put(change.accounts, change.lots)
        if change.event is not None:
            payment_id = entry.request_id if entry.kind == "payment" else None
            self.events.append(change.event._replace(payment_id=payment_id))
        for debited, credited, amount_pico in transfers_in_money(entry.request, entry.result):
            self.debits[debited] = self.debits.get(debited, 0) + amount_pico
            self.credits[credited] = self.credits.get(credited, 0) + amount_pico

    def _change(self, entry: FoldEntry) -> Change:
        request, result, seq, at = entry.request, entry.result, entry.seq, entry.recorded_at
        if isinstance(request, GiveCredit):
            return give(self.book, seq, at, request)
        if isinstance(request, RedeemPromo) and isinstance(result, Redeemed):
            return redeem(self.book, seq, at, request, result)
        if not isinstance(request, InvoiceRequest) or not isinstance(result, InvoiceResult):
            raise DoesNotFollow(seq, f"a {entry.kind} is no {type(request).__name__}")
        number = result.number if isinstance(result, Issued | Credited) else None
        if number is not None and isinstance(request, IssueInvoice | CreditInvoice):
            self._check_number(entry, request.prefix, number)
        return decide(self.book, seq, at, request, number)

    def _check_number(self, entry: FoldEntry, prefix: str, number: str) -> None:
        try:
            _, place = place_of(number)
        except ValueError as error:
            raise DoesNotFollow(entry.seq, str(error)) from None
        if place < 1 or number_at(series_of(prefix, entry.recorded_at), place) != number:
            raise DoesNotFollow(entry.seq, f"its number {number} is not of its series")
