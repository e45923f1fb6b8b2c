"""Volume: every unit costs what the tier says that the total reaches."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tallystick.contract.shapes.charge import Charge, tier_charge, total
from tallystick.contract.shapes.tier import Tier, check_tiers


@dataclass(frozen=True, slots=True)
class Volume:
    """One tier prices everything, and only its flat fee is due; the first one's at zero usage too.

    The charge is a cliff: one unit more may lower it, when the next tier is cheaper.
    """

    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        check_tiers(self.tiers)

    def charge(self, quantity: Fraction) -> Charge:
        """The whole quantity at the price of the first tier whose `up_to` it does not exceed."""
        position, tier = next(
            (position, tier)
            for position, tier in enumerate(self.tiers, start=1)
            if tier.up_to is None or quantity <= tier.up_to
        )
        return total(
            (
                tier_charge(
                    tier=position,
                    quantity=quantity,
                    unit_usd=tier.unit_usd,
                    per=tier.per,
                    flat_usd=tier.flat_usd,
                    up_to=tier.up_to,
                ),
            )
        )
