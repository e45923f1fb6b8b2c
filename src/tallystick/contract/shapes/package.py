"""Package: units are sold in whole packages, after some that are free."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from tallystick.contract.shapes.charge import Charge, TierCharge, tier_charge, total


@dataclass(frozen=True, slots=True)
class Package:
    """`price_usd` for every package of `size` units that is begun, after `free` units.

    With free units, the first tier is the free one: up to `free`, and below zero, nothing is charged.
    Without them a total below zero gives back whole packages, and a package that is only begun is kept.
    """

    size: Fraction
    price_usd: Fraction
    free: Fraction = Fraction(0)

    def charge(self, quantity: Fraction) -> Charge:
        """Whole packages, rounded up, of what exceeds the free units."""
        if not self.free:
            return total((self._packages(1, quantity),))
        free = tier_charge(tier=1, quantity=min(quantity, self.free), unit_usd=Fraction(0), up_to=self.free)
        if quantity <= self.free:
            return total((free,))
        return total((free, self._packages(2, quantity - self.free)))

    def _packages(self, tier: int, quantity: Fraction) -> TierCharge:
        count = ceil(quantity / self.size)
        return tier_charge(
            tier=tier,
            quantity=quantity,
            unit_usd=self.price_usd,
            per=self.size,
            basis="packages",
            billed=count * self.size,
        )
