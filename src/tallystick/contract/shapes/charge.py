"""What a shape answers: an exact amount, and how each tier contributed to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, NamedTuple

Basis = Literal["units", "packages", "cost_usd"]


@dataclass(frozen=True, slots=True)
class TierCharge:
    """One tier's part of a charge: `amount_usd = billed * unit_usd / per + flat_usd`, always.

    Attributes:
        tier: its position, from 1.
        quantity: how much of the metered quantity fell in it; over all tiers these add up to the quantity.
        basis: what `billed` counts: the units themselves, the units of whole packages, or USD of our cost.
        billed: what the unit price is applied to.
        up_to: the tier's inclusive upper bound, None when it is open-ended.
        unit_usd: price of `per` billed units, in USD.
        per: how many units that price buys.
        flat_usd: fee for entering the tier, in USD.
        amount_usd: exact amount in USD, not rounded.
    """

    tier: int
    quantity: Fraction
    basis: Basis
    billed: Fraction
    up_to: Fraction | None
    unit_usd: Fraction
    per: Fraction
    flat_usd: Fraction
    amount_usd: Fraction


class Charge(NamedTuple):
    """An exact amount in USD, and the tiers that it is made of, in their order."""

    exact_usd: Fraction
    tiers: tuple[TierCharge, ...]


def tier_charge(
    *,
    tier: int,
    quantity: Fraction,
    unit_usd: Fraction,
    per: Fraction = Fraction(1),
    flat_usd: Fraction = Fraction(0),
    up_to: Fraction | None = None,
    basis: Basis = "units",
    billed: Fraction | None = None,
) -> TierCharge:
    """A TierCharge with its amount worked out; `billed` is the quantity itself unless given."""
    counted = quantity if billed is None else billed
    amount = counted * unit_usd / per + flat_usd
    return TierCharge(tier, quantity, basis, counted, up_to, unit_usd, per, flat_usd, amount)


def total(tiers: tuple[TierCharge, ...]) -> Charge:
    """The charge that these tiers add up to."""
    return Charge(sum((tier.amount_usd for tier in tiers), Fraction(0)), tiers)


def difference(after: Charge, before: Charge) -> Charge:
    """`after - before`, tier by tier; a tier in which nothing changed is left out."""
    old = {tier.tier: tier for tier in before.tiers}
    new = {tier.tier: tier for tier in after.tiers}
    changed = tuple(_tier_difference(new.get(key), old.get(key)) for key in sorted(old.keys() | new.keys()))
    kept = tuple(tier for tier in changed if tier.quantity or tier.amount_usd)
    return Charge(after.exact_usd - before.exact_usd, kept)


def _tier_difference(after: TierCharge | None, before: TierCharge | None) -> TierCharge:
    if before is None:
        if after is None:
            raise ValueError("a difference needs a tier on one side")
        return after
    sign = after or _nothing_of(before)
    return replace(
        before,
        quantity=sign.quantity - before.quantity,
        billed=sign.billed - before.billed,
        flat_usd=sign.flat_usd - before.flat_usd,
        amount_usd=sign.amount_usd - before.amount_usd,
    )


def _nothing_of(tier: TierCharge) -> TierCharge:
    zero = Fraction(0)
    return replace(tier, quantity=zero, billed=zero, flat_usd=zero, amount_usd=zero)
