"""Graduated: each unit costs what the tier says that it falls in."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tallystick.contract.shapes.charge import Charge, TierCharge, tier_charge, total
from tallystick.contract.shapes.tier import Tier, check_tiers


@dataclass(frozen=True, slots=True)
class Graduated:
    """Tiers fill up one after the other; a tier's flat fee is due once anything falls in it.

    The first tier is always entered: its flat fee is due at zero usage too.
    """

    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        check_tiers(self.tiers)

    def charge(self, quantity: Fraction) -> Charge:
        """The sum over the tiers entered, each at its own price; below zero the first tier goes on."""
        entered: list[TierCharge] = []
        below = Fraction(0)
        for position, tier in enumerate(self.tiers, start=1):
            if position > 1 and quantity <= below:
                break
            upper = quantity if tier.up_to is None else min(quantity, tier.up_to)
            entered.append(
                tier_charge(
                    tier=position,
                    quantity=upper - below,
                    unit_usd=tier.unit_usd,
                    per=tier.per,
                    flat_usd=tier.flat_usd,
                    up_to=tier.up_to,
                )
            )
            if tier.up_to is not None:
                below = tier.up_to
        return total(tuple(entered))
