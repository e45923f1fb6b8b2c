"""The rate card's values: dated integer rows, and what pricing one event with them gives."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec

CostStatus = Literal["final", "partial", "estimated", "unpriced"]


@dataclass(frozen=True, slots=True)
class RateTier:
    """A cliff: when the whole prompt has more than `above` tokens, every unit costs `price_pico` per `per`."""

    above: int
    price_pico: int


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """A time of day in UTC, in minutes since midnight, half-open; it wraps past midnight when start > end."""

    start_minute: int
    end_minute: int


@dataclass(frozen=True, slots=True)
class RateRow:
    """What one meter of one model costs, in which context, and from when until when.

    The price is `price_pico` pico-USD for every `per` units; both are integers, so that 0.05 USD per
    million is exactly (50_000_000_000, 1_000_000). `price_pico` None takes the meter's own price away: what
    it falls back to applies again. `valid_from` None means since always, `valid_to` None until further
    notice. A later version's row prevails over an earlier one's where both are valid; of one version's
    rows, one whose `window` holds prevails over the one without. A request is billed for at least
    `quantity_min` units once there are any.
    """

    provider: str
    model: str
    meter: str
    context: tuple[tuple[str, str], ...]
    per: int
    price_pico: int | None
    tiers: tuple[RateTier, ...] = ()
    window: DailyWindow | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    quantity_min: int = 0

    def valid_at(self, instant: datetime) -> bool:
        """Whether the row is valid at an instant; `valid_to` is the first one at which it no longer is."""
        since, until = self.valid_from, self.valid_to
        return (since is None or since <= instant) and (until is None or instant < until)


# Costs are made by the million: a msgspec.Struct is built in C, six times faster than a frozen dataclass.
class CostLine(msgspec.Struct, frozen=True, gc=False):
    """One meter of one event: quantity × price / per = amount.

    `price_pico`, `per` and `amount_pico` are None when there is no rate (`unpriced`). A meter that no
    provider bills has price 0 per 1 and amount 0. `model` is None for the event's own model, else the
    model that a part of the work was passed on to. The line whose meter is `provider_cost_adjustment`
    brings the sum to what the provider itself stated.
    """

    meter: str
    quantity: int
    price_pico: int | None
    per: int | None
    amount_pico: int | None
    model: str | None = None


class Cost(msgspec.Struct, frozen=True):
    """What one event cost us. `total_pico` is the sum of the lines, or None when any line is unpriced.

    `provider` and `model` are the card's own ids of the rows that priced it, or what was asked for when
    nothing did; `rate_version` names the newest version the price may have come from.
    """

    provider: str | None
    model: str
    lines: tuple[CostLine, ...]
    total_pico: int | None
    status: CostStatus
    rate_version: str
    reason: str | None = None
    """Why it is unpriced, as a sentence for a person; None otherwise."""
