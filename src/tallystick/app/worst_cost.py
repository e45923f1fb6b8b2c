"""What a request costs us at most: its largest quantities at the prices of now."""

from __future__ import annotations

from datetime import datetime

from tallystick.ledger.operations import Authorize
from tallystick.rates.pricing import RateCard

_NO_MODEL = "-"


def worst_cost_pico(card: RateCard, request: Authorize, now: datetime) -> int | None:
    """Pico-USD at the standard tier; None when it has no price, because the model or a meter has none.

    Meters that the request leaves out count as nothing: the caller states the most of what it may use. A request
    without a model has no price for tokens, and costs nothing but for them.
    """
    model = request.model
    if model is not None and card.resolve(request.provider, model) is None:
        return None
    if model is None and not request.meters:
        return 0
    return card.price(request.provider, model or _NO_MODEL, request.meters, now).total_pico
