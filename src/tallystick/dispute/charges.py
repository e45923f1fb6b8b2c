"""What requests were charged: by how much their month would have been less without them. Pure.

Prices have tiers, allowances and commitments, so that no request has a price of its own: what it was charged is what
the month came to, less what it comes to without it, both to the cent as an invoice has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from tallystick.core.money import format_exact
from tallystick.invoice.charge_lines import Sorted, totals_of
from tallystick.invoice.entry_count import EntryCount
from tallystick.invoice.terms import Terms
from tallystick.invoice.usage import MonthCount
from tallystick.ledger.entry import Entry


class MonthCharge(NamedTuple):
    """What requests of one month were charged.

    Attributes:
        total_usd, without_usd: what the month comes to with them and without, to the cent, as decimal strings of USD.
        cents: the difference; below nothing where the month is cheaper with them, as by a volume price.
        exact_usd: the difference before anything is rounded.
    """

    total_usd: str
    without_usd: str
    cents: int
    exact_usd: str


def charge_of(terms: Terms, count: MonthCount, requests: Iterable[Entry], through_seq: int) -> MonthCharge:
    """What these requests were charged in their month.

    Args:
        terms: the month's plans.
        count: what the whole month comes to, up to `through_seq`.
        requests: their entries, and those that correct or adjust them, in the order of the sequence.

    Raises:
        BadInput: `cost_unknown`, `credits_without_price`, as of an invoice.
    """
    part = EntryCount(terms.period, through_seq, terms)
    for entry in requests:
        part.add(entry)
    without = tuple(all_.less(some) for all_, some in zip(count.sums, part.count().sums, strict=True))
    now = totals_of(Sorted(terms, count.sums).lines(count.wallet))
    then = totals_of(Sorted(terms, without).lines(count.wallet))
    return MonthCharge(
        total_usd=now.total_usd,
        without_usd=then.total_usd,
        cents=round((Fraction(now.total_usd) - Fraction(then.total_usd)) * 100),
        exact_usd=format_exact(_exact(now.exact_total_usd) - _exact(then.exact_total_usd)),
    )


def _exact(text: str) -> Fraction:
    return Fraction(text)
