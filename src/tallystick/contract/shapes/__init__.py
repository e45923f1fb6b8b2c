"""Price shapes: how a quantity becomes an exact amount of USD, one shape a file.

Every shape is a function of the period's total: `charge(total)`. Three rules hold for all of them:

- `up_to` is inclusive, and a fractional quantity belongs to the tier that it falls in;
- below a total of zero the first tier goes on downwards;
- a later change of a total that was charged already is charged `charge(total + change) - charge(total)`
  (`charge_change`), so that it walks the same tiers, downwards as well as upwards.

Nothing is rounded here; the invoice line rounds once.
"""

from __future__ import annotations

from fractions import Fraction

from tallystick.contract.shapes.charge import Charge, TierCharge, difference
from tallystick.contract.shapes.cost_plus import CostPlus
from tallystick.contract.shapes.graduated import Graduated
from tallystick.contract.shapes.package import Package
from tallystick.contract.shapes.per_unit import PerUnit
from tallystick.contract.shapes.tier import Tier
from tallystick.contract.shapes.volume import Volume

__all__ = [
    "Charge",
    "CostPlus",
    "Graduated",
    "Package",
    "PerUnit",
    "Shape",
    "Tier",
    "TierCharge",
    "Volume",
    "charge",
    "charge_change",
]

Shape = PerUnit | Package | Graduated | Volume | CostPlus


def charge(shape: Shape, quantity: Fraction, cost_usd: Fraction) -> Charge:
    """What a period's total of `quantity`, which cost us `cost_usd`, is charged."""
    if isinstance(shape, CostPlus):
        return shape.charge(quantity, cost_usd)
    return shape.charge(quantity)


def charge_change(shape: Shape, running: Fraction, change: Fraction, cost_change_usd: Fraction) -> Charge:
    """What is charged, or given back, when the total `running` moves by `change`."""
    after = charge(shape, running + change, cost_change_usd)
    before = charge(shape, running, Fraction(0))
    return difference(after, before)
