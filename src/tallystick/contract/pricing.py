"""`price_period`: the one function that turns a month's quantities into charge lines.

A quote and an invoice both use it, so that what is promised is what is billed. Order of the lines: the base
fee, one usage line for each priced meter, the commit's true-up. Each line is rounded once, half to even,
to the cent; what rounding took or added stays with the line (`residue_usd`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

from tallystick.contract.line_words import base_fee_sentence, true_up_sentence, usage_sentence
from tallystick.contract.model import Plan, Price
from tallystick.contract.shapes import Charge, CostPlus, TierCharge, charge, charge_change
from tallystick.contract.words import price_words
from tallystick.core.errors import BadInput
from tallystick.core.money import to_cents
from tallystick.usage.meters import meter_order

LineKind = Literal["base_fee", "usage", "commit_true_up"]
ZERO = Fraction(0)
NO_COSTS: Mapping[str, Fraction] = {}


class Days(NamedTuple):
    """How many of a month's days a plan was in force."""

    held: int
    month: int

    @property
    def share(self) -> Fraction:
        """The share of a month's base fee and commit that is due."""
        return Fraction(self.held, self.month)


WHOLE = Days(1, 1)


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One line of a quote or an invoice.

    Attributes:
        kind: `base_fee`, `usage` or `commit_true_up`.
        meter: the priced meter of a usage line, else None.
        quantity: what was priced; on a usage line the sum of `parts`, else 1.
        parts: the meters that the quantity is made of, each with its own quantity.
        tiers: how the amount came about; empty on lines without usage.
        price: the price in words, such as "0.10 USD per 1,000,000".
        exact_usd: the amount before rounding; it has a finite decimal unless it is a share of a month.
        amount_cents: the amount charged, `exact_usd` rounded half to even.
        residue_usd: `exact_usd` less the amount charged, at most half a cent either way.
        description: one sentence for a person.
    """

    kind: LineKind
    meter: str | None
    quantity: Fraction
    parts: tuple[tuple[str, Fraction], ...]
    tiers: tuple[TierCharge, ...]
    price: str
    exact_usd: Fraction
    amount_cents: int
    residue_usd: Fraction
    description: str


def price_period(
    plan: Plan, quantities: Mapping[str, Fraction], costs: Mapping[str, Fraction] = NO_COSTS, days: Days = WHOLE
) -> tuple[ChargeLine, ...]:
    """What a billing period is charged.

    Args:
        plan: the plan in force.
        quantities: the period's total of each meter. Those without a price are not charged
            (see `not_charged`).
        costs: what each meter's quantity cost us, in exact USD; needed for prices that are a share of it.
        days: for how much of the period it was in force. The base fee and the commit are shared out by days; prices,
            with their tiers, free quantities and flat fees, apply in full to what was used.

    Returns:
        The lines. A base fee of zero and a true-up of zero have no line, and neither has a priced meter that
        `quantities` does not name, unless a flat fee is due even so.

    Raises:
        BadInput: `cost_unknown`, when a price is a share of a cost that is not given.
    """
    lines = [] if not plan.base_usd * days.share else [_base_fee(plan, days)]
    for meter, price in plan.prices.items():
        parts = _parts(meter, price, quantities)
        quantity = sum((part for _, part in parts), ZERO)
        charged = charge(price.shape, quantity, _cost(meter, price, parts, costs))
        if charged.exact_usd or any(name in quantities for name in (meter, *price.includes)):
            lines.append(_usage(meter, price, parts, charged, running=None))
    return (*lines, *_true_up(plan, lines, days))


def price_change(
    plan: Plan,
    changes: Mapping[str, Fraction],
    running: Mapping[str, Fraction],
    cost_changes: Mapping[str, Fraction] = NO_COSTS,
) -> tuple[ChargeLine, ...]:
    """What later changes of totals that were charged already are charged, or give back.

    Each meter moves from its total in `running` (zero where that names none) by its entry of `changes`, up
    or down, through the same tiers. There is no base fee and no true-up: those are the period's.

    Raises:
        BadInput: `cost_unknown`, as in `price_period`.
    """
    lines: list[ChargeLine] = []
    for meter, price in plan.prices.items():
        names = (meter, *price.includes)
        if not any(name in changes for name in names):
            continue
        parts = _parts(meter, price, changes)
        change = sum((part for _, part in parts), ZERO)
        before = sum((running.get(name, ZERO) for name in names), ZERO)
        charged = charge_change(price.shape, before, change, _cost(meter, price, parts, cost_changes))
        lines.append(_usage(meter, price, parts, charged, running=before))
    return tuple(lines)


def not_charged(plan: Plan, quantities: Mapping[str, Fraction]) -> dict[str, Fraction]:
    """The quantities that the plan has no price for: shown to the customer, and not charged."""
    charged = {name for meter, price in plan.prices.items() for name in (meter, *price.includes)}
    left = sorted((name for name, quantity in quantities.items() if quantity and name not in charged), key=meter_order)
    return {name: quantities[name] for name in left}


def _parts(meter: str, price: Price, quantities: Mapping[str, Fraction]) -> tuple[tuple[str, Fraction], ...]:
    named = ((name, quantities.get(name)) for name in (meter, *price.includes))
    return tuple((name, quantity) for name, quantity in named if quantity is not None)


def _cost(meter: str, price: Price, parts: tuple[tuple[str, Fraction], ...], costs: Mapping[str, Fraction]) -> Fraction:
    """What the parts cost us. An unknown cost is an error: taken for zero, it would be charged as nothing."""
    if not isinstance(price.shape, CostPlus):
        return ZERO
    unknown = [name for name, quantity in parts if quantity and name not in costs]
    if unknown:
        raise BadInput(
            "cost_unknown",
            f"the price of {meter} is a share of its cost, and the cost of {', '.join(unknown)} is not known",
            next_step="give the cost; for recorded usage, add the missing rates and reprice what is unpriced",
            where=meter,
        )
    return sum((costs.get(name, ZERO) for name in (meter, *price.includes)), ZERO)


def _base_fee(plan: Plan, days: Days) -> ChargeLine:
    sentence = base_fee_sentence(plan, *days)
    return _line("base_fee", plan.base_usd * days.share, price="base fee", description=sentence)


def _usage(
    meter: str, price: Price, parts: tuple[tuple[str, Fraction], ...], charged: Charge, running: Fraction | None
) -> ChargeLine:
    return _line(
        "usage",
        charged.exact_usd,
        meter=meter,
        quantity=sum((quantity for _, quantity in parts), ZERO),
        parts=parts,
        tiers=charged.tiers,
        price=price_words(price),
        description=usage_sentence(meter, price, parts, charged, running),
    )


def _true_up(plan: Plan, lines: list[ChargeLine], days: Days) -> list[ChargeLine]:
    """What is missing to the commit, after the base fee and all usage.

    It is reckoned from what the other lines charge, after their rounding, so that the invoice comes to the
    commit to the cent, and never to a cent less.
    """
    if plan.commit_usd is None:
        return []
    charged = Fraction(sum(line.amount_cents for line in lines), 100)
    missing = plan.commit_usd * days.share - charged
    if missing <= 0:
        return []
    sentence = true_up_sentence(plan.commit_usd, charged, *days)
    return [_line("commit_true_up", missing, price="minimum commit", description=sentence)]


def _line(
    kind: LineKind,
    exact_usd: Fraction,
    *,
    price: str,
    description: str,
    meter: str | None = None,
    quantity: Fraction = Fraction(1),
    parts: tuple[tuple[str, Fraction], ...] = (),
    tiers: tuple[TierCharge, ...] = (),
) -> ChargeLine:
    cents = to_cents(exact_usd)
    residue = exact_usd - Fraction(cents, 100)
    return ChargeLine(kind, meter, quantity, parts, tiers, price, exact_usd, cents, residue, description)
