"""Makes the lines of a cost: what each meter of one request comes to, and why one has no price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from tallystick.core.money import divide_half_even
from tallystick.rates.model import CostLine
from tallystick.rates.names import Resolved
from tallystick.rates.plan import Rule, Span
from tallystick.usage.meters import METERS, PROMPT_METERS, meter_order


def request_lines(
    span: Span, resolved: Resolved, meters: Mapping[str, int], at: datetime
) -> tuple[list[CostLine], str | None]:
    """The lines of one request, and why something in it has no price."""
    quantities = dict(meters)
    if "requests" in span.rules and "requests" not in meters:
        # A fee per request is due once when anything was served; a request that nothing came of has none.
        quantities["requests"] = int(any(quantity and provider_billed(meter) for meter, quantity in meters.items()))
    prompt = sum(quantity for meter, quantity in meters.items() if meter in PROMPT_METERS)
    moment = at.astimezone(UTC)
    minute = moment.hour * 60 + moment.minute
    lines, missing = [], []
    for meter, quantity in shown(quantities):
        rule = span.rules.get(meter)
        if rule is None:
            lines.append(unpriced_line(meter, quantity))
            if provider_billed(meter):
                missing.append(meter)
        else:
            lines.append(_priced(rule, meter, quantity, prompt, minute))
    if not missing:
        return lines, None
    if span.refusal is not None:
        return lines, span.refusal
    name = f"{resolved.provider}/{resolved.model}"
    return lines, f"the rate card has no price for {', '.join(missing)} of {name} at that time"


def _priced(rule: Rule, meter: str, quantity: int, prompt: int, minute: int) -> CostLine:
    billed = max(quantity, rule.quantity_min)
    price = rule.price_for(prompt, minute)
    return CostLine(meter, billed, price, rule.per, divide_half_even(billed * price, rule.per))


def shown(meters: Mapping[str, int]) -> Iterable[tuple[str, int]]:
    return sorted(
        ((meter, quantity) for meter, quantity in meters.items() if quantity), key=lambda one: meter_order(one[0])
    )


def provider_billed(meter: str) -> bool:
    known = METERS.get(meter)
    return known is not None and known.provider_billed


def is_token(meter: str) -> bool:
    known = METERS.get(meter)
    return known is not None and known.unit == "token"


def unpriced_line(meter: str, quantity: int, *, free: bool = False) -> CostLine:
    if free or not provider_billed(meter):
        return CostLine(meter, quantity, 0, 1, 0)
    return CostLine(meter, quantity, None, None, None)


def carried(line: CostLine) -> CostLine:
    return CostLine(line.meter, line.quantity, 0, 1, 0, line.model)


def added(one: CostLine, two: CostLine) -> CostLine:
    amount = None if one.amount_pico is None or two.amount_pico is None else one.amount_pico + two.amount_pico
    return CostLine(one.meter, one.quantity + two.quantity, one.price_pico, one.per, amount, one.model)


def of_model(line: CostLine, model: str | None) -> CostLine:
    if model is None:
        return line
    return CostLine(line.meter, line.quantity, line.price_pico, line.per, line.amount_pico, model)


def unknown_model(provider: str | None, model: str) -> str:
    if provider is None:
        return f"the rate card does not know which model {model!r} is"
    return f"the rate card has no model {model!r} at {provider}"
