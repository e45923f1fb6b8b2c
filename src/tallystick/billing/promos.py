"""Promo codes: what one gives, to whom, until when; and whether an org may redeem it.

A code is defined by the operator, in versions: the newest holds, and what was redeemed keeps the version of then. It is
written in capitals; `spring24` and `SPRING24` are the same code.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from tallystick.core.errors import Conflict, NotFound
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd
from tallystick.ledger.credit_operations import Redeemed

CODE = re.compile(r"[A-Z0-9][A-Z0-9_-]{2,39}")
"""A code in capitals: 3 to 40 letters of ASCII, digits, `-` and `_`."""


def written_code(text: str) -> str:
    """A code as it is kept, in capitals. Only letters of ASCII have capitals here: what merely looks like a code, or
    becomes one in capitals of other alphabets, stays what it is, and is none.
    """
    return text.strip().upper() if text.isascii() else text


class PromoTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a promo code gives.

    Attributes:
        percent_bp: a share of invoices, in basis points; None of an amount.
        amount_cents: an amount, used up by invoices as they come; None of a share.
        invoices: of how many invoices the share is taken; None for all until it ends.
        cap_cents: the most that the share of one invoice may be.
        minimum_cents: invoices whose total is less do not use it.
        redeem_by: until when it may be redeemed; None for ever.
        expires_after_seconds: how long after it is redeemed what is left is gone; None for never.
        limit: how many orgs may redeem it; None for any number.
        contract, plans: only for orgs on these; None, or none, for all.
        new_customers: only for orgs that no invoice was issued to yet.
        note: what it is for, to those who run this.
    """

    percent_bp: int | None = None
    amount_cents: int | None = None
    invoices: int | None = None
    cap_cents: int | None = None
    minimum_cents: int = 0
    redeem_by: datetime | None = None
    expires_after_seconds: int | None = None
    limit: int | None = None
    contract: str | None = None
    plans: tuple[str, ...] = ()
    new_customers: bool = False
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members; amounts are decimal strings of USD, the share of percent."""
        percent = None if self.percent_bp is None else percent_text(self.percent_bp)
        return {
            "percent": percent,
            "amount_usd": None if self.amount_cents is None else cents_to_usd(self.amount_cents),
            "invoices": self.invoices,
            "cap_usd": None if self.cap_cents is None else cents_to_usd(self.cap_cents),
            "minimum_usd": cents_to_usd(self.minimum_cents),
            "redeem_by": None if self.redeem_by is None else format_instant(self.redeem_by),
            "expires_after_seconds": self.expires_after_seconds,
            "limit": self.limit,
            "contract": self.contract,
            "plans": list(self.plans),
            "new_customers": self.new_customers,
            "note": self.note,
        }


class PromoOffer(NamedTuple):
    """A code as it stands when somebody wants to redeem it: its newest version, and how many have redeemed it."""

    code: str
    version: int
    terms: PromoTerms
    ended: bool
    taken: int


class PromoCustomer(NamedTuple):
    """What a code asks of who redeems it."""

    contract: str | None
    plan: str | None
    is_invoiced: bool


def percent_text(percent_bp: int) -> str:
    """Basis points as percent: `percent_text(1250) == "12.5"`."""
    whole, part = divmod(percent_bp, 100)
    return f"{whole}.{part:02d}".rstrip("0") if part else str(whole)


def terms_of(offer: PromoOffer | None, code: str, customer: PromoCustomer, now: datetime) -> Redeemed:
    """What redeeming a code gives; `left_cents` is for the caller to say.

    What is refused says no more of the code than who has it needs to know.

    Raises:
        NotFound: `unknown_promo`.
        Conflict: `promo_ended`, `promo_expired`, `promo_exhausted`, `promo_not_for_plan`, `promo_for_new_customers`.
    """
    if offer is None:
        raise NotFound(
            "unknown_promo",
            f"there is no promo code {code}",
            next_step="check how it is written",
            where="code",
        )
    terms = offer.terms
    if offer.ended:
        raise _refused("promo_ended", f"the promo code {code} is no longer given")
    if terms.redeem_by is not None and now >= terms.redeem_by:
        raise _refused("promo_expired", f"the promo code {code} could be redeemed until {_day(terms.redeem_by)}")
    if terms.limit is not None and offer.taken >= terms.limit:
        raise _refused("promo_exhausted", f"the promo code {code} has been redeemed as often as it may be")
    if (terms.contract is not None and customer.contract != terms.contract) or (
        terms.plans and customer.plan not in terms.plans
    ):
        raise _refused("promo_not_for_plan", f"the promo code {code} is not for the plan that the org is on")
    if terms.new_customers and customer.is_invoiced:
        raise _refused("promo_for_new_customers", f"the promo code {code} is for orgs that have had no invoice yet")
    return given_by(terms, version=offer.version, at=now)


def given_by(terms: PromoTerms, *, version: int, at: datetime) -> Redeemed:
    """What a version of a code gives who redeems it at an instant; `left_cents` is for the caller to say."""
    life = None if terms.expires_after_seconds is None else timedelta(seconds=terms.expires_after_seconds)
    return Redeemed(
        version=version,
        percent_bp=terms.percent_bp,
        amount_cents=terms.amount_cents,
        invoices=terms.invoices,
        cap_cents=terms.cap_cents,
        minimum_cents=terms.minimum_cents,
        expires_at=None if life is None else at + life,
        left_cents=0,
    )


def _refused(code: str, detail: str) -> Conflict:
    return Conflict(code, detail, next_step="nothing was redeemed; use another code", where="code")


def _day(at: datetime) -> str:
    return format_instant(at)
