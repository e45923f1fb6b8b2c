"""How an adjustment line came about: what came late, what the whole line comes to now, and this line's step of it."""

from __future__ import annotations

from fractions import Fraction

from tallystick.invoice.model import AdjustedStep, AdjustmentPin, Invoice, InvoiceLine
from tallystick.invoice.wording import added, counted, grouped, listed, tier_sentence, usd


def adjustment_sentences(invoice: Invoice, line: InvoiceLine) -> tuple[str, ...]:
    """What came late, what the whole line comes to now, and this line's step of it."""
    adjusts = line.adjusts
    if adjusts is None:
        raise ValueError(f"line {line.number} is an adjustment of nothing")
    month = invoice.adjustments[adjusts.adjustment - 1]
    pin, label = month.ledger, month.period.label
    sentences = [
        f"{label} was billed on invoice {month.invoice_id} and, with what came later, up to ledger entry "
        f"{pin.billed_through_seq:,}. Since then {counted(pin.entries, 'entry', 'entries')} of {label} arrived, "
        f"{_arrived(pin)}, {counted(pin.events, 'request')} among them.",
    ]
    for use in line.metered:
        if use.quantity != "0":
            more = f"{grouped(use.quantity.lstrip('-'))} {'fewer' if use.quantity.startswith('-') else 'more'}"
            requests = f" in {counted(use.events, 'request')}" if use.events else ""
            sentences.append(f"There are {more} {use.meter}{requests}.")
    if adjusts.kind == "usage":
        plan = invoice.section_of(line)
        sentences.append(
            f"The whole month is priced again by plan {line.plan} of contract {plan.contract}, version {plan.version}: "
            f"{grouped(adjusts.now_quantity)} instead of {grouped(adjusts.billed_quantity)}."
        )
    if adjusts.before is not None:
        sentences.append(f"Billed before: {tier_sentence(adjusts.before, 1)}")
    if adjusts.after is not None:
        sentences.append(f"Now: {tier_sentence(adjusts.after, 1)}")
    if adjusts.before is None and adjusts.after is None and line.amount_usd == "0.00":
        sentences.append(f"The amount stays what it was: {usd(adjusts.now_usd)} USD.")
    return tuple(sentences)


def _arrived(pin: AdjustmentPin) -> str:
    if pin.first_arrived == pin.last_arrived:
        return f"at {pin.first_arrived}"
    return f"from {pin.first_arrived} to {pin.last_arrived}"


def adjusted_rounding(invoice: Invoice, line: InvoiceLine, adjusts: AdjustedStep) -> str:
    """How the lines of the group add up to the change of the whole line."""
    group = [one for one in invoice.lines if one.adjusts is not None and _group(one) == _group(line)]
    lines = "this line is" if len(group) == 1 else f"lines {listed([str(one.number) for one in group])} add up to"
    exact = (
        ""
        if Fraction(line.residue_usd) == 0
        else (f" Exactly this line is {usd(line.exact_usd)} USD; {usd(line.residue_usd)} USD is kept as its residue.")
    )
    return (
        f"All of it comes to {usd(adjusts.now_usd)} USD now, and {usd(adjusts.billed_usd)} USD was billed: {lines} the "
        f"difference, {usd(added([one.amount_usd for one in group]))} USD.{exact}"
    )


def _group(line: InvoiceLine) -> tuple[object, ...]:
    adjusts = line.adjusts
    return (adjusts and adjusts.adjustment, line.section, adjusts and adjusts.kind, line.meter)
