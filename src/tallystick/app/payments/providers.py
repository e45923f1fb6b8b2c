"""The payment providers whose callbacks are taken here, as the operator has set them up."""

from __future__ import annotations

from tallystick.app.payments.adapter import PaymentAdapter
from tallystick.app.settings import Settings
from tallystick.core.errors import NotFound

_made: dict[tuple[object, ...], PaymentAdapter] = {}


def find_adapter(settings: Settings, provider: str) -> PaymentAdapter:
    """The provider of that name; made once for the same settings.

    Payments that a person records (`manual`) come by no callback.

    Raises:
        NotFound: `unknown_provider`.
        Unavailable: `payment_library_missing`.
        BadInput: `invalid_setting`.
    """
    from tallystick.app.payments.stripe import NAME, StripeAdapter

    if provider == NAME:
        key, secrets = settings.stripe_key, settings.stripe_secrets
        if key and secrets:
            identity = (NAME, key, secrets, settings.stripe_api_base, settings.stripe_account)
            made = _made.get(identity)
            if made is None:
                made = StripeAdapter(settings)
                _made.clear()  # what was set before is set no longer
                _made[identity] = made
            return made
    raise NotFound(
        "unknown_provider",
        f"no callbacks of {provider[:64]!r} are taken here",
        next_step="stripe is set up by TALLY_STRIPE_API_KEY and TALLY_STRIPE_WEBHOOK_SECRET; "
        "payments by other ways are recorded by hand: tally invoice pay",
        where="provider",
    )
