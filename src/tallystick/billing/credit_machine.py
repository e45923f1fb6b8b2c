"""What becomes of credits in money that are given, and of promo codes that are redeemed: promises, which move nothing.

As in `billing.machine`, each function gives the entry to append, and the credit that stands with it, or raises.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from tallystick.billing.credits import CreditLot, left_of
from tallystick.billing.machine import Change, check_cents
from tallystick.billing.model import Book
from tallystick.core.errors import BadInput, Conflict
from tallystick.core.instants import format_instant
from tallystick.ledger.credit_operations import WHOLE_BP, CreditGiven, GiveCredit, Redeemed, RedeemPromo
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.org_account import Step


def give(book: Book, seq: int, now: datetime, request: GiveCredit) -> Change:
    """An amount is given, for invoices to come.

    Raises:
        BadInput: `invalid_amount`, `credit_expired_already`.
    """
    check_cents(request.amount_cents)
    if request.expires_at is not None and request.expires_at <= now:
        raise BadInput(
            "credit_expired_already",
            f"it would end at {format_instant(request.expires_at)}, which is over",
            next_step="name a time to come, or none",
            where="expires_at",
        )
    lot = CreditLot(
        seq=seq,
        source=request.source,
        given_at=now,
        expires_at=request.expires_at,
        amount_cents=request.amount_cents,
        left_cents=request.amount_cents,
        from_month=request.from_month,
    )
    result = CreditGiven(left_cents=left_of(book.lots.values(), now) + request.amount_cents)
    return Change(Step(seq, "invoice_credit", request, result), None, lots=(lot,))


def redeem(book: Book, seq: int, now: datetime, request: RedeemPromo, offered: Redeemed) -> Change:
    """A code is redeemed, once by each org.

    Args:
        offered: what it gives (`billing.promos.terms_of`).

    Raises:
        Conflict: `promo_used`.
        ValueError: what it gives is nothing that a code can give.
    """
    check_unused(book, request.code)
    percent_bp, cents = offered.percent_bp, offered.amount_cents
    if (percent_bp is None) == (cents is None) or not (percent_bp or cents or 0) > 0:
        raise ValueError(f"the code {request.code} gives neither a share nor an amount, or both")
    if percent_bp is not None and percent_bp > WHOLE_BP:
        raise ValueError(f"the code {request.code} gives more than the whole")
    lot = CreditLot(
        seq=seq,
        source="promo",
        given_at=now,
        expires_at=offered.expires_at,
        amount_cents=cents or 0,
        left_cents=cents or 0,
        percent_bp=percent_bp,
        cap_cents=offered.cap_cents,
        invoices_left=offered.invoices,
        minimum_cents=offered.minimum_cents,
        code=request.code,
        is_test=request.is_test,
    )
    result = msgspec.structs.replace(offered, left_cents=left_of(book.lots.values(), now) + (cents or 0))
    return Change(Step(seq, "promo", request, result), None, lots=(lot,))


def check_unused(book: Book, code: str) -> None:
    """Refuse a code that the org has redeemed: `promo_used`."""
    used = next((lot for lot in book.lots.values() if lot.code == code), None)
    if used is not None:
        raise Conflict(
            "promo_used",
            f"the promo code {code} is redeemed already, since {format_instant(used.given_at)}, as "
            f"{operation_id('promo', used.seq)}",
            next_step="nothing moved: a code can be redeemed once",
            where="code",
        )
