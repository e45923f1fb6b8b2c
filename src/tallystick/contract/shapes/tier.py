"""One tier of a graduated or volume price."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Tier:
    """`unit_usd` for every `per` units, and `flat_usd` for entering it.

    `up_to` is the last quantity that still belongs to the tier; None in the last tier, which has no end.
    """

    up_to: Fraction | None
    unit_usd: Fraction
    per: Fraction = Fraction(1)
    flat_usd: Fraction = Fraction(0)


def check_tiers(tiers: tuple[Tier, ...]) -> None:
    """Assert what the loader has checked already: bounds ascend, and only the last tier is open-ended.

    Raises:
        ValueError: they do not; a quantity would belong to no tier or to two.
    """
    bounds = [tier.up_to for tier in tiers]
    if not bounds or bounds[-1] is not None:
        raise ValueError("the last tier must be open-ended")
    below = Fraction(0)
    for bound in bounds[:-1]:
        if bound is None or bound <= below:
            raise ValueError("tiers must ascend by up_to, from above zero")
        below = bound
