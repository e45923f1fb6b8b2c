"""The sentence of each charge line: how its amount came about, in figures that can be checked by hand."""

from __future__ import annotations

from fractions import Fraction

from tallystick.contract.model import Plan, Price
from tallystick.contract.shapes import Charge, CostPlus, Graduated, TierCharge, Volume
from tallystick.contract.words import number, percent, rate, usd


def base_fee_sentence(plan: Plan, days: int, days_of_month: int) -> str:
    """The base fee's line; a whole month's when the two numbers are the same."""
    if days == days_of_month:
        return f"Base fee of the {plan.title} plan."
    shared = _shared(plan.base_usd, days, days_of_month)
    return f"Base fee of the {plan.title} plan for {days} of {days_of_month} days: {shared}."


def true_up_sentence(commit_usd: Fraction, charged_usd: Fraction, days: int, days_of_month: int) -> str:
    """The true-up's line; a whole month's when the two numbers are the same."""
    if days == days_of_month:
        return f"Minimum commit of {usd(commit_usd)} less {usd(charged_usd)} charged above."
    shared = _shared(commit_usd, days, days_of_month)
    return f"Minimum commit for {days} of {days_of_month} days, {shared}, less {usd(charged_usd)} charged above."


def _shared(amount_usd: Fraction, days: int, days_of_month: int) -> str:
    return f"{usd(amount_usd)} × {days}/{days_of_month}"


def usage_sentence(
    meter: str,
    price: Price,
    parts: tuple[tuple[str, Fraction], ...],
    charged: Charge,
    running: Fraction | None,
) -> str:
    """A usage line: quantity, what it is made of, and each tier's arithmetic.

    `running` is the total that a later change starts from; None for a period's total.
    """
    quantity = sum((part for _, part in parts), Fraction(0))
    made_of = [f"{number(part)} {name}" for name, part in parts]
    # Only worth saying when more than the meter itself was counted.
    counted = f" ({' + '.join(made_of)})" if [name for name, _ in parts] not in ([meter], []) else ""
    change = (
        "" if running is None else f", a change of the total from {number(running)} to {number(running + quantity)}"
    )
    sums = "; ".join(_tier_sentence(tier, price) for tier in charged.tiers) or "no tier changes"
    return f"{number(quantity)} {meter}{counted}{change}: {sums}."


def _tier_sentence(tier: TierCharge, price: Price) -> str:
    if isinstance(price.shape, CostPlus):
        return f"our cost of {usd(tier.billed)} plus {percent(price.shape.share)} = {usd(tier.amount_usd)}"
    if tier.basis == "units" and tier.up_to is not None and not tier.unit_usd and not tier.flat_usd:
        return f"{number(tier.quantity)} free"
    named = f"tier {tier.tier}, " if isinstance(price.shape, Graduated | Volume) else ""
    if tier.basis == "packages":
        count = tier.billed / tier.per
        times = f"{number(count)} package{'' if count == 1 else 's'} of {number(tier.per)} × {usd(tier.unit_usd)}"
    else:
        times = f"{number(tier.quantity)} × {rate(tier.unit_usd, tier.per)}"
    flat = f" + {usd(tier.flat_usd)} flat" if tier.flat_usd else ""
    return f"{named}{times}{flat} = {usd(tier.amount_usd)}"
