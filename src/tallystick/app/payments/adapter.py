"""What a payment provider is to the rest: it signs what it sends, and can be asked whether it is so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tallystick.billing.payment_fact import PaymentFact
from tallystick.core.errors import BadInput, Unavailable

RETRY_SECONDS: Final = 30


class PaymentAdapter(Protocol):
    """One provider, as the operator has set it up. It may be used by several threads at once."""

    name: str
    """As it stands in the callback's address, and before the colon of a payment's request id."""

    def verify(self, headers: Mapping[str, str], body: bytes) -> str:
        """The id of the event that a callback tells of, which the provider has signed.

        Args:
            headers: by name in lower case.
            body: the bytes as they came.

        Raises:
            BadInput: `invalid_signature`, `invalid_callback`.
        """
        ...

    def fetch(self, event_id: str) -> PaymentFact:
        """What the provider says of the event, asked now: nothing in it is from the callback.

        Raises:
            BadInput: `payment_event_unverified`, `payment_mode_mismatch`, `payment_account_mismatch`.
            Unavailable: `payment_provider_unavailable`; asking again is safe.
        """
        ...


def invalid_signature(why: str) -> BadInput:
    """The refusal of what the provider has not signed, or not just now."""
    return BadInput(
        "invalid_signature",
        f"the callback is not signed as the provider signs: {why}",
        next_step="nothing moved; set the endpoint's signing secret as the provider shows it, and see to the clock",
    )


def invalid_callback(why: str) -> BadInput:
    """The refusal of a body that is signed, and tells of no event."""
    return BadInput(
        "invalid_callback",
        f"the callback tells of no event: {why}",
        next_step="nothing moved; have the provider send its events as they are, without data of other versions",
    )


def unavailable(name: str, why: str) -> Unavailable:
    """The answer where the provider cannot be asked: nothing is taken, and it sends the event again."""
    return Unavailable(
        "payment_provider_unavailable",
        f"{name} cannot be asked about the event: {why}",
        next_step="nothing moved; it is safe to send the event again",
        retry_after_seconds=RETRY_SECONDS,
    )
