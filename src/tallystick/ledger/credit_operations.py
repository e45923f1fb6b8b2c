"""Credits in money: an org is given an amount that its next invoices use up, or redeems a promo code.

    kind             what it is
    invoice_credit   an amount of USD is given: as goodwill, for a breach of the SLA, to settle a dispute, to please
    promo            a promo code is redeemed: a share of some invoices, or an amount

Both are promises: they move nothing. What an invoice uses of them it moves itself when it is issued
(`ledger.invoice_operations`). Amounts are whole cents of USD.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

CreditKind = Literal["invoice_credit", "promo"]
CREDIT_KINDS: tuple[CreditKind, ...] = ("invoice_credit", "promo")

CreditSource = Literal["promo", "sla", "dispute", "goodwill"]
CREDIT_SOURCES: tuple[CreditSource, ...] = ("promo", "sla", "dispute", "goodwill")
"""Why it is given, in the order in which invoices use it up."""

ABOUT_BYTES_MAX = 16_384
"""The most that the evidence of a credit may have, as canonical JSON."""
WHOLE_BP = 10_000
"""Basis points of the whole."""


class GiveCredit(msgspec.Struct, frozen=True, kw_only=True):
    """An amount of money is to be given, for invoices to come.

    Attributes:
        amount_cents: above nothing.
        expires_at: from when on what is left of it is gone; None for never.
        from_month: the first month whose invoice may use it, such as `2026-11`; None for any.
        about: what it was computed from, as canonical JSON; None where nobody computed it.
    """

    source: CreditSource
    amount_cents: int
    author: str
    reason: str
    expires_at: datetime | None = None
    from_month: str | None = None
    about: str | None = None


class CreditGiven(msgspec.Struct, frozen=True, kw_only=True):
    """Of an `invoice_credit`.

    Attributes:
        left_cents: what is left of all amounts that the org was given and that are not over, this one among them.
    """

    left_cents: int


class RedeemPromo(msgspec.Struct, frozen=True, kw_only=True):
    """A promo code is to be redeemed.

    Attributes:
        code: in capitals.
        author: who redeems it.
        is_test: whether the org has a test clock: it takes no place from those who pay.
    """

    code: str
    author: str
    is_test: bool = False


class Redeemed(msgspec.Struct, frozen=True, kw_only=True):
    """Of a `promo`: what the code gives, as it was defined then.

    Attributes:
        version: of the code's definition.
        percent_bp: the share of an invoice, in basis points; None of an amount.
        amount_cents: the amount; None of a share.
        invoices: of how many invoices the share is taken; None for all until it ends.
        cap_cents: the most that the share of one invoice may be; None for no bound.
        minimum_cents: it is used only for invoices whose total is that or more.
        expires_at: from when on what is left is gone; None for never.
        left_cents: as that of `CreditGiven`.
    """

    version: int
    percent_bp: int | None
    amount_cents: int | None
    invoices: int | None
    cap_cents: int | None
    minimum_cents: int
    expires_at: datetime | None
    left_cents: int


CreditRequest = GiveCredit | RedeemPromo
CreditResult = CreditGiven | Redeemed
