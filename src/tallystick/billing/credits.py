"""What an org was given in money, and how an invoice uses it up.

    1  shares of promo codes     each of what is left after those before it
    2  amounts of promo codes
    3  credits for breaches of the SLA
    4  credits that settle disputes
    5  goodwill
    6  what the customer has too much on other invoices, oldest invoice first

Within a group what ends soonest is used first, then what was given first. An invoice is never brought below nothing;
what is left of a credit stays for the next one. An invoice that comes to nothing, or less, uses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec

from tallystick.core.money import divide_half_even
from tallystick.ledger.credit_operations import CREDIT_SOURCES, WHOLE_BP, CreditSource
from tallystick.ledger.invoice_operations import Applied

RETURN_GRACE = timedelta(days=62)
"""For how long at least what a void gives back can be used: the next invoice comes within that."""
_NEVER = datetime.max.replace(tzinfo=UTC)


class CreditLot(msgspec.Struct, frozen=True, kw_only=True):
    """What an org was given by one entry: an amount, or a share of some invoices.

    Attributes:
        seq: the entry.
        amount_cents, left_cents: of an amount: how much, and what is left; nothing of a share.
        percent_bp: of a share: in basis points; None of an amount.
        cap_cents: the most that the share of one invoice may be.
        invoices_left: of how many more invoices the share is taken; None for all, and of an amount.
        minimum_cents: invoices whose total is less do not use it.
        from_month: invoices of earlier months do not use it.
        code: of a promo.
        is_test: of a promo that a test org redeemed.
    """

    seq: int
    source: CreditSource
    given_at: datetime
    expires_at: datetime | None
    amount_cents: int = 0
    left_cents: int = 0
    percent_bp: int | None = None
    cap_cents: int | None = None
    invoices_left: int | None = None
    minimum_cents: int = 0
    from_month: str | None = None
    code: str | None = None
    is_test: bool = False

    def is_over(self, now: datetime) -> bool:
        """Whether it has come to its end by time."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left of it."""
        return self.invoices_left == 0 if self.percent_bp is not None else self.left_cents == 0


def left_of(lots: Iterable[CreditLot], now: datetime) -> int:
    """What is left of amounts that are not over, in cents."""
    return sum([lot.left_cents for lot in lots if not lot.is_over(now)])


def use_credits(
    lots: Iterable[CreditLot], now: datetime, month: str, total_cents: int
) -> tuple[list[Applied], list[CreditLot]]:
    """What an invoice over that total uses, in order, and how those lots stand then.

    Args:
        now: when it is issued.
        month: the invoice's.
    """
    used, changed, left_cents = [], [], total_cents
    for lot in sorted(_usable(lots, now, month, total_cents), key=_place):
        if left_cents <= 0:
            break
        cents = _worth(lot, left_cents)
        if not cents:
            continue
        left_cents -= cents
        used.append(
            Applied(
                seq=lot.seq, source=lot.source, amount_cents=cents, percent_bp=lot.percent_bp, label=lot.code
            )
        )  # fmt: skip
        changed.append(_less(lot, cents))
    return used, changed


def give_back(lot: CreditLot, used: Applied, now: datetime) -> CreditLot:
    """The lot with what an invoice had used of it again, as the invoice is void."""
    expires_at = None if lot.expires_at is None else max(lot.expires_at, now + RETURN_GRACE)
    if lot.percent_bp is None:
        return msgspec.structs.replace(lot, left_cents=lot.left_cents + used.amount_cents, expires_at=expires_at)
    invoices_left = None if lot.invoices_left is None else lot.invoices_left + 1
    return msgspec.structs.replace(lot, invoices_left=invoices_left, expires_at=expires_at)


def _usable(lots: Iterable[CreditLot], now: datetime, month: str, total_cents: int) -> list[CreditLot]:
    return [
        lot
        for lot in lots
        if not lot.is_used_up
        and not lot.is_over(now)
        and total_cents >= lot.minimum_cents
        and (lot.from_month is None or month >= lot.from_month)
    ]


def _place(lot: CreditLot) -> tuple[int, datetime, int]:
    group = -1 if lot.percent_bp is not None else CREDIT_SOURCES.index(lot.source)
    return group, lot.expires_at or _NEVER, lot.seq


def _worth(lot: CreditLot, left_cents: int) -> int:
    if lot.percent_bp is None:
        return min(lot.left_cents, left_cents)
    share_cents = divide_half_even(left_cents * lot.percent_bp, WHOLE_BP)
    return share_cents if lot.cap_cents is None else min(share_cents, lot.cap_cents)


def _less(lot: CreditLot, cents: int) -> CreditLot:
    if lot.percent_bp is None:
        return msgspec.structs.replace(lot, left_cents=lot.left_cents - cents)
    if lot.invoices_left is None:
        return lot
    return msgspec.structs.replace(lot, invoices_left=lot.invoices_left - 1)
