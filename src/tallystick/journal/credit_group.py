"""Credits in money and promo codes in a group of operations: read, decided on and saved with its invoices.

Codes are locked after the orgs' heads and before the series of numbers, in one order, so that whoever redeems one waits
for the one before to commit or to fail: no place of a limited code is given twice, and none that is refused is taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from tallystick.billing.credit_machine import check_unused, give, redeem
from tallystick.billing.machine import Change
from tallystick.billing.model import Book
from tallystick.billing.promos import PromoCustomer, PromoOffer, terms_of
from tallystick.journal.credit_rows import invoiced_orgs, load_lots, load_offers, lock_codes, save_counts, save_lots
from tallystick.journal.database import Connection
from tallystick.journal.steps import reached
from tallystick.ledger.credit_operations import CreditRequest, GiveCredit, RedeemPromo
from tallystick.ledger.invoice_operations import IssueInvoice, VoidInvoice
from tallystick.ledger.operations import OperationRequest

Terms = tuple[str | None, str | None]
"""The contract and the plan that an org is on."""
NO_TERMS: Terms = (None, None)


class CreditGroup:
    """What a group of operations does with credits in money.

    Args:
        connection: in the group's transaction; the heads of the orgs are locked.
        asked: orgs with what is asked of their invoices and credits.
        books: by org, where invoices and credits are put; there is one for each.
        now: the group's instant.
    """

    def __init__(
        self,
        connection: Connection,
        asked: Iterable[tuple[str, OperationRequest]],
        books: dict[str, Book],
        now: datetime,
    ) -> None:
        self._now = now
        self._books = books
        self._offers: dict[tuple[str, bool], PromoOffer] = {}
        self._invoiced: set[str] = set()
        self._changed: dict[tuple[str, int], None] = {}
        self._counted: set[tuple[str, bool]] = set()
        live, every, redeemed = set(), set(), {}
        for org_id, request in asked:
            if isinstance(request, IssueInvoice | GiveCredit):
                live.add(org_id)
            elif isinstance(request, VoidInvoice | RedeemPromo):
                every.add(org_id)
            if isinstance(request, RedeemPromo):
                redeemed[org_id, request.code] = request
        for org_id, lot in load_lots(connection, live - every, every):
            books[org_id].lots[lot.seq] = lot
        if redeemed:
            codes = {code for _, code in redeemed}
            lock_codes(connection, codes)
            self._offers = load_offers(connection, codes)
            self._invoiced = invoiced_orgs(connection, {org_id for org_id, _ in redeemed})
            reached("credits.codes_locked")

    def decide(self, org_id: str, seq: int, request: CreditRequest, terms: Terms) -> Change:
        """What becomes of an operation; the caller has it count (`put`).

        Args:
            terms: that the org is on.

        Raises:
            TallyError: what the operation is refused for; no place of a code is taken then.
        """
        book = self._books[org_id]
        if isinstance(request, GiveCredit):
            return give(book, seq, self._now, request)
        check_unused(book, request.code)
        place = request.code, request.is_test
        offer = self._offers.get(place)
        is_invoiced = org_id in self._invoiced or bool(book.accounts)
        offered = terms_of(offer, request.code, PromoCustomer(*terms, is_invoiced), self._now)
        change = redeem(book, seq, self._now, request, offered)
        if offer is not None:
            self._offers[place] = offer._replace(taken=offer.taken + 1)
            self._counted.add(place)
        return change

    def put(self, org_id: str, change: Change) -> None:
        """What was decided is to be saved."""
        self._changed |= {(org_id, lot.seq): None for lot in change.lots}

    def save(self, connection: Connection) -> None:
        """Save what was decided, in the transaction that stores the entries."""
        save_lots(connection, [(org_id, self._books[org_id].lots[seq]) for org_id, seq in sorted(self._changed)])
        save_counts(connection, [(is_test, self._offers[code, is_test]) for code, is_test in sorted(self._counted)])
