"""What a payment provider has confirmed of one of its events: which money moved, and for which invoice it is said to
be.

No name, no card and no address: ids, amounts, and what the collector has written to say whose the money is.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from tallystick.core.errors import BadInput
from tallystick.core.money import cents_to_usd
from tallystick.core.struct_types import work_out
from tallystick.invoice.canonical import canonical_json
from tallystick.ledger.invoice_operations import CENTS_MAX

What = Literal["paid", "returned", "reverted"]
PaymentState = Literal["pending", "recorded", "ignored", "unmatched", "refused"]
PAYMENT_STATES: Final[tuple[PaymentState, ...]] = ("pending", "recorded", "ignored", "unmatched", "refused")
"""pending: it came, and nothing was done about it yet; unmatched: nobody has said yet whose money it is."""
CURRENCY: Final = "usd"


class Movement(msgspec.Struct, frozen=True, omit_defaults=True):
    """Money that moved at the provider. It counts once, by its id, whichever events speak of it and however often.

    Attributes:
        id: the provider's own.
        what: paid: it came in; returned: it went back to the customer; reverted: what went back has come in again.
        amount: in the currency's smallest unit, as the provider counts; above nothing.
        currency: ISO 4217, in lower case.
        of: the movement that this one returns or reverts.
    """

    id: str
    what: What
    amount: int
    currency: str
    of: str | None = None


class PaymentFact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event, as its provider has confirmed it.

    Attributes:
        livemode: whether the money is real.
        payment_id: the payment that it is about, by which events that belong together are found.
        movements: in the order in which they happened; none where the event moves nothing.
        reason: why nothing moves.
        invoice_id, invoice_number, org_id: what the collector has written of whose money it is.
    """

    event_id: str
    type: str
    livemode: bool
    payment_id: str | None = None
    movements: tuple[Movement, ...] = ()
    reason: str | None = None
    invoice_id: str | None = None
    invoice_number: str | None = None
    org_id: str | None = None

    @property
    def references(self) -> tuple[str, ...]:
        """The names of invoices that the money is said to be for."""
        return tuple(name for name in (self.invoice_id, self.invoice_number) if name)


work_out(PaymentFact)


def encode_fact(fact: PaymentFact) -> str:
    """As canonical JSON (RFC 8785)."""
    return canonical_json(msgspec.to_builtins(fact)).decode()


def decode_fact(text: str) -> PaymentFact:
    """What `encode_fact` has written."""
    return msgspec.json.decode(text, type=PaymentFact)


def movement_usd(movement: Movement) -> str:
    """The amount as a decimal string of USD.

    An amount of another currency is never turned into one, not even its digits: some currencies have no cents.

    Raises:
        BadInput: `currency_not_supported`, `invalid_amount`.
    """
    if movement.currency != CURRENCY:
        raise BadInput(
            "currency_not_supported",
            f"invoices are in USD, and {movement.id} is in {movement.currency[:8].upper()}",
            next_step="nothing moved; have it converted, and record what came in in USD",
            where="currency",
        )
    if not 0 < movement.amount <= CENTS_MAX:
        raise BadInput(
            "invalid_amount",
            f"{movement.amount} cents is no amount to be moved",
            next_step="nothing moved; look the payment up at the provider",
            where="amount_usd",
        )
    return cents_to_usd(movement.amount)
