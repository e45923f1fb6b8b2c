"""Adjustment lines: what a closed month comes to with what came late, less what it was billed, step by step.

Each line is one step of the arithmetic whose amount changed. Rounding: the lines of a group, that is of one line of the
month, add up to that line as it is now less that line as it was billed, each rounded to the cent as it was. So what a
month was billed in all, on its own invoice and on later ones, is what it comes to when it is priced as a whole. Within
a group each amount is rounded half to even, and the last one is what is left over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from tallystick.core.money import cents_to_usd, format_decimal, format_exact, to_cents
from tallystick.invoice.line_model import AdjustedStep, ChargeKind, InvoiceLine, InvoiceTier, MeterUse
from tallystick.invoice.wording import grouped, tier_arithmetic, tier_label, usd

_KINDS: dict[str, ChargeKind] = {
    "base_fee": "base_fee",
    "usage": "usage",
    "commit_true_up": "commit_true_up",
    "top_up": "top_up",
    "credits_owed": "credits_owed",
}
KIND_TITLES: dict[str, str] = {
    "base_fee": "Base fee",
    "usage": "Usage",
    "commit_true_up": "Minimum commitment, true-up",
    "top_up": "Credits, topped up",
    "credits_owed": "Credits, beyond the wallet",
}
"""What lines of each kind are called on paper."""


class _Step(NamedTuple):
    """A part of a group: the step before and after, and by how much it changes the month, exactly."""

    before: InvoiceTier | None
    after: InvoiceTier | None
    exact_usd: Fraction
    quantity: Fraction


def adjusted_lines(
    adjustment: int, label: str, billed: Sequence[InvoiceLine], now: Sequence[InvoiceLine], first_number: int
) -> tuple[InvoiceLine, ...]:
    """What has changed of a month's lines, line by line in their order.

    A line whose quantity has changed and whose amount has not is a line of 0.00, so that nothing is left unsaid.

    Args:
        adjustment: the number of the invoice's adjustment.
        label: the month, such as "2026-10".
        billed, now: the lines of the month as it was billed, and with what came late.
        first_number: the number of the first line.
    """
    before, after = ({(one.section, one.kind, one.meter): one for one in lines} for lines in (billed, now))
    found: list[InvoiceLine] = []
    for key in [*after, *(key for key in before if key not in after)]:
        found += _group(adjustment, label, before.get(key), after.get(key), first_number + len(found))
    return tuple(found)


def _group(
    adjustment: int, label: str, billed: InvoiceLine | None, now: InvoiceLine | None, number: int
) -> Iterator[InvoiceLine]:
    line = now or billed
    if line is None:
        raise ValueError("a group needs a line on one side")
    steps = _steps(billed, now)
    left = _cents(now) - _cents(billed)
    for place, step in enumerate(steps):
        cents = left if place == len(steps) - 1 else to_cents(step.exact_usd)
        left -= cents
        adjusts = AdjustedStep(
            adjustment=adjustment,
            kind=_KINDS[line.kind],
            billed_quantity=_quantity(billed),
            now_quantity=_quantity(now),
            billed_usd=cents_to_usd(_cents(billed)),
            now_usd=cents_to_usd(_cents(now)),
            before=step.before,
            after=step.after,
        )
        yield InvoiceLine(
            number=number + place,
            section=line.section,
            plan=line.plan,
            kind="adjustment",
            meter=line.meter,
            quantity=format_decimal(step.quantity),
            price=line.price,
            metered=_metered(billed, now),
            tiers=(),
            amount_usd=cents_to_usd(cents),
            exact_usd=format_exact(step.exact_usd),
            residue_usd=format_exact(step.exact_usd - Fraction(cents, 100)),
            description=f"{label}: {_words(line, adjusts)}",
            adjusts=adjusts,
        )


def _steps(billed: InvoiceLine | None, now: InvoiceLine | None) -> list[_Step]:
    before, after = ({tier.tier: tier for tier in line.tiers} if line else {} for line in (billed, now))
    found = []
    for key in sorted(before.keys() | after.keys()):
        was, is_now = before.get(key), after.get(key)
        change = _of(is_now, "amount_usd") - _of(was, "amount_usd")
        if change:
            found.append(_Step(was, is_now, change, _of(is_now, "quantity") - _of(was, "quantity")))
    if found:
        return found
    change = _exact(now) - _exact(billed)
    more = Fraction(_quantity(now)) - Fraction(_quantity(billed))
    if before or after:
        return [_Step(None, None, change, more)] if more else []
    return [_Step(None, None, change, Fraction(1))] if change else []


def _metered(billed: InvoiceLine | None, now: InvoiceLine | None) -> tuple[MeterUse, ...]:
    before = {use.meter: use for use in billed.metered} if billed else {}
    after = {use.meter: use for use in now.metered} if now else {}
    found = []
    for meter in [*after, *(meter for meter in before if meter not in after)]:
        was, is_now = before.get(meter), after.get(meter)
        use = is_now or was
        if use is not None:
            quantity = int(is_now.quantity if is_now else 0) - int(was.quantity if was else 0)
            events = (is_now.events if is_now else 0) - (was.events if was else 0)
            found.append(MeterUse(meter=meter, unit=use.unit, quantity=str(quantity), events=events))
    return tuple(found)


def _words(line: InvoiceLine, adjusts: AdjustedStep) -> str:
    """The line in one sentence."""
    if line.kind != "usage":
        title = KIND_TITLES[adjusts.kind]
        return f"{title}: {usd(adjusts.now_usd)} USD instead of {usd(adjusts.billed_usd)}."
    more = Fraction(adjusts.now_quantity) - Fraction(adjusts.billed_quantity)
    amount = grouped(format_decimal(abs(more)))
    said = f"{amount} {'more' if more > 0 else 'fewer'} {line.meter}, " if more else f"{line.meter}, "
    said += (
        f"{grouped(adjusts.now_quantity)} instead of {grouped(adjusts.billed_quantity)}" if more else "at another cost"
    )
    return f"{said}: {step_words(adjusts)}."


def step_words(adjusts: AdjustedStep) -> str:
    """What became of one step: "7 × 10.00 = 70.00, less 50.00 billed before"."""
    before, after = adjusts.before, adjusts.after
    if after is None:
        if before is None:
            return (
                f"{usd(adjusts.now_usd)} USD, as billed before"
                if adjusts.now_usd == adjusts.billed_usd
                else (f"{usd(adjusts.now_usd)} USD, less {usd(adjusts.billed_usd)} billed before")
            )
        return f"{_labelled(before)}, as billed before, is not due any more"
    if before is None:
        return f"{_labelled(after)} is due now"
    return f"{_labelled(after)}, less {usd(before.amount_usd)} billed before"


def _labelled(tier: InvoiceTier) -> str:
    label = tier_label(tier, 1)
    return f"{label}: {tier_arithmetic(tier)}" if label else tier_arithmetic(tier)


def _of(tier: InvoiceTier | None, name: str) -> Fraction:
    return Fraction(getattr(tier, name)) if tier is not None else Fraction(0)


def _exact(line: InvoiceLine | None) -> Fraction:
    return Fraction(line.exact_usd) if line is not None else Fraction(0)


def _cents(line: InvoiceLine | None) -> int:
    return 0 if line is None else round(Fraction(line.amount_usd) * 100)


def _quantity(line: InvoiceLine | None) -> str:
    return "0" if line is None else line.quantity
