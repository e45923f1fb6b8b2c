"""Cost plus: what the quantity cost us, and a share on top."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tallystick.contract.shapes.charge import Charge, tier_charge, total


@dataclass(frozen=True, slots=True)
class CostPlus:
    """Our exact cost times `1 + share`: a share of 0.30 charges 1.30 USD for what cost us 1 USD."""

    share: Fraction

    def charge(self, quantity: Fraction, cost_usd: Fraction) -> Charge:
        """`cost_usd * (1 + share)`; the quantity is only shown."""
        markup = tier_charge(tier=1, quantity=quantity, unit_usd=1 + self.share, basis="cost_usd", billed=cost_usd)
        return total((markup,))
