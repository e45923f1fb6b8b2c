"""Per unit: every unit costs the same."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tallystick.contract.shapes.charge import Charge, tier_charge, total


@dataclass(frozen=True, slots=True)
class PerUnit:
    """`unit_usd` for every `per` units, in proportion: half of `per` costs half of it."""

    unit_usd: Fraction
    per: Fraction = Fraction(1)

    def charge(self, quantity: Fraction) -> Charge:
        """`quantity * unit_usd / per`, also below zero."""
        return total((tier_charge(tier=1, quantity=quantity, unit_usd=self.unit_usd, per=self.per),))
