"""Closed months that facts came late for: each priced anew as a whole, less what it was billed before.

A month is priced by the terms that its own invoice pins, first with the facts up to where it was billed last, then with
those up to where it is billed now. Their difference stands on the invoice that is being built. So the sum of what a
month was billed telescopes: in all it is what the month comes to, whatever came when.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tallystick.invoice.adjusted_lines import adjusted_lines
from tallystick.invoice.charge_lines import Sorted, totals_of
from tallystick.invoice.cost_parts import customer_paid, internal_adjustment
from tallystick.invoice.credit_lines import wallet_section
from tallystick.invoice.model import Adjustment, AdjustmentPin, InternalAdjustment, InvoiceLine, RateUse
from tallystick.invoice.section_parts import invoice_period, invoice_sections
from tallystick.invoice.terms import Terms
from tallystick.invoice.usage import MonthCount, PeriodSums


@dataclass(frozen=True)
class LateMonth:
    """A closed month of which entries came after it was billed last.

    Attributes:
        invoice_id: its own invoice.
        terms: the terms that this invoice pins.
        billed, now: its facts up to where it was billed last, and up to where it is billed now.
        ledger: which entries came between.
    """

    invoice_id: str
    terms: Terms
    billed: MonthCount
    now: MonthCount
    ledger: AdjustmentPin


class Adjusted(NamedTuple):
    """What an invoice says of closed months: its adjustments, their lines, and what is ours to know."""

    adjustments: tuple[Adjustment, ...]
    lines: tuple[InvoiceLine, ...]
    internal: tuple[InternalAdjustment, ...]


def adjust_months(months: Iterable[LateMonth], first_number: int) -> Adjusted:
    """The adjustments of these months, the oldest first, and their lines, numbered from `first_number`.

    Raises:
        BadInput: `cost_unknown`, `credits_without_price`, as in `build_invoice`.
    """
    adjustments: list[Adjustment] = []
    lines: list[InvoiceLine] = []
    internal: list[InternalAdjustment] = []
    for number, month in enumerate(sorted(months, key=lambda one: one.terms.period.start), start=1):
        terms = month.terms
        late = [now.less(was) for now, was in zip(month.now.sums, month.billed.sums, strict=True)]
        billed, now = (Sorted(terms, one.sums).lines(one.wallet) for one in (month.billed, month.now))
        own = adjusted_lines(number, terms.period.label, billed, now, first_number + len(lines))
        total = _total(late)
        adjustments.append(
            Adjustment(
                number=number,
                invoice_id=month.invoice_id,
                period=invoice_period(terms),
                sections=invoice_sections(terms),
                subscriptions_known=terms.subscriptions_known,
                rates=tuple(RateUse(rate_version=name, events=count) for name, count in sorted(total.rates.items())),
                ledger=month.ledger,
                not_charged=Sorted(terms, late).not_charged(),
                customer_paid=customer_paid(total),
                wallet=wallet_section(month.now.wallet) if _moved(month) else None,
                totals=totals_of(own),
            )
        )
        lines += own
        internal.append(internal_adjustment(number, total))
    return Adjusted(tuple(adjustments), tuple(lines), tuple(internal))


def _total(late: Sequence[PeriodSums]) -> PeriodSums:
    total = PeriodSums()
    for one in late:
        total.add(one)
    return total


def _moved(month: LateMonth) -> bool:
    return month.now.wallet.operations != month.billed.wallet.operations
