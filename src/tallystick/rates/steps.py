"""How one set of meters of one model is priced by plain multiplications, compiled once, and what that gives as columns.

Most events need nothing else: no minimum, no time of day, no price that does not divide. Those that do are priced
by every rule (`rates.pricing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from tallystick.rates.lines import provider_billed
from tallystick.rates.model import CostLine, CostStatus
from tallystick.rates.plan import Plan, Span
from tallystick.usage.meters import PROMPT_METERS, meter_order

Integers = tuple[int | None, ...]


class Bracket(NamedTuple):
    """The meters in the order of a cost's lines, each with its price; amount = quantity × unit."""

    meters: tuple[str, ...]
    price_pico: tuple[int, ...]
    per: tuple[int, ...]
    units: tuple[int, ...]
    steps: tuple[tuple[str, int, int, int], ...]
    """The same, meter by meter."""


class Steps(NamedTuple):
    """How a set of meters is priced in one span, which cliff the prompt is past deciding."""

    cliffs: tuple[int, ...]
    prompt: tuple[str, ...]
    """The meters whose sum is the prompt size."""
    brackets: tuple[Bracket, ...]
    """Up to the first cliff, then above each."""


class Shape(NamedTuple):
    """How one set of meters of one model in one context is priced, span by span."""

    provider: str
    model: str
    plan: Plan
    spans: tuple[Steps | None, ...]
    """None where it takes more than multiplications."""
    always: Bracket | None
    """The one bracket where neither the instant nor the prompt matters."""


class CostRow(msgspec.Struct, gc=False):
    """A cost with its lines as parallel columns, as a table stores it; otherwise the same as `Cost`.

    `models` is None where no line names one.
    """

    meters: tuple[str, ...]
    quantities: Sequence[int]
    price_pico: Integers
    per: Integers
    amount_pico: Sequence[int | None]
    models: tuple[str | None, ...] | None
    total_pico: int | None
    status: CostStatus
    rate_version: str
    reason: str | None = None


def shape_of(provider: str, model: str, plan: Plan, meters: tuple[str, ...]) -> Shape:
    """The shape of a set of meters under a plan."""
    spans = tuple(steps_of(span, meters) for span in plan.spans)
    first = spans[0]
    always = first.brackets[0] if len(spans) == 1 and first is not None and not first.cliffs else None
    return Shape(provider, model, plan, spans, always)


def steps_of(span: Span, meters: tuple[str, ...]) -> Steps | None:
    """The steps of a set of meters in one span; None where it takes more than multiplications."""
    if span.refusal is not None or ("requests" in span.rules and "requests" not in meters):
        return None
    rules = [span.rules[meter] for meter in meters if meter in span.rules]
    cliffs = sorted({above for rule in rules for above, _ in rule.tiers})
    brackets = []
    for prompt in (0, *(above + 1 for above in cliffs)):
        bracket = _bracket(span, meters, prompt)
        if bracket is None:
            return None
        brackets.append(bracket)
    return Steps(tuple(cliffs), tuple(meter for meter in meters if meter in PROMPT_METERS), tuple(brackets))


def _bracket(span: Span, meters: tuple[str, ...], prompt: int) -> Bracket | None:
    """The steps at one prompt size, or None when a meter takes more than a multiplication."""
    ordered = tuple(sorted(meters, key=meter_order))
    prices, pers, units = [], [], []
    for meter in ordered:
        rule = span.rules.get(meter)
        if rule is None:
            if provider_billed(meter):
                return None
            price, per = 0, 1
        else:
            price, per = rule.price_for(prompt, 0), rule.per
            if rule.windows or rule.quantity_min or price % per:
                return None
        prices.append(price)
        pers.append(per)
        units.append(price // per)
    steps = tuple(zip(ordered, prices, pers, units, strict=True))
    return Bracket(ordered, tuple(prices), tuple(pers), tuple(units), steps)


def line_columns(
    lines: Sequence[CostLine],
) -> tuple[tuple[str, ...], tuple[int, ...], Integers, Integers, Integers, tuple[str | None, ...] | None]:
    """Lines as columns: meters, quantities, price_pico, per, amount_pico, and models where any line names one."""
    if not lines:
        return (), (), (), (), (), None
    models = tuple(line.model for line in lines)
    return (
        tuple(line.meter for line in lines),
        tuple(line.quantity for line in lines),
        tuple(line.price_pico for line in lines),
        tuple(line.per for line in lines),
        tuple(line.amount_pico for line in lines),
        models if any(models) else None,
    )


def without_zeros(meters: Mapping[str, int]) -> dict[str, int]:
    """The meters that count anything; the others have no line."""
    return {meter: quantity for meter, quantity in meters.items() if quantity}
