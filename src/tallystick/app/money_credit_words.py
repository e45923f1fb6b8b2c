"""What an org was given in money, in a sentence, and as plain members: for histories, explanations and lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tallystick.billing.promos import percent_text
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd
from tallystick.ledger.credit_operations import CreditRequest, CreditResult, GiveCredit, Redeemed
from tallystick.ledger.invoice_operations import Applied
from tallystick.ledger.operation_ids import operation_id

SOURCE_WORDS = {
    "promo": "as a promotion",
    "sla": "because service fell short",
    "dispute": "to settle a dispute",
    "goodwill": "as goodwill",
}


def credit_sentence(request: CreditRequest, result: CreditResult) -> str:
    """What the operation was."""
    if isinstance(request, GiveCredit):
        since = "" if request.from_month is None else f", from {request.from_month} on"
        until = "" if request.expires_at is None else f", until {format_instant(request.expires_at)}"
        return f"{_usd(request.amount_cents)} given {SOURCE_WORDS[request.source]}, for the next invoices{since}{until}"
    if isinstance(result, Redeemed):
        return f"promo code {request.code} redeemed: {offer_words(result)}"
    raise TypeError(f"{type(request).__name__} has no result of the type {type(result).__name__}")


def offer_words(offer: Redeemed) -> str:
    """What a code gives, such as `20 percent of the next 3 invoices, until 2027-01-01T00:00:00Z`."""
    if offer.percent_bp is None:
        words = f"{_usd(offer.amount_cents or 0)} for the next invoices"
    else:
        of = "the next invoice" if offer.invoices == 1 else f"the next {offer.invoices} invoices"
        of = "every invoice" if offer.invoices is None else of
        cap = "" if offer.cap_cents is None else f", at most {_usd(offer.cap_cents)} of each"
        words = f"{percent_text(offer.percent_bp)} percent of {of}{cap}"
    least = f", if they come to {_usd(offer.minimum_cents)} or more" if offer.minimum_cents else ""
    until = "" if offer.expires_at is None else f", until {format_instant(offer.expires_at)}"
    return f"{words}{least}{until}"


def credit_members(request: CreditRequest, result: CreditResult) -> dict[str, Any]:
    """All that its entry says, as plain JSON members; amounts are decimal strings of USD."""
    if isinstance(request, GiveCredit):
        return {
            "source": request.source,
            "amount_usd": cents_to_usd(request.amount_cents),
            "from_month": request.from_month,
            "expires_at": None if request.expires_at is None else format_instant(request.expires_at),
            "about": None if request.about is None else msgspec.json.decode(request.about),
            "left_usd": cents_to_usd(result.left_cents),
        }
    assert isinstance(result, Redeemed)  # noqa: S101 - what becomes of a code that is redeemed
    return {
        "source": "promo",
        "code": request.code,
        "code_version": result.version,
        "percent": None if result.percent_bp is None else percent_text(result.percent_bp),
        "amount_usd": None if result.amount_cents is None else cents_to_usd(result.amount_cents),
        "invoices": result.invoices,
        "cap_usd": None if result.cap_cents is None else cents_to_usd(result.cap_cents),
        "minimum_usd": cents_to_usd(result.minimum_cents),
        "expires_at": None if result.expires_at is None else format_instant(result.expires_at),
        "left_usd": cents_to_usd(result.left_cents),
    }


def applied_members(applied: Iterable[Applied]) -> list[dict[str, Any]]:
    """What an invoice uses of credits, in the order of that, as plain JSON members."""
    return [
        {
            "entry_id": credit_id(one),
            "source": one.source,
            "amount_usd": cents_to_usd(one.amount_cents),
            "percent": None if one.percent_bp is None else percent_text(one.percent_bp),
            "label": one.label,
        }
        for one in applied
    ]


def credit_id(used: Applied) -> str:
    """The id of the entry that gave what is used: `k12`, of a promo code `m12`, of another invoice `i12`."""
    kind = "invoice" if used.source == "carried" else "promo" if used.label is not None else "invoice_credit"
    return operation_id(kind, used.seq)


def _usd(cents: int) -> str:
    return f"{cents_to_usd(cents)} USD"
