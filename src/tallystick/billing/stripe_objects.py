"""Stripe's objects, read: what of an event, a payment, a refund or a dispute is a fact here. Without asking anybody.

    object            it is a movement when                          known by
    PaymentIntent     `status` is `succeeded`, or parts of it are    its own id
                      captured: `amount_received`
    Charge            `paid` and `captured`: `amount_captured`       its PaymentIntent's id, else its own
    Refund            `status` is `succeeded`: `amount`              its own id
    Dispute           `status` is `lost`: `amount`                   its own id

Captured in parts, a PaymentIntent tells of the sum so far, and so does its charge: the larger one counts.

A refund that has failed, and a dispute that is not lost after all, revert what they had moved, if they had. Everything
is as it is now, and not as it was when the event was made: so it does not matter in which order events come.
Source: Stripe's API reference, version 2026-10-28.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tallystick.billing.payment_fact import Movement
from tallystick.core.errors import BadInput
from tallystick.invoice.canonical import INTEGER_MAX

PAID_TYPES: Final = frozenset(
    {
        "payment_intent.succeeded", "payment_intent.amount_capturable_updated",
        "charge.succeeded", "charge.captured", "charge.updated",
    }
)  # fmt: skip
RETURNED_TYPES: Final = frozenset(
    {"charge.refunded", "charge.refund.updated", "refund.created", "refund.updated", "refund.failed"}
)
DISPUTED_TYPES: Final = frozenset(
    f"charge.dispute.{what}" for what in ("created", "updated", "closed", "funds_withdrawn", "funds_reinstated")
)
MOVING_TYPES: Final = PAID_TYPES | RETURNED_TYPES | DISPUTED_TYPES
"""The types of events that may move money. Whatever else is sent moves none."""

REFERENCES: Final = ("invoice_id", "invoice_number", "org_id")
"""The keys of an object's `metadata` that say whose money it is."""
REFERENCE_LENGTH_MAX: Final = 512

_IN_PARTS: Final = ("requires_capture", "canceled")
"""Where a PaymentIntent stands that parts of may have been captured of; canceled, there are no more of them."""
_ID = re.compile(r"[A-Za-z0-9_]{1,255}")
Object = Mapping[str, Any]


def object_id(value: object) -> str:
    """The id of an object, whether it is given as its id or whole.

    Raises:
        BadInput: `payment_event_unverified`: it is none.
    """
    found = value.get("id") if isinstance(value, Mapping) else value
    if not isinstance(found, str) or _ID.fullmatch(found) is None:
        raise unverified("an object of it has no id")
    return found


def optional_id(value: object) -> str | None:
    """The same of what may not be there."""
    return None if value is None else object_id(value)


def metadata_of(*objects: Object | None) -> dict[str, str]:
    """What the collector has written of whose money it is, in the first of these objects that says anything of it."""
    for one in objects:
        written = {} if one is None else one.get("metadata")
        if isinstance(written, Mapping):
            said = {name: written[name].strip() for name in REFERENCES if isinstance(written.get(name), str)}
            said = {name: text for name, text in said.items() if _is_name(text)}
            if said:
                return said
    return {}


def paid_by_intent(intent: Object, charge: Object | None = None) -> Movement | None:
    """The money that came in by a PaymentIntent, all its parts; None where none has yet.

    Args:
        charge: its charge, where it is known.
    """
    paid = None
    if intent.get("status") == "succeeded" or (intent.get("status") in _IN_PARTS and intent.get("amount_received")):
        paid = _movement(intent, "paid", "amount_received")
    if charge is None or charge.get("paid") is not True or charge.get("status") != "succeeded":
        return paid
    if not charge.get("amount_captured"):
        return paid
    captured = _movement(charge, "paid", "amount_captured")
    if captured is None or (paid is not None and paid.amount >= captured.amount):
        return paid
    return Movement(object_id(intent), "paid", captured.amount, captured.currency)


def paid_by_charge(charge: Object) -> Movement | None:
    """The money that came in by a charge without a PaymentIntent."""
    if charge.get("paid") is not True or charge.get("captured") is not True or charge.get("status") != "succeeded":
        return None
    return _movement(charge, "paid", "amount_captured")


def returned_by_refund(refund: Object, payment_id: str) -> Movement | None:
    """The money that went back by a refund; of one that has failed, that it came in again."""
    match refund.get("status"):
        case "succeeded":
            return _movement(refund, "returned", "amount", payment_id)
        case "failed" | "canceled":
            return _reverted(refund)
    return None


def returned_by_dispute(dispute: Object, payment_id: str) -> Movement | None:
    """The money that the customer's bank took back for good; of a dispute that was won, that it came in again."""
    match dispute.get("status"):
        case "lost":
            return _movement(dispute, "returned", "amount", payment_id)
        case "won":
            return _reverted(dispute)
    return None


def unverified(why: str) -> BadInput:
    """The refusal of an event that the provider does not confirm."""
    return BadInput(
        "payment_event_unverified",
        f"the provider does not confirm this event: {why}",
        next_step="nothing moved; see whether it is of the account that TALLY_STRIPE_API_KEY belongs to",
    )


def _reverted(one: Object) -> Movement | None:
    moved = _movement(one, "reverted", "amount")
    return (
        None if moved is None else Movement(f"{moved.id}:reverted", "reverted", moved.amount, moved.currency, moved.id)
    )


def _movement(one: Object, what: Any, amount_name: str, of: str | None = None) -> Movement | None:
    amount, currency = one.get(amount_name), one.get("currency")
    if type(amount) is not int or not 0 <= amount <= INTEGER_MAX or not isinstance(currency, str):
        raise unverified(f"{object_id(one)} has no amount")
    return Movement(object_id(one), what, amount, currency.lower()[:8], of) if amount else None


def _is_name(text: str) -> bool:
    return 0 < len(text) <= REFERENCE_LENGTH_MAX and text.isprintable()
